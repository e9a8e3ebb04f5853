// The hash of a word; beichen/text/training/runs.py computes the same, since runs on disk are sorted by it.
#pragma once
#include <cstdint>
#include <cstring>

inline uint64_t hash_word(const uint8_t* word, uint64_t size) {
    const uint64_t factor = 0x9E3779B97F4A7C15ull;
    uint64_t hash = size * factor;
    for (uint64_t at = 0; at < size; at += 8) {
        uint64_t chunk = 0;
        const uint64_t left = size - at;
        std::memcpy(&chunk, word + at, left < 8 ? left : 8);
        hash = (hash ^ chunk) * factor;
        hash ^= hash >> 32;
    }
    hash *= 0xD6E8FEB86659FD93ull;
    return hash ^ hash >> 32;
}
