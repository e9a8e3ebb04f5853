// Pieces of text already met, with their ids; it begins anew when it is full. Belongs to one call at a time.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

class PieceCache {
  public:
    static constexpr uint32_t LONGEST = 64;  // bytes of a piece that is remembered

    struct Known {
        uint64_t hash;
        uint32_t word, size, ids, count;
    };

    PieceCache() : table_(SLOTS, {0, 0, 0, 0, 0}) {}

    // The entry of a piece; `size` 0 where it is not known, and then the place to remember it.
    Known& look(const uint8_t* word, uint32_t size, uint64_t hash) {
        uint64_t slot = hash & (SLOTS - 1);
        while (table_[slot].size && !(table_[slot].hash == hash && table_[slot].size == size && !std::memcmp(&words_[table_[slot].word], word, size)))
            slot = (slot + 1) & (SLOTS - 1);
        return table_[slot];
    }
    const uint32_t* ids(const Known& one) const { return &ids_[one.ids]; }
    void remember(Known& one, const uint8_t* word, uint32_t size, uint64_t hash, const uint32_t* ids, uint32_t count) {
        if (++used_ > SLOTS / 2) return forget();
        one = {hash, uint32_t(words_.size()), size, uint32_t(ids_.size()), count};
        words_.insert(words_.end(), word, word + size);
        ids_.insert(ids_.end(), ids, ids + count);
    }

  private:
    static constexpr uint64_t SLOTS = 1 << 17;
    void forget() {
        used_ = 0;
        words_.clear(), ids_.clear();
        std::fill(table_.begin(), table_.end(), Known{0, 0, 0, 0, 0});
    }
    std::vector<Known> table_;
    std::vector<uint8_t> words_;
    std::vector<uint32_t> ids_;
    uint64_t used_ = 0;
};
