// Text to ids with the pieces of a SentencePiece file: characters are joined while the result is a piece, the best piece first, then the
// leftmost place; whole pieces are cut out before; a character that is no piece becomes its bytes.
//
// Two characters that stand side by side in no piece can never come into one: text is cut there, and each part is joined on its own. That
// is exact, makes most parts short enough to be remembered, and leaves long parts to the queue of pair_ranks.h.
#include <string>
#include <string_view>
#include <unordered_map>

#include "characters.h"
#include "hashing.h"
#include "pair_ranks.h"
#include "piece_cache.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr uint32_t NONE = UINT32_MAX;
constexpr uint32_t BEGINS_WHOLE = 1u << 31;  // in `letters`: the rest is the number of a group
const char SPACE_MARK[] = "\xE2\x96\x81";

struct Texts {  // joined, with their ends and ids
    const char* bytes;
    const int64_t* ends;
    const uint32_t* ids;
    long number;

    std::string_view operator[](long place) const {
        const int64_t begin = place ? ends[place - 1] : 0;
        return {bytes + begin, size_t(ends[place] - begin)};
    }
};

// A set of pairs of characters that may hold more than was put in, which costs time alone.
class Neighbours {
  public:
    explicit Neighbours(size_t pairs) {
        while ((uint64_t(1) << bits_) < pairs * 16) ++bits_;
        words_.assign((uint64_t(1) << bits_) / 64, 0);
    }
    void add(uint32_t left, uint32_t right) { words_[place(left, right) >> 6] |= uint64_t(1) << (place(left, right) & 63); }
    bool has(uint32_t left, uint32_t right) const { return words_[place(left, right) >> 6] >> (place(left, right) & 63) & 1; }

  private:
    uint64_t place(uint32_t left, uint32_t right) const { return (uint64_t(left) << 32 | right) * 0x9E3779B97F4A7C15ull >> (64 - bits_); }
    int bits_ = 10;
    std::vector<uint64_t> words_;
};

struct Whole {
    std::string text;
    uint32_t id;
};

struct Group {  // pieces that are cut out, of one first character
    uint32_t letter;
    std::vector<Whole> pieces;  // the longest first
};

class Pieces {
  public:
    Pieces(const uint32_t* letters, long number, const uint32_t* byte_ids, const Texts& ranked, const Texts& whole)
        : letters_(0x110000, NONE & ~BEGINS_WHOLE), ranks_(0), neighbours_(0) {
        for (long place = 0; place < number; ++place) letters_[letters[2 * place]] = letters[2 * place + 1];
        std::memcpy(byte_ids_, byte_ids, sizeof byte_ids_);
        rank(ranked);
        for (long place = 0; place < whole.number; ++place) cut_out(std::string(whole[place]), whole.ids[place]);
    }

    // Ids of a text that is written with space marks into `out`; returns their end.
    uint32_t* encode(PieceCache* cache, const uint8_t* at, const uint8_t* end, uint32_t* out) const {
        while (at < end) {
            const Letter first = letter_at(at);
            if (const Whole* found = whole_at(first, at, end)) {
                *out++ = found->id, at += found->text.size();
                continue;
            }
            const uint8_t* stop = part_end(at + first.size, end, first.code);
            out = stop == at + first.size ? spell(first, at, out) : join(cache, at, stop, out);
            at = stop;
        }
        return out;
    }

  private:
    struct Letter {
        uint32_t code, size, entry;  // of `letters_`
    };
    Letter letter_at(const uint8_t* at) const {
        uint32_t size;
        const uint32_t code = code_at(at, size);
        return {code, size, letters_[code]};
    }

    const Whole* whole_at(const Letter& first, const uint8_t* at, const uint8_t* end) const {
        if (!(first.entry & BEGINS_WHOLE)) return nullptr;
        for (const Whole& one : groups_[first.entry & ~BEGINS_WHOLE].pieces)
            if (one.text.size() <= size_t(end - at) && !std::memcmp(one.text.data(), at, one.text.size())) return &one;
        return nullptr;
    }

    const uint8_t* part_end(const uint8_t* at, const uint8_t* end, uint32_t before) const {
        while (at < end) {
            uint32_t size;
            const uint32_t code = code_at(at, size);
            if (!neighbours_.has(before, code)) break;
            if (whole_at({code, size, letters_[code]}, at, end)) break;
            at += size, before = code;
        }
        return at;
    }

    uint32_t* spell(const Letter& one, const uint8_t* at, uint32_t* out) const {
        const uint32_t id = one.entry & BEGINS_WHOLE ? groups_[one.entry & ~BEGINS_WHOLE].letter : one.entry;
        if (id != (NONE & ~BEGINS_WHOLE)) {
            *out++ = id;
        } else {
            for (uint32_t byte = 0; byte < one.size; ++byte) *out++ = byte_ids_[at[byte]];
        }
        return out;
    }

