// Learning merges: again and again the most frequent pair of neighbours becomes a symbol. The result is that of `tokenizers`' trainer,
// by its rule for ties (the smaller left symbol, then the smaller right one), with 64-bit counts, in bounded memory.
//
// The work goes in rounds. A round closes the gaps in the words, counts all pairs, notes the places of the most frequent ones (as many as
// memory allows) and joins them and their offspring until the next pair is one that was left out.
#include <chrono>
#include <memory>
#include <string>
#include <unordered_set>

#include "pair_counts.h"
#include "pair_ranks.h"
#include "runs.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Learnt {
    uint32_t left, right;
    int64_t count;
};

struct Task {  // what Python asks for
    const uint8_t* byte_symbols;  // the symbol of each byte
    const char* forbidden;        // names that no piece may be spelled like, in the bytes they would have, each ended by a zero
    int64_t forbidden_number, most_symbols, sampled_below, budget, threads;
    const uint64_t* histogram;  // rows of count, words, bytes, counts falling
    int64_t histogram_rows;
    const uint32_t* earlier;  // merges that are known already: left, right
    int64_t earlier_number;
};

class Learner {
  public:
    virtual ~Learner() = default;
    virtual int load(const char* words, const Task& task, volatile int64_t* progress) = 0;
    virtual long learn(long most, double seconds, Learnt* learnt) = 0;
};

template <class Slot>
class SlotLearner : public Learner {
  public:
    int load(const char* path, const Task& task, volatile int64_t* progress) override {
        budget_ = task.budget, threads_ = std::max<int64_t>(1, task.threads), most_symbols_ = task.most_symbols;
        pieces_.resize(256);
        for (int byte = 0; byte < 256; ++byte) pieces_[task.byte_symbols[byte]] = std::string(1, char(byte));
        const char* name = task.forbidden;
        for (int64_t number = 0; number < task.forbidden_number; ++number, name += std::strlen(name) + 1) forbidden_.insert(name);
        PairRanks earlier(task.earlier_number);
        for (int64_t number = 0; number < task.earlier_number; ++number) {
            const uint32_t left = task.earlier[2 * number], right = task.earlier[2 * number + 1];
            earlier.add(left, right, uint32_t(pieces_.size()));
            pieces_.push_back(pieces_[left] + pieces_[right]);
        }
        spans_.assign(most_symbols_ + 1, 1);
        for (auto* sums : {&lost_left_, &lost_right_, &new_left_, &new_right_}) sums->assign(most_symbols_ + 1, {});
        return read_words(path, task, earlier, progress);
    }

    // Up to `most` merges, or as many as `seconds` allow (at least one); fewer than one: there is no pair left. -1: no memory.
    long learn(long most, double seconds, Learnt* learnt) override {
        const auto started = std::chrono::steady_clock::now();
        long done = 0;
        while (done < most && int64_t(pieces_.size()) < most_symbols_) {
            HotPairs::Pair* best = in_round_ ? hot_.best() : nullptr;
            if (best && !fits(*best)) {
                hot_.push_back_last(*best);
                best = nullptr;
            }
            if (!best) {
                if (in_round_ && round_empty_) break;
                if (!begin_round()) return -1;
                in_round_ = true;
                round_empty_ = hot_.queue.empty();
                fresh_ = true;
                continue;
            }
            fresh_ = false;
            const uint64_t pair = best->pair;
            const std::string piece = pieces_[pair >> 32] + pieces_[pair & UINT32_MAX];
            if (forbidden_.count(piece)) {
                best->count = 0;
                banned_.insert(pair);
                continue;
            }
            learnt[done++] = {uint32_t(pair >> 32), uint32_t(pair), best->count};
            pieces_.push_back(piece);
            join(best - hot_.pairs.data(), uint32_t(pieces_.size() - 1));
            if (!(done & 15) && std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() > seconds) break;
        }
        return done;
    }

  private:
    using Store = WordStore<Slot>;
    struct Sum {
        int64_t count;
        uint64_t places;
    };

    int read_words(const char* path, const Task& task, const PairRanks& earlier, volatile int64_t* progress) {
        const uint64_t lowest = std::max<int64_t>(1, task.sampled_below);
        uint64_t room = 1;
        std::vector<uint64_t> counts;
        for (int64_t row = 0; row < task.histogram_rows; ++row) {
            const uint64_t* at = task.histogram + 3 * row;
            if (at[0] > lowest) {
                words_.classes.push_back({room, room, int64_t(at[0])});
                counts.push_back(at[0]);
            } else if (counts.empty() || counts.back() != lowest) {
                words_.classes.push_back({room, room, int64_t(lowest)});  // sampled words count that often
                counts.push_back(lowest);
            }
            room += at[1] + at[2];
        }
        if (!words_.reserve(room)) return ENOMEM;
        RunReader reader(path);
        std::vector<uint32_t> symbols;
        uint64_t before = 0, steps = 0;
        while (reader.next()) {
            if (reader.count < lowest && (reader.hash >> 8) % lowest >= reader.count) continue;
            const uint64_t count = std::max(reader.count, lowest);
            const auto found = std::lower_bound(counts.begin(), counts.end(), count, std::greater<uint64_t>());
            if (found == counts.end() || *found != count) return EILSEQ;
            symbols.resize(reader.word.size());
            for (size_t at = 0; at < symbols.size(); ++at) symbols[at] = task.byte_symbols[reader.word[at]];
            const size_t size = task.earlier_number ? earlier.merge(symbols.data(), symbols.size()) : symbols.size();
            words_.append(words_.classes[found - counts.begin()], symbols.data(), size);
            if (!(++steps & 0xFFFF)) {
                progress[0] += int64_t(reader.bytes_read - before), before = reader.bytes_read;
                if (progress[1]) return ECANCELED;
            }
        }
        return words_.classes.empty() || words_.classes.back().end < UINT32_MAX ? reader.error() : EFBIG;
    }

