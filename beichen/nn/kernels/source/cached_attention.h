// One query after another against a key/value cache [rows, kv_heads, capacity, dim] of one layer (keys already turned).
#pragma once
#include "few_rows.h"
#include <cmath>

struct Cache {
    bf16 *keys, *values;
    long kv_heads, capacity, dim;
    long at(long row, long kv) const { return (row * kv_heads + kv) * capacity * dim; }
};

// Turns one head by its angles: the float32 or bf16 input as read by `get`, to bf16.
template <typename Get> INLINE void turn_head(Get get, const float *cos, const float *sin, long dim, bf16 *out) {
    const long half = dim / 2;
    sixteens(half, [&](long p, auto part) {
        vec a = get(p, part), b = get(half + p, part), c = load_float(cos + p, part), s = load_float(sin + p, part);
        store_bf16(out + p, a * c - b * s, part);
        store_bf16(out + half + p, a * s + b * c, part);
    });
}

// out [dim] = softmax(q . keys[from .. to]) values. q: bf16, zero up to padded_columns(dim). scores: room for to + 17 floats.
static void attend_one(const bf16 *q, const bf16 *keys, const bf16 *values, long dim, long from, long to, float scale, float *scores, bf16 *out) {
    const float c = scale * 1.44269504f;
    vec top = splat(-INFINITY);
    const long whole = dim / 32 * 32;
    for (long j = from; j < to; j += 16) {
        vec acc[16] = {};
        for (int r = 0; r < 16; r++) {
            const bf16 *key = keys + (j + r < to ? j + r : to - 1) * dim;
            for (long k = 0; k < whole; k += 32) acc[r] = dot_words(acc[r], load<lanes>(q + k), load<lanes>(key + k));
            if (whole < dim) acc[r] = dot_words(acc[r], load<lanes>(q + whole), load_words(key + whole, dim - whole));
        }
        vec s = reduce16(acc) * c;
        if (j + 16 > to) for (long r = to - j; r < 16; r++) s[r] = -INFINITY;
        store(scores + j - from, s);
        top = maximum(top, s);
    }
    const float m = largest(top);
    vec total = {};
    for (long j = from; j < to; j += 16) {
        vec p = exp2(load<vec>(scores + j - from) - m);
        store(scores + j - from, p);
        total += p;
    }
    const float inverse = 1 / sum(total);
    long d = 0;
    for (; d + 64 <= dim; d += 64) {
        vec acc[4] = {};
        for (long j = from; j < to; j++) for (int v = 0; v < 4; v++) acc[v] = fma(load_bf16(values + j * dim + d + 16 * v), splat(scores[j - from]), acc[v]);
        for (int v = 0; v < 4; v++) store_bf16(out + d + 16 * v, acc[v] * inverse);
    }
    sixteens(dim - d, [&](long e, auto part) {
        vec acc = {};
        for (long j = from; j < to; j++) acc = fma(load_bf16(values + j * dim + d + e, part), splat(scores[j - from]), acc);
        store_bf16(out + d + e, acc * inverse, part);
    });
}
