// Pairs of neighbours that may be joined soon: how often each occurs, and where.
//
// Counts of existing pairs only ever fall, since a merge makes pairs with the new symbol alone. So it is enough to know the pairs from
// some count upwards: `bound` is the first that was left out, and whatever stands before it is here. Among equal counts the
// pair with the smaller symbols comes first, as in `tokenizers`.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <vector>

struct Ranked {
    int64_t count;
    uint64_t pair;  // left symbol in the upper half

    bool before(const Ranked& other) const { return count != other.count ? count > other.count : pair < other.pair; }
    bool operator<(const Ranked& other) const { return other.before(*this); }
};

inline uint64_t mix(uint64_t pair) {
    pair *= 0x9E3779B97F4A7C15ull;
    return pair ^ pair >> 32;
}

class HotPairs {
  public:
    struct Pair {
        uint64_t pair;
        int64_t count;
        uint64_t begin, size;  // its places in `places`
    };
    Ranked bound{0, 0};
    std::vector<Pair> pairs;
    std::vector<Ranked> queue;  // a heap; counts in it may be out of date, too high

    ~HotPairs() { release(); }

    // Forgets everything; room for that many places.
    bool reset(uint64_t places) {
        release();
        std::vector<Pair>().swap(pairs);
        std::vector<Ranked>().swap(queue);
        std::vector<uint32_t>(1 << 10, 0).swap(index_);
        room_ = places, used_ = 0;
        void* block = mmap(nullptr, room_ * 4 + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        places_ = block == MAP_FAILED ? nullptr : static_cast<uint32_t*>(block);
        return places_ != nullptr;
    }
    void release() {
        if (places_) munmap(places_, room_ * 4 + 4096);
        places_ = nullptr;
    }

    uint64_t free_places() const { return room_ - used_; }
    uint32_t* places(const Pair& one) { return places_ + one.begin; }
    uint32_t* all_places() { return places_; }

    Pair& add(uint64_t pair, int64_t count, uint64_t size) {
        if ((pairs.size() + 1) * 2 > index_.size()) grow();
        uint64_t slot = mix(pair) & (index_.size() - 1);
        while (index_[slot]) slot = (slot + 1) & (index_.size() - 1);
        pairs.push_back({pair, count, used_, size});
        index_[slot] = uint32_t(pairs.size());
        used_ += size;
        queue.push_back({count, pair});
        return pairs.back();
    }
    Pair* find(uint64_t pair) {
        for (uint64_t slot = mix(pair) & (index_.size() - 1); index_[slot]; slot = (slot + 1) & (index_.size() - 1))
            if (pairs[index_[slot] - 1].pair == pair) return &pairs[index_[slot] - 1];
        return nullptr;
    }
    void prefetch(uint64_t pair) const { __builtin_prefetch(&index_[mix(pair) & (index_.size() - 1)]); }

    // The pair to be joined next, or null when the next one was left out (or there is none).
    Pair* best() {
        while (!queue.empty()) {
            const Ranked top = queue.front();
            std::pop_heap(queue.begin(), queue.end());
            queue.pop_back();
            Pair* found = find(top.pair);
            if (found->count == top.count) return found;
            if (Ranked{found->count, top.pair}.before(bound) && found->count > 0) {
                queue.push_back({found->count, top.pair});
                std::push_heap(queue.begin(), queue.end());
            }
        }
        return nullptr;
    }
    void push_back_last(const Pair& one) {  // what best() gave, put back
        queue.push_back({one.count, one.pair});
        std::push_heap(queue.begin(), queue.end());
    }
    void queue_new() { std::push_heap(queue.begin(), queue.end()); }

  private:
    void grow() {
        const uint64_t mask = index_.size() * 2 - 1;
        std::vector<uint32_t>(mask + 1, 0).swap(index_);
        for (uint32_t number = 0; number < pairs.size(); ++number) {
            uint64_t slot = mix(pairs[number].pair) & mask;
            while (index_[slot]) slot = (slot + 1) & mask;
            index_[slot] = number + 1;
        }
    }

    uint32_t* places_ = nullptr;
    uint64_t room_ = 0, used_ = 0;
    std::vector<uint32_t> index_ = std::vector<uint32_t>(1 << 10, 0);
};
