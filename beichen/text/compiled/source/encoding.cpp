// Text to ids: cutting, byte-pair encoding of each piece, and a cache of pieces already met. Ids equal those of `tokenizers`.
//
// A vocabulary is shared by all threads and never changes; a cache belongs to one call at a time.
#include <memory>
#include <string>
#include <unordered_map>

#include "hashing.h"
#include "pair_ranks.h"
#include "piece_cache.h"
#include "splitting.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Vocabulary {
    Splitter splitter;
    PairRanks ranks;
    uint32_t byte_ids[256];
    std::unordered_map<std::string, uint32_t> whole;  // pieces that are taken as they are, before any merge
};

}  // namespace

// `merges`: left, right, result of each, best first. `whole`: joined bytes of pieces taken as they are, with their ends and ids.
EXPORT Vocabulary* text_vocabulary_new(int pattern, const uint32_t* byte_ids, const uint32_t* merges, long number, const uint8_t* whole,
                                       const int64_t* whole_ends, const uint32_t* whole_ids, long whole_number) {
    auto* made = new Vocabulary{Splitter(Pattern(pattern)), PairRanks(number), {}, {}};
    std::memcpy(made->byte_ids, byte_ids, sizeof made->byte_ids);
    for (long rank = 0; rank < number; ++rank) made->ranks.add(merges[3 * rank], merges[3 * rank + 1], merges[3 * rank + 2]);
    int64_t begin = 0;
    for (long piece = 0; piece < whole_number; begin = whole_ends[piece++])
        made->whole.emplace(std::string((const char*)whole + begin, whole_ends[piece] - begin), whole_ids[piece]);
    return made;
}
EXPORT void text_vocabulary_free(Vocabulary* vocabulary) { delete vocabulary; }
EXPORT PieceCache* text_cache_new() { return new PieceCache; }
EXPORT void text_cache_free(PieceCache* cache) { delete cache; }

// Ids of all texts one after the other into `ids`, which has room for one id a byte; `id_ends` gets where each text's ids end.
// The unnamed number is what other vocabularies put before a text.
EXPORT long text_encode(const Vocabulary* vocabulary, PieceCache* cache, const uint8_t* text, const int64_t* ends, long texts, int,
                        uint32_t* ids, int64_t* id_ends) {
    uint32_t* out = ids;
    const uint8_t* at = text;
    for (long number = 0; number < texts; ++number) {
        const uint8_t* end = text + ends[number];
        while (at < end) {
            const uint8_t* stop = vocabulary->splitter.cut(at, end);
            const size_t size = stop - at;
            const uint64_t hash = size <= PieceCache::LONGEST ? hash_word(at, size) : 0;
            PieceCache::Known* known = size <= PieceCache::LONGEST ? &cache->look(at, uint32_t(size), hash) : nullptr;
            if (known && known->size) {
                std::memcpy(out, cache->ids(*known), known->count * sizeof(uint32_t));
                out += known->count;
            } else {
                size_t count = 0;
                if (!vocabulary->whole.empty()) {
                    const auto found = vocabulary->whole.find(std::string((const char*)at, size));
                    if (found != vocabulary->whole.end()) out[0] = found->second, count = 1;
                }
                if (!count) {
                    for (size_t byte = 0; byte < size; ++byte) out[byte] = vocabulary->byte_ids[at[byte]];
                    count = vocabulary->ranks.merge(out, size);
                }
                if (known) cache->remember(*known, at, uint32_t(size), hash, out, uint32_t(count));
                out += count;
            }
            at = stop;
        }
        id_ends[number] = out - ids;
    }
    return out - ids;
}
