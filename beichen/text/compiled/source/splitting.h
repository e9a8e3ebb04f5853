// Where text is cut before merging: the four patterns of pre_tokenization.py by hand, cut for cut what the regex engine of
// `tokenizers` finds. Each rule below is one alternative of a pattern, in its order.
#pragma once
#include "characters.h"

enum Pattern : int { GPT2 = 0, QWEN2 = 1, LLAMA3 = 2, HAN_RUNS = 3 };

class Splitter {
  public:
    explicit Splitter(Pattern pattern) : pattern_(pattern), classes_(class_table()) {}

    // The end of the piece that begins at `at`, before `end`.
    const uint8_t* cut(const uint8_t* at, const uint8_t* end) const {
        switch (pattern_) {
            case GPT2: return gpt2(at, end);
            case QWEN2: return words(at, end, 1);
            case LLAMA3: return words(at, end, 3);
            default: return han(at, end);
        }
    }

  private:
    Character look(const uint8_t* at, const uint8_t* end) const {
        return at < end ? character_at(classes_, at) : Character{0, 0, 0};
    }

    template <class Belongs>
    const uint8_t* run(const uint8_t* at, const uint8_t* end, Belongs belongs) const {
        while (at < end) {
            const Character next = character_at(classes_, at);
            if (!belongs(next)) break;
            at += next.size;
        }
        return at;
    }

    // An apostrophe with 's 't 're 've 'm 'll 'd behind it, or null. In any case also the long s, which folds to s.
    const uint8_t* contraction(const uint8_t* at, const uint8_t* end, bool any_case) const {
        if (end - at < 2 || *at != '\'') return nullptr;
        if (any_case && end - at >= 3 && at[1] == 0xC5 && at[2] == 0xBF) return at + 3;
        const auto letter = [&](long place) -> int {
            if (end - at <= place) return 0;
            const int byte = at[place];
            return any_case && byte >= 'A' && byte <= 'Z' ? byte + 32 : byte;
        };
        const int first = letter(1), second = letter(2);
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
        if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return at + 3;
        return nullptr;
    }

    // \s+(?!\S)|\s+ : all spaces, but for the last one when something follows them.
    const uint8_t* spaces(const uint8_t* at, const uint8_t* end) const {
        const uint8_t* last = at;
        const uint8_t* stop = run(at, end, [&](const Character& next) { return (next.classes & SPACE) != 0; });
        if (stop == end) return stop;
        for (const uint8_t* place = at; place < stop; place += character_at(classes_, place).size) last = place;
        return last > at ? last : stop;
    }

    // \s*[\r\n]+ before that: up to the last line end among the spaces.
    const uint8_t* lines_or_spaces(const uint8_t* at, const uint8_t* end) const {
        const uint8_t* after_line = nullptr;
        for (const uint8_t* place = at; place < end;) {
            const Character next = character_at(classes_, place);
            if (!(next.classes & SPACE)) break;
            place += next.size;
            if (next.code == '\n' || next.code == '\r') after_line = place;
        }
        return after_line ? after_line : spaces(at, end);
    }

    const uint8_t* gpt2(const uint8_t* at, const uint8_t* end) const {
        if (const uint8_t* stop = contraction(at, end, false)) return stop;
        Character first = character_at(classes_, at);
        const uint8_t* start = at;
        if (first.code == ' ') {  // ` ?` of the next three rules
            const Character second = look(at + 1, end);
            if (second.size && !(second.classes & SPACE)) first = second, start = at + 1;
        }
        if (first.classes & SPACE) return spaces(at, end);
        const uint32_t kind = first.classes & (LETTER | NUMBER);
        return run(start, end, [kind](const Character& next) {
            return !(next.classes & SPACE) && (next.classes & (LETTER | NUMBER)) == kind;
        });
    }

    // qwen2 and llama3 differ in how many digits stand together.
    const uint8_t* words(const uint8_t* at, const uint8_t* end, int digits) const {
        if (const uint8_t* stop = contraction(at, end, true)) return stop;
        const auto is_letter = [](const Character& next) { return (next.classes & LETTER) != 0; };
        const auto is_line = [](const Character& next) { return next.code == '\r' || next.code == '\n'; };
        const Character first = character_at(classes_, at);
        if (first.classes & LETTER) return run(at, end, is_letter);
        const Character second = look(at + first.size, end);
        if (!(first.classes & NUMBER) && !is_line(first) && (second.classes & LETTER)) return run(at + first.size, end, is_letter);
        if (first.classes & NUMBER) {
            int left = digits;
            return run(at, end, [&left](const Character& next) { return (next.classes & NUMBER) && left-- > 0; });
        }
        const auto is_other = [](const Character& next) { return !(next.classes & (SPACE | LETTER | NUMBER)); };
        const uint8_t* start = first.code == ' ' && second.size && is_other(second) ? at + 1 : at;
        if (start > at || is_other(first)) return run(run(start, end, is_other), end, is_line);
        return lines_or_spaces(at, end);
    }

    const uint8_t* han(const uint8_t* at, const uint8_t* end) const {
        if (const uint8_t* stop = contraction(at, end, true))
            if (!(look(stop, end).classes & LETTER)) return stop;
        const Character first = character_at(classes_, at);
        if (first.classes & (NUMBER | NUMERAL)) return at + first.size;
        if (first.classes & HAN) {
            int left = 4;
            return run(at, end, [&left](const Character& next) { return (next.classes & (HAN | NUMERAL)) == HAN && left-- > 0; });
        }
        const bool space = first.code == ' ';
        const Character second = space ? look(at + 1, end) : first;
        const uint8_t* start = space ? at + 1 : at;
        const auto is_latin = [](const Character& next) { return (next.classes & LATIN) != 0; };
        const auto is_kana = [](const Character& next) { return (next.classes & KANA) != 0; };
        const auto is_letter = [](const Character& next) {
            return (next.classes & (LETTER | MARK)) && !(next.classes & (HAN | LATIN | KANA));
        };
        const auto is_other = [](const Character& next) { return !(next.classes & (SPACE | LETTER | MARK | NUMBER)); };
        if (second.size) {
            if (is_latin(second)) return run(start, end, is_latin);
            if (is_kana(first)) return run(at, end, is_kana);
            if (is_letter(second)) return run(start, end, is_letter);
            if (is_other(second)) return run(start, end, is_other);
        }
        return lines_or_spaces(at, end);
    }

    Pattern pattern_;
    const uint8_t* classes_;
};
