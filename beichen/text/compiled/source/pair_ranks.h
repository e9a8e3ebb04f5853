// Byte-pair encoding of one word: which pair of neighbours is joined first, and into what.
#pragma once
#include <cstdint>
#include <queue>
#include <vector>

class PairRanks {
  public:
    static constexpr uint32_t NONE = UINT32_MAX;

    explicit PairRanks(size_t pairs) {
        size_t size = 16;
        while (size < pairs * 3) size *= 2;
        slots_.assign(size, {EMPTY, NONE});
        maybe_.assign(size * 8 / 64 + 1, 0);
        results_.reserve(pairs);
    }
    // The next rank, at which pairs become this symbol.
    uint32_t next(uint32_t result) {
        results_.push_back(result);
        return uint32_t(results_.size() - 1);
    }
    // The next rank belongs to this pair alone.
    void add(uint32_t left, uint32_t right, uint32_t result) { set(left, right, next(result)); }
    // Pairs may share a rank; one named twice keeps its later rank, as in `tokenizers`.
    void set(uint32_t left, uint32_t right, uint32_t rank) {
        const uint64_t pair = uint64_t(left) << 32 | right, hash = mixed(pair);
        size_t slot = hash & (slots_.size() - 1);
        while (slots_[slot].pair != EMPTY && slots_[slot].pair != pair) slot = (slot + 1) & (slots_.size() - 1);
        slots_[slot] = {pair, rank};
        maybe_[bit(hash) >> 6] |= uint64_t(1) << (bit(hash) & 63);
    }
    // NONE where the pair is not joined, which most pairs are not: one bit, near at hand, says so for most of them.
    uint32_t rank(uint32_t left, uint32_t right) const {
        const uint64_t pair = uint64_t(left) << 32 | right, hash = mixed(pair);
        if (!(maybe_[bit(hash) >> 6] >> (bit(hash) & 63) & 1)) return NONE;
        size_t slot = hash & (slots_.size() - 1);
        while (slots_[slot].pair != EMPTY && slots_[slot].pair != pair) slot = (slot + 1) & (slots_.size() - 1);
        return slots_[slot].rank;
    }

    // Joins in place, lowest rank first, leftmost first; returns how many symbols are left.
    size_t merge(uint32_t* symbols, size_t size) const {
        return size <= SHORT ? merge_short(symbols, size) : merge_long(symbols, size);
    }

  private:
    static constexpr uint64_t EMPTY = UINT64_MAX;
    static constexpr size_t SHORT = 64, STEP = 16;
    struct Slot {
        uint64_t pair;
        uint32_t rank;
    };
    static uint64_t mixed(uint64_t pair) {
        pair *= 0x9E3779B97F4A7C15ull;
        return pair ^ pair >> 29;
    }
    size_t bit(uint64_t hash) const { return (hash >> 8) & (slots_.size() * 8 - 1); }

    // Symbols stay where they are and are chained; the smallest rank is found by looking at all of them, several at a time.
    size_t merge_short(uint32_t* symbols, size_t size) const {
        uint32_t ranks[SHORT];
        uint8_t next[SHORT + 1], before[SHORT + 1];
        const size_t padded = (size + STEP - 1) / STEP * STEP;
        for (size_t at = 0; at < size; ++at) {
            ranks[at] = at + 1 < size ? rank(symbols[at], symbols[at + 1]) : NONE;
            next[at] = uint8_t(at + 1), before[at] = uint8_t(at - 1);
        }
        for (size_t at = size; at < padded; ++at) ranks[at] = NONE;
        for (;;) {
            uint32_t best = NONE;
            for (size_t block = 0; block < padded; block += STEP)
                for (size_t at = 0; at < STEP; ++at) best = ranks[block + at] < best ? ranks[block + at] : best;
            if (best == NONE) break;
            size_t at = 0;
            while (ranks[at] != best) ++at;
            const size_t second = next[at], third = next[second];
            symbols[at] = results_[best];
            next[at] = uint8_t(third);
            ranks[second] = NONE;
            ranks[at] = third < size ? rank(symbols[at], symbols[third]) : NONE;
            if (third < size) before[third] = uint8_t(at);
            if (at) ranks[before[at]] = rank(symbols[before[at]], symbols[at]);
        }
        size_t left = 0;
        for (size_t at = 0; at < size; at = next[at]) symbols[left++] = symbols[at];
        return left;
    }

    // With a queue, for words so long that looking through them for every merge would be quadratic.
    size_t merge_long(uint32_t* symbols, size_t size) const {
        struct Candidate {
            uint32_t rank, at;
            uint64_t pair;
            bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
        };
        std::vector<uint32_t> next(size), before(size);
        std::vector<Candidate> start;
        for (size_t at = 0; at < size; ++at) next[at] = uint32_t(at + 1), before[at] = uint32_t(at) - 1;
        const auto candidate = [&](size_t at, auto&& take) {
            if (next[at] >= size) return;
            const uint32_t found = rank(symbols[at], symbols[next[at]]);
            if (found != NONE) take(Candidate{found, uint32_t(at), uint64_t(symbols[at]) << 32 | symbols[next[at]]});
        };
        for (size_t at = 0; at < size; ++at) candidate(at, [&](Candidate one) { start.push_back(one); });
        std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(start));
        while (!queue.empty()) {
            const Candidate best = queue.top();
            queue.pop();
            const size_t at = best.at;
            if (symbols[at] == NONE || next[at] >= size) continue;
            const size_t second = next[at];
            if ((uint64_t(symbols[at]) << 32 | symbols[second]) != best.pair) continue;
            symbols[at] = results_[best.rank];
            symbols[second] = NONE;
            next[at] = next[second];
            if (next[at] < size) before[next[at]] = uint32_t(at);
            candidate(at, [&](Candidate one) { queue.push(one); });
            if (at) candidate(before[at], [&](Candidate one) { queue.push(one); });
        }
        size_t left = 0;
        for (size_t at = 0; at < size; at = next[at]) symbols[left++] = symbols[at];
        return left;
    }

    std::vector<Slot> slots_;
    std::vector<uint64_t> maybe_;  // a bit for every pair that may be there
    std::vector<uint32_t> results_;  // by rank
};
