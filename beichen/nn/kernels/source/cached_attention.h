// One query after another against the paged key/value cache of one layer.
#pragma once
#include "few_rows.h"
#include <cmath>

// [blocks, kv_heads, size, dim] of keys (already turned) and of values; `size`, a multiple of 16, is how many columns a block holds.
// A sequence's table lists its blocks in the order of its columns.
struct Pages {
    bf16 *keys, *values;
    long kv_heads, size, dim;
    long at(const int32_t *table, long kv, long column) const { return ((table[column / size] * kv_heads + kv) * size + column % size) * dim; }
};

constexpr long COLUMNS_AHEAD = 64;  // keys fetched before they are read: what memory takes to bring them
INLINE void fetch_columns(const bf16 *from, long dim) {  // sixteen
    for (long k = 0; k < 16 * dim; k += 32) __builtin_prefetch(from + k, 0, 2);
}
INLINE void fetch_first_keys(const Pages &pages, const int32_t *table, long kv, long to) {
    for (long j = 0; j < to && j < COLUMNS_AHEAD; j += 16) fetch_columns(pages.keys + pages.at(table, kv, j), pages.dim);
}

// Turns one head by its angles: the float32 or bf16 input as read by `get`, to bf16.
template <typename Get> INLINE void turn_head(Get get, const float *cos, const float *sin, long dim, bf16 *out) {
    const long half = dim / 2;
    sixteens(half, [&](long p, auto part) {
        vec a = get(p, part), b = get(half + p, part), c = load_float(cos + p, part), s = load_float(sin + p, part);
        store_bf16(out + p, a * c - b * s, part);
        store_bf16(out + half + p, a * s + b * c, part);
    });
}

// out [dim] = softmax(q . keys[.. to]) values of one sequence, whose first keys may have been fetched. q: bf16, zero up to padded_columns(dim). scores: room for to + 16 floats.
static void attend_one(const bf16 *q, const Pages &pages, const int32_t *table, long kv, long to, float scale, float *scores, bf16 *out) {
    const float c = scale * 1.44269504f;
    const long dim = pages.dim, whole = dim / 32 * 32;
    vec top = splat(-INFINITY);
    for (long j = 0; j < to; j += 16) {
        const long place = pages.at(table, kv, j);
        const bf16 *keys = pages.keys + place;
        if (j + COLUMNS_AHEAD < to) fetch_columns(pages.keys + pages.at(table, kv, j + COLUMNS_AHEAD), dim);
        fetch_columns(pages.values + place, dim);  // read after all keys
        vec acc[16] = {};
        for (int r = 0; r < 16; r++) {
            const bf16 *key = keys + (j + r < to ? r : to - 1 - j) * dim;
            for (long k = 0; k < whole; k += 32) acc[r] = dot_words(acc[r], load<lanes>(q + k), load<lanes>(key + k));
            if (whole < dim) acc[r] = dot_words(acc[r], load<lanes>(q + whole), load_words(key + whole, dim - whole));
        }
        vec s = reduce16(acc) * c;
        if (j + 16 > to) for (long r = to - j; r < 16; r++) s[r] = -INFINITY;
        store(scores + j, s);
        top = maximum(top, s);
    }
    const float m = largest(top);
    vec total = {};
    for (long j = 0; j < to; j += 16) {
        vec p = exp2(load<vec>(scores + j) - m);
        store(scores + j, p);
        total += p;
    }
    const float inverse = 1 / sum(total);
    auto each_value = [&](auto add) {  // add(values of a column, its share)
        for (long j = 0; j < to; j += pages.size) {
            const bf16 *values = pages.values + pages.at(table, kv, j);
            for (long i = j; i < to && i < j + pages.size; i++, values += dim) add(values, splat(scores[i]));
        }
    };
    long d = 0;
    for (; d + 64 <= dim; d += 64) {
        vec acc[4] = {};
        each_value([&](const bf16 *values, vec share) { for (int v = 0; v < 4; v++) acc[v] = fma(load_bf16(values + d + 16 * v), share, acc[v]); });
        for (int v = 0; v < 4; v++) store_bf16(out + d + 16 * v, acc[v] * inverse);
    }
    sixteens(dim - d, [&](long e, auto part) {
        vec acc = {};
        each_value([&](const bf16 *values, vec share) { acc = fma(load_bf16(values + d + e, part), share, acc); });
        store_bf16(out + d + e, acc * inverse, part);
    });
}
