// One character of UTF-8 with its classes. Text comes from Python's str.encode, so it is valid UTF-8.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "unicode_classes.h"

enum : uint32_t { LETTER = 1, NUMBER = 2, MARK = 4, SPACE = 8, HAN = 16, LATIN = 32, KANA = 64, NUMERAL = 128 };

struct Character {
    uint32_t classes;
    uint32_t size;  // bytes
    uint32_t code;
};

// The classes of every character; one byte each, so that a lookup is one load.
inline const uint8_t* class_table() {
    static const std::vector<uint8_t> table = [] {
        std::vector<uint8_t> filled(0x110000);
        const size_t rows = sizeof(unicode_rows) / sizeof(unicode_rows[0]);
        for (size_t row = 0; row < rows; ++row) {
            const uint32_t end = row + 1 < rows ? unicode_rows[row + 1][0] : 0x110000;
            for (uint32_t code = unicode_rows[row][0]; code < end; ++code) filled[code] = uint8_t(unicode_rows[row][1]);
        }
        for (char32_t numeral : U"零〇一二三四五六七八九十百千万亿两")
            if (numeral) filled[numeral] |= NUMERAL;
        return filled;
    }();
    return table.data();
}

// The code of the character at `at`, and its bytes.
inline uint32_t code_at(const uint8_t* at, uint32_t& size) {
    const uint32_t first = at[0];
    if (first < 0x80) return size = 1, first;
    if (first < 0xE0) return size = 2, (first & 31) << 6 | (at[1] & 63);
    if (first < 0xF0) return size = 3, (first & 15) << 12 | (at[1] & 63) << 6 | (at[2] & 63);
    return size = 4, (first & 7) << 18 | (at[1] & 63) << 12 | (at[2] & 63) << 6 | (at[3] & 63);
}

inline Character character_at(const uint8_t* classes, const uint8_t* at) {
    uint32_t size;
    const uint32_t code = code_at(at, size);
    return {classes[code], size, code};
}
