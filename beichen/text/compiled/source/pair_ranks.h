// Byte-pair encoding of one word: which pair of neighbours is joined first, and into what.
#pragma once
#include <cstdint>
#include <queue>
#include <vector>

class PairRanks {
  public:
    struct Merge {
        uint64_t pair;
        uint32_t rank, result;
    };
    static constexpr uint32_t NONE = UINT32_MAX;

    explicit PairRanks(size_t merges) {
        size_t size = 16;
        while (size < merges * 3) size *= 2;
        slots_.assign(size, {EMPTY, NONE, NONE});
    }
    // A pair named twice keeps its later rank, as in `tokenizers`.
    void add(uint32_t left, uint32_t right, uint32_t rank, uint32_t result) {
        const uint64_t pair = uint64_t(left) << 32 | right;
        size_t slot = place(pair);
        while (slots_[slot].pair != EMPTY && slots_[slot].pair != pair) slot = (slot + 1) & (slots_.size() - 1);
        slots_[slot] = {pair, rank, result};
    }
    // Never null; rank NONE where the pair is not joined.
    const Merge& find(uint32_t left, uint32_t right) const {
        const uint64_t pair = uint64_t(left) << 32 | right;
        size_t slot = place(pair);
        while (slots_[slot].pair != EMPTY && slots_[slot].pair != pair) slot = (slot + 1) & (slots_.size() - 1);
        return slots_[slot];
    }

    // Joins in place, lowest rank first, leftmost first; returns how many symbols are left.
    size_t merge(uint32_t* symbols, size_t size) const {
        return size <= 48 ? merge_short(symbols, size) : merge_long(symbols, size);
    }

  private:
    static constexpr uint64_t EMPTY = UINT64_MAX;
    size_t place(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15ull >> 24) & (slots_.size() - 1); }

    size_t merge_short(uint32_t* symbols, size_t size) const {
        uint32_t ranks[48], results[48];
        const auto look = [&](size_t at) {
            const Merge& found = find(symbols[at], symbols[at + 1]);
            ranks[at] = found.rank, results[at] = found.result;
        };
        for (size_t at = 0; at + 1 < size; ++at) look(at);
        while (size > 1) {
            size_t best = 0;
            for (size_t at = 1; at + 1 < size; ++at)
                if (ranks[at] < ranks[best]) best = at;
            if (ranks[best] == NONE) break;
            symbols[best] = results[best];
            --size;
            for (size_t at = best + 1; at < size; ++at) symbols[at] = symbols[at + 1], ranks[at] = ranks[at + 1], results[at] = results[at + 1];
            if (best + 1 < size) look(best);
            if (best) look(best - 1);
        }
        return size;
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
            const Merge& found = find(symbols[at], symbols[next[at]]);
            if (found.rank != NONE) take(Candidate{found.rank, uint32_t(at), found.pair});
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
            symbols[at] = find(symbols[at], symbols[second]).result;
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

    std::vector<Merge> slots_;
};