    bool begin_round() {
        hot_.release();
        words_.compact(spans_);
        const int64_t least = 16 << 20;
        const uint64_t free = uint64_t(std::max(least, budget_ - int64_t(words_.bytes())));
        Selection selection(free * 3 / 10 / 4, std::max<uint64_t>(free / 10 / 64, 1024));
        for (uint64_t parts = std::max(parts_, threads_);; parts *= 2) {
            if (count_pairs(selection, parts, free * 6 / 10 / threads_ / sizeof(PairCount))) break;
            parts_ = parts * 2;
        }
        selection.trim();
        if (!selection.chosen.empty()) selection.keep_above(selection.chosen[0].count / RATIO);
        uint64_t places = 0;
        for (const PairCount& one : selection.chosen) places += one.places;
        most_hot_ = free * 3 / 10 / 64 + selection.chosen.size();
        if (!hot_.reset(std::max<uint64_t>(free * 6 / 10 / 4, places * 3 + 4096))) return false;
        hot_.bound = selection.bound;
        hot_.pairs.reserve(selection.chosen.size());
        for (const PairCount& one : selection.chosen) hot_.add(one.pair, one.count, one.places);
        std::vector<PairCount>().swap(selection.chosen);
        std::make_heap(hot_.queue.begin(), hot_.queue.end());
        note_places();
        return true;
    }

    bool count_pairs(Selection& selection, uint64_t parts, uint64_t most) {
        std::mutex lock;
        std::atomic<bool> full{false};
        in_threads(parts, [&](uint64_t part) {
            if (full) return;
            PairTable table(std::max<uint64_t>(most, 1 << 16));
            scan_pairs(words_, part, parts, [&](uint64_t pair) { table.prefetch(pair); },
                       [&](uint64_t pair, uint64_t, int64_t count) { table.add(pair, count); });
            if (table.full) full = true;
            std::lock_guard<std::mutex> hold(lock);
            if (!full) table.each([&](const PairCount& one) {
                if (!banned_.count(one.pair)) selection.take(one);
            });
        });
        if (full) selection.chosen.clear(), selection.bound = {0, 0};
        return !full;
    }

    void note_places() {
        std::vector<uint32_t> filled(hot_.pairs.size(), 0);
        const uint64_t parts = threads_;
        in_threads(parts, [&](uint64_t part) {
            scan_pairs(words_, part, parts, [&](uint64_t pair) { hot_.prefetch(pair); }, [&](uint64_t pair, uint64_t place, int64_t) {
                if (HotPairs::Pair* one = hot_.find(pair)) hot_.places(*one)[filled[one - hot_.pairs.data()]++] = uint32_t(place);
            });
        });
    }

    template <class Work>
    void in_threads(uint64_t parts, Work work) {
        std::atomic<uint64_t> next{0};
        const auto turn = [&] {
            for (uint64_t part; (part = next++) < parts;) work(part);
        };
        std::vector<std::thread> others;
        for (uint64_t number = 1; number < std::min(threads_, parts); ++number) others.emplace_back(turn);
        turn();
        for (std::thread& one : others) one.join();
    }

    // Whether joining this pair stays within the memory of the round and the longest span; always true for the first of a round.
    bool fits(const HotPairs::Pair& one) const {
        if (spans_[one.pair >> 32] + spans_[one.pair & UINT32_MAX] > Store::LONGEST_SPAN) return false;
        return fresh_ || (hot_.free_places() >= 2 * one.size && hot_.pairs.size() <= most_hot_);
    }

