// All distinct words as symbols, in one array: 2 or 4 bytes a symbol and nothing else a word, for the words stand sorted by how often
// they occur, so that a place in the array tells the count. A symbol that covers several slots stands in the first; the others
// are holes, and the last hole says how many slots to go back.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <vector>

template <class Slot>
class WordStore {
  public:
    static constexpr Slot HOLE = Slot(1) << (sizeof(Slot) * 8 - 1);
    static constexpr Slot WORD_END = HOLE - 1;
    static constexpr uint32_t LONGEST_SPAN = WORD_END - 1;

    struct Class {
        uint64_t begin, end;
        int64_t count;
    };
    std::vector<Class> classes;  // counts falling

    WordStore() = default;
    WordStore(const WordStore&) = delete;
    ~WordStore() {
        if (slots_) munmap(slots_, room_ * sizeof(Slot));
    }

    // Room for every word; the system gives memory only where it is written.
    bool reserve(uint64_t slots) {
        room_ = slots + 1;
        void* block = mmap(nullptr, room_ * sizeof(Slot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block == MAP_FAILED) return false;
        slots_ = static_cast<Slot*>(block);
        slots_[0] = WORD_END;
        return true;
    }
    void append(Class& one, const uint32_t* symbols, size_t size) {
        for (size_t at = 0; at < size; ++at) slots_[one.end++] = Slot(symbols[at]);
        slots_[one.end++] = WORD_END;
    }

    // Closes all gaps and drops words of one symbol, which have no pairs; memory behind goes back to the system.
    void compact(std::vector<uint32_t>& spans) {
        uint64_t out = 1;
        for (Class& one : classes) {
            const uint64_t begin = out;
            for (uint64_t in = one.begin; in < one.end;) {
                const uint64_t word = out;
                for (; slots_[in] != WORD_END; in += spans[slots_[out - 1]]) slots_[out++] = slots_[in];
                ++in;
                if (out - word <= 1) out = word;
                else slots_[out++] = WORD_END;
            }
            one.begin = begin, one.end = out;
        }
        std::fill(spans.begin(), spans.end(), 1);
        const uint64_t page = 4096, keep = (out * sizeof(Slot) + page - 1) / page * page;
        if (keep < room_ * sizeof(Slot)) madvise(reinterpret_cast<char*>(slots_) + keep, room_ * sizeof(Slot) - keep, MADV_DONTNEED);
        size_ = out;
        block_class_.assign((out >> BLOCK) + 2, 0);
        size_t number = 0;
        for (uint64_t block = 0; block < block_class_.size(); ++block) {
            while (number + 1 < classes.size() && classes[number + 1].begin <= block << BLOCK) ++number;
            block_class_[block] = uint32_t(number);
        }
    }

    // How often the word at a place occurs.
    int64_t count_at(uint64_t place) const {
        const uint32_t first = block_class_[place >> BLOCK], last = block_class_[(place >> BLOCK) + 1];
        if (first == last || classes[first + 1].begin > place) return classes[first].count;
        const auto found = std::upper_bound(classes.begin() + first + 1, classes.begin() + last + 1, place,
                                            [](uint64_t at, const Class& one) { return at < one.begin; });
        return (found - 1)->count;
    }

    Slot* slots() const { return slots_; }
    uint64_t size() const { return size_; }
    uint64_t bytes() const { return size_ * sizeof(Slot); }

  private:
    static constexpr int BLOCK = 10;
    Slot* slots_ = nullptr;
    uint64_t room_ = 0, size_ = 1;
    std::vector<uint32_t> block_class_;
};
