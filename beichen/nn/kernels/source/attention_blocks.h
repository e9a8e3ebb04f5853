// The 64 x 64 blocks of rotary attention: what is seen of each, how heads are gathered, turned and laid out for the matrix
// product, and the products over the seen tiles of 16 x 16 alone.
#pragma once
#include "matmul.h"
#include <climits>

namespace {
constexpr long B = 64, TILE = 16, TILES = B / TILE;
constexpr float MASKED = -1e30f;

struct Problem {
    const bf16 *qkv;
    const float *cos, *sin;  // [1 or rows, tokens, dim / 2]
    const int32_t *first_visible;
    long rows, table_rows, tokens, heads, kv_heads, dim;
    float scale;

    long width() const { return (heads + 2 * kv_heads) * dim; }
    long blocks() const { return (tokens + B - 1) / B; }
    long padded_dim() const { return (dim + 31) / 32 * 32; }
    long group() const { return heads / kv_heads; }
    const bf16 *head(long row, long h) const { return qkv + row * tokens * width() + h * dim; }
    const float *table(const float *t, long row) const { return t + (table_rows == 1 ? 0 : row) * tokens * (dim / 2); }
};

// Which part of one 64 x 64 block is seen: per key tile a span of queries, per query tile a span of keys.
struct Span { long from, to; bool empty() const { return from >= to; } long size() const { return to - from; } };
struct Visible {
    Span queries[TILES], keys[TILES];
    bool full;
};

Visible visible(const int32_t *first, long j0, long i0) {
    Visible v;
    v.full = j0 + B - 1 <= i0 && first[i0 + B - 1] <= j0;
    for (long t = 0; t < TILES; t++) v.queries[t] = v.keys[t] = {B, 0};
    for (long s = 0; s < TILES; s++) for (long g = 0; g < TILES; g++) {
        long j = j0 + s * TILE, i = i0 + g * TILE;
        if (j > i + TILE - 1 || first[i] > j + TILE - 1) continue;
        Span &q = v.queries[s], &k = v.keys[g];
        q = {q.from < g * TILE ? q.from : g * TILE, (g + 1) * TILE};
        k = {k.from < s * TILE ? k.from : s * TILE, (s + 1) * TILE};
    }
    return v;
}

INLINE ints seen(long j, long i, ints first) {  // lanes: queries i .. i + 15
    const ints step = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (first <= int32_t(j)) & (step + int32_t(i) >= int32_t(j));
}
INLINE vec masked(ints keep, vec x) { return (vec)((ints)x & keep); }

// Rows [from, from + 64) of one head, turned by their angles (cos null: as they are), as bf16 [64, padded_dim].
void gather_rows(const bf16 *head, long stride, long from, long tokens, long dim, long padded, const float *cos, const float *sin, bf16 *out) {
    const long half = dim / 2;
    for (long r = 0; r < B; r++, out += padded) {
        if (from + r >= tokens) { memset(out, 0, padded * sizeof(bf16)); continue; }
        const bf16 *x = head + (from + r) * stride;
        if (dim < padded) memset(out + dim, 0, (padded - dim) * sizeof(bf16));
        if (!cos) { memcpy(out, x, dim * sizeof(bf16)); continue; }
        const float *c = cos + (from + r) * half, *s = sin + (from + r) * half;
        long p = 0;
        for (; p + 16 <= half; p += 16) {
            vec a = load_bf16(x + p), b = load_bf16(x + half + p), cv = load<vec>(c + p), sv = load<vec>(s + p);
            store_bf16(out + p, a * cv - b * sv);
            store_bf16(out + half + p, a * sv + b * cv);
        }
        for (; p < half; p++) {
            float a = to_float(x[p]), b = to_float(x[half + p]);
            out[p] = to_bf16(a * c[p] - b * s[p]);
            out[half + p] = to_bf16(a * s[p] + b * c[p]);
        }
    }
}
// float32 [64, padded] gradients of turned rows: turned back, times `factor`, written as bf16.
void scatter_rows(const float *in, long padded, bf16 *head, long stride, long from, long tokens, long dim, const float *cos, const float *sin, float factor) {
    const long half = dim / 2, count = tokens - from < B ? tokens - from : B;
    for (long r = 0; r < count; r++, in += padded) {
        bf16 *x = head + (from + r) * stride;
        if (!cos) {
            long p = 0;
            for (; p + 16 <= dim; p += 16) store_bf16(x + p, load<vec>(in + p) * factor);
            for (; p < dim; p++) x[p] = to_bf16(in[p] * factor);
            continue;
        }
        const float *c = cos + (from + r) * half, *s = sin + (from + r) * half;
        long p = 0;
        for (; p + 16 <= half; p += 16) {
            vec a = load<vec>(in + p) * factor, b = load<vec>(in + half + p) * factor, cv = load<vec>(c + p), sv = load<vec>(s + p);
            store_bf16(x + p, a * cv + b * sv);
            store_bf16(x + half + p, b * cv - a * sv);
        }
        for (; p < half; p++) {
            float a = in[p] * factor, b = in[half + p] * factor;
            x[p] = to_bf16(a * c[p] + b * s[p]);
            x[half + p] = to_bf16(b * c[p] - a * s[p]);
        }
    }
}
// bf16 [64, n] as pairs of columns turned: words [n / 2, 64]: the right factor whose inner dimension is n.
void turn_pairs(const bf16 *in, long n, uint32_t *out) {
    const uint32_t *words = reinterpret_cast<const uint32_t *>(in);
    for (long r = 0; r < B; r += 16) for (long c = 0; c < n / 2; c += 16) transpose16(words + r * (n / 2) + c, n / 2, out + c * B + r, B);
}
// bf16 [64, n] as pairs of rows: words [32, n]: the right factor whose inner dimension is the 64 rows.
void pair_rows(const bf16 *in, long n, uint32_t *out) {
    for (long r = 0; r < B / 2; r++, in += 2 * n, out += n) for (long c = 0; c < n; c += 16)
        store(out + c, __builtin_convertvector(load<halves>(in + c), lanes) | (__builtin_convertvector(load<halves>(in + n + c), lanes) << 16));
}
// words [32, n] as above, turned: bf16 [n, 64]: a left factor whose inner dimension is the 64 rows.
void turn_row_pairs(const uint32_t *in, long n, bf16 *out) {
    uint32_t *words = reinterpret_cast<uint32_t *>(out);
    for (long r = 0; r < B / 2; r += 16) for (long c = 0; c < n; c += 16) transpose16(in + r * n + c, n, words + c * (B / 2) + r, B / 2);
}
// float32 [n, 64] turned: [64, n].
void turn_floats(const float *in, long n, float *out) {
    for (long r = 0; r < n; r += 16) for (long c = 0; c < B; c += 16)
        transpose16(reinterpret_cast<const uint32_t *>(in) + r * B + c, B, reinterpret_cast<uint32_t *>(out) + c * n + r, n);
}
// first_visible of a row, padded with "sees nothing".
void copy_first_visible(const Problem &p, long row, int32_t *out) {
    memcpy(out, p.first_visible + row * p.tokens, p.tokens * sizeof(int32_t));
    for (long i = p.tokens; i < p.blocks() * B; i++) out[i] = INT_MAX;
}
// C^T[key, query] over the visible tiles.
void key_by_query(const Visible &v, long inner, const bf16 *keys, const uint32_t *queries, float *out) {
    if (v.full) return multiply(B, B, inner, keys, inner, queries, B, out, B, false);
    for (long s = 0; s < TILES; s++) if (!v.queries[s].empty())
        multiply(TILE, v.queries[s].size(), inner, keys + s * TILE * inner, inner, queries + v.queries[s].from, B, out + s * TILE * B + v.queries[s].from, B, false);
}
// C[n, query] += left[n, key] * right[key, query] over the visible tiles.
void add_over_keys(const Visible &v, long n, const bf16 *left, const uint32_t *right, float *out) {
    if (v.full) return multiply(n, B, B, left, B, right, B, out, B, true);
    for (long g = 0; g < TILES; g++) if (!v.keys[g].empty())
        multiply(n, TILE, v.keys[g].size(), left + v.keys[g].from, B, right + v.keys[g].from / 2 * B + g * TILE, B, out + g * TILE, B, true);
}
// C[key, n] += left[key, query] * right[query, n] over the visible tiles.
void add_over_queries(const Visible &v, long n, const bf16 *left, const uint32_t *right, float *out) {
    if (v.full) return multiply(B, n, B, left, B, right, n, out, n, true);
    for (long s = 0; s < TILES; s++) if (!v.queries[s].empty())
        multiply(TILE, n, v.queries[s].size(), left + s * TILE * B + v.queries[s].from, B, right + v.queries[s].from / 2 * n, n, out + s * TILE * n, n, true);
}
}  // namespace
