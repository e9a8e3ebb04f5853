// Counting the pieces of texts in a table of fixed size, and writing it out as a sorted run when it is full.
//
// One block of memory holds both the words (from its start) and their entries (from its end); it is taken from the system untouched, so
// that only what is used counts. A table belongs to one thread at a time.
#include <sys/mman.h>

#include <algorithm>

#include "runs.h"
#include "splitting.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Entry {
    uint64_t hash;
    uint32_t place, size, count;  // place in units of the block's bytes
};

class WordTable {
  public:
    WordTable(Pattern pattern, uint64_t budget) : splitter_(pattern) {
        block_size_ = std::min<uint64_t>(budget, uint64_t(1) << 32) / sizeof(Entry) * sizeof(Entry);
        block_ = (uint8_t*)mmap(nullptr, block_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block_ == MAP_FAILED) block_ = nullptr;
        index_.assign(1 << 12, 0);
    }
    ~WordTable() {
        if (block_) munmap(block_, block_size_);
    }
    bool ready() const { return block_ != nullptr; }
    uint64_t words() const { return entries_; }

    // Counts from byte `from` of the joined texts; returns the byte where it stopped: the end, or earlier when the table is full.
    int64_t count(const uint8_t* text, const int64_t* ends, int64_t texts, int64_t from) {
        for (int64_t number = std::upper_bound(ends, ends + texts, from) - ends; number < texts; ++number) {
            const uint8_t* end = text + ends[number];
            for (const uint8_t* at = text + from; at < end;) {
                const uint8_t* stop = splitter_.cut(at, end);
                if (!add(at, stop - at)) return at - text;
                at = stop;
            }
            from = ends[number];
        }
        return from;
    }

    // Writes and forgets everything; 0 or an error number.
    int spill(const char* path) {
        RunWriter writer(path);
        Entry* first = entry(entries_ - 1);  // entries grow downwards
        if (entries_) {
            std::sort(first, first + entries_, [this](const Entry& one, const Entry& other) {
                if (one.hash != other.hash) return one.hash < other.hash;
                const int order = std::memcmp(block_ + one.place, block_ + other.place, std::min(one.size, other.size));
                return order ? order < 0 : one.size < other.size;
            });
            for (Entry* one = first; one < first + entries_; ++one) writer.write(block_ + one->place, one->size, one->count);
        }
        entries_ = used_ = 0;
        std::vector<uint32_t>(1 << 12, 0).swap(index_);
        return writer.close();
    }

  private:
    Entry* entry(uint64_t number) { return (Entry*)(block_ + block_size_) - 1 - number; }

    bool add(const uint8_t* word, uint64_t size) {
        const uint64_t hash = hash_word(word, size);
        const uint64_t mask = index_.size() - 1;
        for (uint64_t slot = hash >> 20 & mask;; slot = (slot + 1) & mask) {
            if (!index_[slot]) {
                const uint64_t index_bytes = index_.size() * sizeof(uint32_t) * 3 / 2;  // half of it more while it grows
                if (used_ + size + (entries_ + 1) * sizeof(Entry) + index_bytes > block_size_) return false;
                std::memcpy(block_ + used_, word, size);
                *entry(entries_) = {hash, uint32_t(used_), uint32_t(size), 1};
                used_ += size;
                index_[slot] = uint32_t(++entries_);
                if (entries_ * 2 > index_.size()) grow();
                return true;
            }
            Entry* found = entry(index_[slot] - 1);
            if (found->hash == hash && found->size == size && !std::memcmp(block_ + found->place, word, size)) {
                if (found->count == UINT32_MAX) return false;  // the next run goes on counting it
                ++found->count;
                return true;
            }
        }
    }

    void grow() {
        const uint64_t mask = index_.size() * 2 - 1;
        std::vector<uint32_t>(mask + 1, 0).swap(index_);
        for (uint64_t number = 0; number < entries_; ++number) {
            uint64_t slot = entry(number)->hash >> 20 & mask;
            while (index_[slot]) slot = (slot + 1) & mask;
            index_[slot] = uint32_t(number + 1);
        }
    }

    Splitter splitter_;
    uint8_t* block_ = nullptr;
    uint64_t block_size_ = 0, used_ = 0, entries_ = 0;
    std::vector<uint32_t> index_;  // number of the entry, and one; 0 where there is none
};

}  // namespace

EXPORT void* text_table_new(int pattern, long budget) {
    auto* table = new WordTable(Pattern(pattern), uint64_t(budget));
    if (table->ready()) return table;
    delete table;
    return nullptr;
}
EXPORT void text_table_free(WordTable* table) { delete table; }
EXPORT long text_table_words(WordTable* table) { return long(table->words()); }
EXPORT long text_table_count(WordTable* table, const uint8_t* text, const int64_t* ends, long texts, long from) {
    return table->count(text, ends, texts, from);
}
EXPORT int text_table_spill(WordTable* table, const char* path) { return table->spill(path); }