    void join(size_t number, uint32_t symbol) {
        Slot* slots = words_.slots();
        const HotPairs::Pair pair = hot_.pairs[number];
        hot_.pairs[number].count = 0;
        const uint32_t left = uint32_t(pair.pair >> 32), right = uint32_t(pair.pair);
        const uint32_t left_span = spans_[left], span = spans_[symbol] = left_span + spans_[right];
        uint32_t* places = hot_.places(pair);
        const auto before = [slots](uint64_t place) {
            const Slot last = slots[place - 1];
            return place - (last & Store::HOLE ? last & ~Store::HOLE : 1);
        };
        uint64_t joined = 0;
        counts_.clear();
        for (uint64_t at = 0; at < pair.size; ++at) {
            if (at + 12 < pair.size) __builtin_prefetch(&slots[places[at + 12]]);
            const uint64_t place = places[at], second = place + left_span;
            if (slots[place] != left || slots[second] != right) continue;  // noted earlier and joined otherwise since
            const int64_t count = words_.count_at(place);
            const uint32_t behind = slots[place + span], ahead = slots[before(place)];
            if (ahead != Store::WORD_END && ahead != symbol) add(lost_left_, touched_left_, ahead, count);
            if (behind != Store::WORD_END) add(lost_right_, touched_right_, behind, count);
            slots[second] = Store::HOLE;
            slots[place] = Slot(symbol);
            if (span > 2) slots[place + 1] = Store::HOLE;
            slots[place + span - 1] = Slot(Store::HOLE | span);
            places[joined++] = uint32_t(place);
            counts_.push_back(count);
        }
        take_away(touched_left_, lost_left_, [&](uint64_t other) { return other << 32 | left; });
        take_away(touched_right_, lost_right_, [&](uint64_t other) { return uint64_t(right) << 32 | other; });
        for (uint64_t at = 0; at < joined; ++at) {
            if (at + 12 < joined) __builtin_prefetch(&slots[places[at + 12]]);
            const uint32_t ahead = slots[before(places[at])], behind = slots[places[at] + span];
            if (ahead != Store::WORD_END) add(new_left_, touched_left_, ahead, counts_[at]);
            if (behind != Store::WORD_END && behind != symbol) add(new_right_, touched_right_, behind, counts_[at]);
        }
        bool any = false;
        any |= open(touched_left_, new_left_, [&](uint64_t other) { return other << 32 | symbol; });
        any |= open(touched_right_, new_right_, [&](uint64_t other) { return uint64_t(symbol) << 32 | other; });
        for (uint64_t at = 0; any && at < joined; ++at) {
            if (at + 12 < joined) __builtin_prefetch(&slots[places[at + 12]]);
            const uint64_t first = before(places[at]);
            const uint32_t ahead = slots[first], behind = slots[places[at] + span];
            if (ahead != Store::WORD_END) note(new_left_[ahead], first);
            if (behind != Store::WORD_END && behind != symbol) note(new_right_[behind], places[at]);
        }
        for (uint32_t other : touched_left_) new_left_[other] = {};
        for (uint32_t other : touched_right_) new_right_[other] = {};
        touched_left_.clear(), touched_right_.clear();
    }

    static void add(std::vector<Sum>& sums, std::vector<uint32_t>& touched, uint32_t symbol, int64_t count) {
        if (!sums[symbol].places++) touched.push_back(symbol);
        sums[symbol].count += count;
    }
    template <class PairOf>
    void take_away(std::vector<uint32_t>& touched, std::vector<Sum>& sums, PairOf pair_of) {
        for (uint32_t other : touched) {
            if (HotPairs::Pair* one = hot_.find(pair_of(other))) one->count -= sums[other].count;
            sums[other] = {};
        }
        touched.clear();
    }
    // Makes the new pairs that are frequent enough known; their sums then hold where the next place is written, the others nothing.
    template <class PairOf>
    bool open(const std::vector<uint32_t>& touched, std::vector<Sum>& sums, PairOf pair_of) {
        bool any = false;
        for (uint32_t other : touched) {
            const Ranked rank{sums[other].count, pair_of(other)};
            if (!rank.before(hot_.bound)) {
                sums[other].count = -1;
                continue;
            }
            sums[other].count = int64_t(hot_.add(rank.pair, rank.count, sums[other].places).begin);
            hot_.queue_new();
            any = true;
        }
        return any;
    }
    void note(Sum& sum, uint64_t place) {
        if (sum.count >= 0) hot_.all_places()[sum.count++] = uint32_t(place);
    }

    static constexpr int64_t RATIO = 64;  // how far counts may fall within one round: fewer rounds, or fewer places to note
    Store words_;
    HotPairs hot_;
    std::vector<std::string> pieces_;
    std::unordered_set<std::string> forbidden_;
    std::unordered_set<uint64_t> banned_;
    std::vector<uint32_t> spans_, touched_left_, touched_right_;
    std::vector<Sum> lost_left_, lost_right_, new_left_, new_right_;
    std::vector<int64_t> counts_;
    int64_t budget_ = 0, most_symbols_ = 0;
    uint64_t threads_ = 1, parts_ = 1, most_hot_ = 0;
    bool in_round_ = false, round_empty_ = false, fresh_ = true;
};

}  // namespace

EXPORT Learner* text_learner_new(const char* words, const Task* task, int wide, volatile int64_t* progress, int* error) {
    std::unique_ptr<Learner> learner;
    if (wide) learner = std::make_unique<SlotLearner<uint32_t>>();
    else learner = std::make_unique<SlotLearner<uint16_t>>();
    *error = learner->load(words, *task, progress);
    return *error ? nullptr : learner.release();
}
EXPORT void text_learner_free(Learner* learner) { delete learner; }
EXPORT long text_learner_learn(Learner* learner, long most, double seconds, Learnt* learnt) { return learner->learn(most, seconds, learnt); }