    uint32_t* join(PieceCache* cache, const uint8_t* at, const uint8_t* stop, uint32_t* out) const {
        const size_t size = stop - at;
        const uint64_t hash = size <= PieceCache::LONGEST ? hash_word(at, size) : 0;
        PieceCache::Known* known = size <= PieceCache::LONGEST ? &cache->look(at, uint32_t(size), hash) : nullptr;
        if (known && known->size) {
            std::memcpy(out, cache->ids(*known), known->count * sizeof(uint32_t));
            return out + known->count;
        }
        uint32_t* last = out;
        for (const uint8_t* place = at; place < stop;) {
            const Letter one = letter_at(place);
            last = spell(one, place, last);
            place += one.size;
        }
        const size_t count = ranks_.merge(out, last - out);
        if (known) cache->remember(*known, at, uint32_t(size), hash, out, uint32_t(count));
        return out + count;
    }

    void rank(const Texts& ranked) {
        std::unordered_map<std::string_view, uint32_t> ids;
        for (long place = 0; place < ranked.number; ++place) ids.emplace(ranked[place], ranked.ids[place]);
        struct Pair {
            uint32_t left, right, place;
        };
        std::vector<Pair> pairs;
        size_t places = 0;
        for (long place = 0; place < ranked.number; ++place) {
            const std::string_view text = ranked[place];
            for (size_t cut = 1; cut < text.size(); ++cut) {
                if ((uint8_t(text[cut]) & 0xC0) == 0x80) continue;  // inside a character
                ++places;
                const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
                if (left != ids.end() && right != ids.end()) pairs.push_back({left->second, right->second, uint32_t(place)});
            }
        }
        ranks_ = PairRanks(pairs.size());
        neighbours_ = Neighbours(places);
        for (long place = 0; place < ranked.number; ++place) {
            ranks_.next(ranked.ids[place]);
            const std::string_view text = ranked[place];
            const auto* at = reinterpret_cast<const uint8_t*>(text.data());
            const uint8_t* end = at + text.size();
            uint32_t before, size;
            for (before = code_at(at, size), at += size; at < end; at += size) {
                const uint32_t code = code_at(at, size);
                neighbours_.add(before, code);
                before = code;
            }
        }
        for (const Pair& pair : pairs) ranks_.set(pair.left, pair.right, pair.place);
    }

    void cut_out(std::string text, uint32_t id) {
        uint32_t size;
        uint32_t& entry = letters_[code_at(reinterpret_cast<const uint8_t*>(text.data()), size)];
        if (!(entry & BEGINS_WHOLE)) {
            groups_.push_back({entry, {}});
            entry = BEGINS_WHOLE | uint32_t(groups_.size() - 1);
        }
        auto& pieces = groups_[entry & ~BEGINS_WHOLE].pieces;
        pieces.push_back({std::move(text), id});
        std::stable_sort(pieces.begin(), pieces.end(), [](const Whole& one, const Whole& other) { return one.text.size() > other.text.size(); });
    }

    std::vector<uint32_t> letters_;  // the id of each character that is a piece
    std::vector<Group> groups_;
    PairRanks ranks_;
    Neighbours neighbours_;
    uint32_t byte_ids_[256];
};

// A text as it is encoded: every space a mark, and one before all if wished.
void write(const uint8_t* at, const uint8_t* end, bool prefixed, std::string& written) {
    written.clear();
    if (prefixed) written += SPACE_MARK;
    while (at < end) {
        const auto* space = static_cast<const uint8_t*>(std::memchr(at, ' ', end - at));
        const uint8_t* stop = space ? space : end;
        written.append(reinterpret_cast<const char*>(at), stop - at);
        if (space) written += SPACE_MARK;
        at = stop + (space ? 1 : 0);
    }
}

}  // namespace

// `letters`: code and id of each character that is a piece. `ranked`: pieces that text is joined into, best first. `whole`: pieces that are
// cut out of the text.
EXPORT Pieces* text_pieces_new(const uint32_t* letters, long number, const uint32_t* byte_ids, const char* ranked, const int64_t* ranked_ends,
                               const uint32_t* ranked_ids, long ranked_number, const char* whole, const int64_t* whole_ends,
                               const uint32_t* whole_ids, long whole_number) {
    return new Pieces(letters, number, byte_ids, {ranked, ranked_ends, ranked_ids, ranked_number}, {whole, whole_ends, whole_ids, whole_number});
}
EXPORT void text_pieces_free(Pieces* pieces) { delete pieces; }

// As `text_encode`; `ids` has room for one id a byte and one a text. The space mark must be a piece.
EXPORT long text_pieces_encode(const Pieces* pieces, PieceCache* cache, const uint8_t* text, const int64_t* ends, long texts, int prefixed,
                               uint32_t* ids, int64_t* id_ends) {
    uint32_t* out = ids;
    std::string written;
    for (long number = 0; number < texts; ++number) {
        const uint8_t *at = text + (number ? ends[number - 1] : 0), *end = text + ends[number];
        if (at < end) {
            write(at, end, prefixed, written);
            const auto* begin = reinterpret_cast<const uint8_t*>(written.data());
            out = pieces->encode(cache, begin, begin + written.size(), out);
        }
        id_ends[number] = out - ids;
    }
    return out - ids;
}
