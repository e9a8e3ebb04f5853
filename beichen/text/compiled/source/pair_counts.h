// How often every pair of neighbours occurs, over the whole store; counted in parts by hash, so that memory stays within bounds and
// several threads need not speak to each other.
#pragma once
#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "hot_pairs.h"
#include "word_store.h"

struct PairCount {
    uint64_t pair;
    int64_t count;
    uint64_t places;

    Ranked rank() const { return {count, pair}; }
};

// Calls `visit(pair, place, count)` for every pair whose hash falls into the part; `ahead(pair)` some steps before.
template <class Slot, class Ahead, class Visit>
void scan_pairs(const WordStore<Slot>& words, uint64_t part, uint64_t parts, Ahead ahead, Visit visit) {
    constexpr unsigned DEPTH = 16;
    struct Seen {
        uint64_t pair, place;
        int64_t count;
    } ring[DEPTH];
    unsigned seen = 0;
    const Slot* slots = words.slots();
    for (const auto& one : words.classes) {
        uint64_t left = WordStore<Slot>::WORD_END;
        for (uint64_t place = one.begin; place < one.end; ++place) {
            const uint64_t right = slots[place];
            if (left != WordStore<Slot>::WORD_END && right != WordStore<Slot>::WORD_END) {
                const uint64_t pair = left << 32 | right;
                if (parts == 1 || (mix(pair) >> 40) % parts == part) {
                    Seen& turn = ring[seen % DEPTH];
                    if (seen >= DEPTH) visit(turn.pair, turn.place, turn.count);
                    turn = {pair, place - 1, one.count};
                    ahead(pair);
                    ++seen;
                }
            }
            left = right;
        }
    }
    for (unsigned turn = seen >= DEPTH ? seen - DEPTH : 0; turn < seen; ++turn) visit(ring[turn % DEPTH].pair, ring[turn % DEPTH].place, ring[turn % DEPTH].count);
}

class PairTable {
  public:
    explicit PairTable(uint64_t most) : most_(most), slots_(1 << 12, {EMPTY, 0, 0}) {}

    void prefetch(uint64_t pair) const { __builtin_prefetch(&slots_[mix(pair) & (slots_.size() - 1)]); }
    void add(uint64_t pair, int64_t count) {
        if (full) return;
        uint64_t slot = mix(pair) & (slots_.size() - 1);
        while (slots_[slot].pair != pair && slots_[slot].pair != EMPTY) slot = (slot + 1) & (slots_.size() - 1);
        if (slots_[slot].pair == EMPTY) {
            slots_[slot].pair = pair;
            ++used_;
        }
        slots_[slot].count += count, slots_[slot].places += 1;
        if (used_ * 2 > slots_.size()) grow();
    }
    template <class Visit>
    void each(Visit visit) const {
        for (const PairCount& one : slots_)
            if (one.pair != EMPTY) visit(one);
    }
    bool full = false;

  private:
    static constexpr uint64_t EMPTY = UINT64_MAX;
    void grow() {
        if (slots_.size() * 3 > most_) {  // the new table stands beside the old one for a moment
            full = true;
            return;
        }
        std::vector<PairCount> larger(slots_.size() * 2, {EMPTY, 0, 0});
        for (const PairCount& one : slots_) {
            if (one.pair == EMPTY) continue;
            uint64_t slot = mix(one.pair) & (larger.size() - 1);
            while (larger[slot].pair != EMPTY) slot = (slot + 1) & (larger.size() - 1);
            larger[slot] = one;
        }
        slots_.swap(larger);
    }
    uint64_t most_, used_ = 0;
    std::vector<PairCount> slots_;
};

// The first pairs by rank whose places fit into `room` and which are at most `most`, rank falling; `bound` is the first left out.
class Selection {
  public:
    Selection(uint64_t room, uint64_t most) : room_(room), most_(most) {}
    void take(const PairCount& one) {
        if (!one.rank().before(bound)) return;
        chosen.push_back(one);
        if (chosen.size() >= 2 * most_ + 1024) trim();
    }
    void trim() {
        std::sort(chosen.begin(), chosen.end(), [](const PairCount& one, const PairCount& other) { return one.rank().before(other.rank()); });
        uint64_t places = 0;
        for (size_t number = 0; number < chosen.size(); ++number) {
            places += chosen[number].places;
            if (number && (places > room_ || number >= most_)) return cut(number);
        }
    }
    void keep_above(int64_t count) {
        for (size_t number = 1; number < chosen.size(); ++number)
            if (chosen[number].count < count) return cut(number);
    }
    std::vector<PairCount> chosen;
    Ranked bound{0, 0};

  private:
    void cut(size_t number) {
        bound = chosen[number].rank();
        chosen.resize(number);
    }
    uint64_t room_, most_;
};
