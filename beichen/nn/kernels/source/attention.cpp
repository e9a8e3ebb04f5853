// Rotary causal attention over packed rows, forward and backward, one task per (row, key/value head).
//
// Scores are held transposed, S^T[key, query]: softmax statistics are then vectors along the queries, and P^T and
// dS^T are already the left factors of dV and dK. Blocks are 64 x 64, in tiles of 16 x 16; a tile that no query sees
// is never computed, so packed short documents cost what they would cost alone. The gradient recomputes P from the
// stored log-sum-exp. Exponents are base 2: P = 2^(S c - L) with c = scale * log2(e).
#include "matmul.h"
#include <cmath>
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

// Scores of one block to pairs of P^T, updating maximum, sum and output so far; the maximum is raised only when
// it grew by more than 2^8, which float32 bears and which spares most rescaling.
template <bool FULL>
void soften(const Visible &v, long n, float c, long j0, long i0, const int32_t *first, const float *scores, uint32_t *pairs, float *top, float *total, float *out) {
    for (long g = 0; g < TILES; g++) {
        const long from = FULL ? 0 : v.keys[g].from, to = FULL ? B : v.keys[g].to;
        if (from >= to) continue;
        const float *S = scores + g * TILE;
        const ints fv = load<ints>(first + i0 + g * TILE);
        vec m = load<vec>(top + g * TILE), l = load<vec>(total + g * TILE), m0 = splat(MASKED), m1 = m0;
        for (long j = from; j < to; j += 2) {
            vec a = load<vec>(S + j * B), b = load<vec>(S + (j + 1) * B);
            if (!FULL) {
                a = seen(j0 + j, i0 + g * TILE, fv) ? a : splat(MASKED);
                b = seen(j0 + j + 1, i0 + g * TILE, fv) ? b : splat(MASKED);
            }
            m0 = maximum(m0, a);
            m1 = maximum(m1, b);
        }
        vec grown = maximum(m0, m1);
        if (largest((grown - m) * c) > 8.f) {
            grown = maximum(grown, m);
            vec shrink = exp2((m - grown) * c);
            l *= shrink;
            for (long r = 0; r < n; r++) store(out + r * B + g * TILE, load<vec>(out + r * B + g * TILE) * shrink);
            m = grown;
            store(top + g * TILE, m);
        }
        const vec offset = m * -c, cv = splat(c);
        for (long j = from; j < to; j += 2) {
            vec a = exp2(fma(load<vec>(S + j * B), cv, offset)), b = exp2(fma(load<vec>(S + (j + 1) * B), cv, offset));
            if (!FULL) {
                a = masked(seen(j0 + j, i0 + g * TILE, fv), a);
                b = masked(seen(j0 + j + 1, i0 + g * TILE, fv), b);
            }
            l += a + b;
            store(pairs + j / 2 * B + g * TILE, narrow_pairs(a, b));
        }
        store(total + g * TILE, l);
    }
}

// P^T and dS^T = P^T (dP^T - D) of one block, both as left factors, dS^T also as a right factor.
template <bool FULL>
void soften_gradient(const Visible &v, float c, long j0, long i0, const int32_t *first, const float *scores, const float *grads, const float *logsum, const float *dots,
                     bf16 *P, bf16 *dS, uint32_t *pairs) {
    for (long j = 0; j < B; j += 2) {
        const Span span = FULL ? Span{0, B} : v.queries[j / TILE];
        for (long i = span.from; i < span.to; i += 16) {
            vec L = load<vec>(logsum + i), D = load<vec>(dots + i), cv = splat(c);
            vec a = exp2(fma(load<vec>(scores + j * B + i), cv, -L)), b = exp2(fma(load<vec>(scores + (j + 1) * B + i), cv, -L));
            if (!FULL) {
                const ints fv = load<ints>(first + i0 + i);
                a = masked(seen(j0 + j, i0 + i, fv), a);
                b = masked(seen(j0 + j + 1, i0 + i, fv), b);
            }
            halves da = narrow(a * (load<vec>(grads + j * B + i) - D)), db = narrow(b * (load<vec>(grads + (j + 1) * B + i) - D));
            store_bf16(P + j * B + i, a);
            store_bf16(P + (j + 1) * B + i, b);
            store(dS + j * B + i, da);
            store(dS + (j + 1) * B + i, db);
            store(pairs + j / 2 * B + i, __builtin_convertvector(da, lanes) | (__builtin_convertvector(db, lanes) << 16));
        }
    }
}

void forward_head(const Problem &p, long row, long kv, bf16 *out, float *logsum, Scratch &scratch) {
    const long n = p.padded_dim(), nb = p.blocks(), W = p.width();
    const float c = p.scale * 1.44269504f, *cos = p.table(p.cos, row), *sin = p.table(p.sin, row);
    scratch.reserve(nb * B * (n * 4 + 4) + B * n * 16 + B * B * 8 + 65536);
    int32_t *first = scratch.take<int32_t>(nb * B);
    bf16 *keys = scratch.take<bf16>(nb * B * n), *values = scratch.take<bf16>(nb * B * n), *rows = scratch.take<bf16>(B * n);
    uint32_t *words = scratch.take<uint32_t>(B * n), *pairs = scratch.take<uint32_t>(B * B / 2);
    float *scores = scratch.take<float>(B * B), *acc = scratch.take<float>(B * n), *flat = scratch.take<float>(B * n);
    float *top = scratch.take<float>(B), *total = scratch.take<float>(B);
    copy_first_visible(p, row, first);
    for (long b = 0; b < nb; b++) {
        gather_rows(p.head(row, p.heads + kv), W, b * B, p.tokens, p.dim, n, cos, sin, keys + b * B * n);
        gather_rows(p.head(row, p.heads + p.kv_heads + kv), W, b * B, p.tokens, p.dim, n, nullptr, nullptr, rows);
        pair_rows(rows, n, words);
        turn_row_pairs(words, n, values + b * B * n);
    }
    for (long h = kv * p.group(); h < (kv + 1) * p.group(); h++) for (long ib = 0; ib < nb; ib++) {
        const long i0 = ib * B, count = p.tokens - i0 < B ? p.tokens - i0 : B;
        gather_rows(p.head(row, h), W, i0, p.tokens, p.dim, n, cos, sin, rows);
        turn_pairs(rows, n, words);
        memset(acc, 0, B * n * sizeof(float));
        memset(total, 0, B * sizeof(float));
        for (long i = 0; i < B; i += 16) store(top + i, splat(MASKED));
        for (long jb = first[i0] < i0 ? first[i0] / B : ib; jb <= ib; jb++) {
            const Visible v = visible(first, jb * B, i0);
            key_by_query(v, n, keys + jb * B * n, words, scores);
            if (v.full) soften<true>(v, n, c, jb * B, i0, first, scores, pairs, top, total, acc);
            else soften<false>(v, n, c, jb * B, i0, first, scores, pairs, top, total, acc);
            add_over_keys(v, n, values + jb * B * n, pairs, acc);
        }
        turn_floats(acc, n, flat);
        for (long i = 0; i < count; i++) {
            const float l = total[i], inverse = l > 0 ? 1 / l : 0;
            logsum[(row * p.heads + h) * p.tokens + i0 + i] = l > 0 ? top[i] * c + std::log2(l) : 0;
            bf16 *o = out + ((row * p.tokens + i0 + i) * p.heads + h) * p.dim;
            long d = 0;
            for (; d + 16 <= p.dim; d += 16) store_bf16(o + d, load<vec>(flat + i * n + d) * inverse);
            for (; d < p.dim; d++) o[d] = to_bf16(flat[i * n + d] * inverse);
        }
    }
}

void backward_head(const Problem &p, long row, long kv, const bf16 *out, const bf16 *grad, const float *logsum, bf16 *dqkv, Scratch &scratch) {
    const long n = p.padded_dim(), nb = p.blocks(), W = p.width(), G = p.group(), area = B * n, width = p.heads * p.dim;
    const float c = p.scale * 1.44269504f, *cos = p.table(p.cos, row), *sin = p.table(p.sin, row);
    scratch.reserve(G * nb * (area * 12 + B * 8) + nb * B * 4 + area * 32 + B * B * 16 + 65536);
    int32_t *first = scratch.take<int32_t>(nb * B);
    uint32_t *q_turned = scratch.take<uint32_t>(G * nb * area / 2), *q_paired = scratch.take<uint32_t>(G * nb * area / 2);
    uint32_t *o_turned = scratch.take<uint32_t>(G * nb * area / 2), *o_paired = scratch.take<uint32_t>(G * nb * area / 2);
    float *dq = scratch.take<float>(G * nb * area), *L = scratch.take<float>(G * nb * B), *D = scratch.take<float>(G * nb * B);
    bf16 *keys = scratch.take<bf16>(area), *keys_turned = scratch.take<bf16>(area), *values = scratch.take<bf16>(area), *rows = scratch.take<bf16>(area);
    uint32_t *words = scratch.take<uint32_t>(area), *pairs = scratch.take<uint32_t>(B * B / 2);
    float *scores = scratch.take<float>(B * B), *grads = scratch.take<float>(B * B), *dk = scratch.take<float>(area), *dv = scratch.take<float>(area);
    bf16 *P = scratch.take<bf16>(B * B), *dS = scratch.take<bf16>(B * B);
    copy_first_visible(p, row, first);
    for (long g = 0; g < G; g++) for (long b = 0; b < nb; b++) {
        const long h = kv * G + g, at = (g * nb + b) * area / 2, i0 = b * B;
        gather_rows(p.head(row, h), W, i0, p.tokens, p.dim, n, cos, sin, rows);
        turn_pairs(rows, n, q_turned + at);
        pair_rows(rows, n, q_paired + at);
        gather_rows(grad + row * p.tokens * width + h * p.dim, width, i0, p.tokens, p.dim, n, nullptr, nullptr, rows);
        turn_pairs(rows, n, o_turned + at);
        pair_rows(rows, n, o_paired + at);
        for (long i = 0; i < B; i++) {
            const bool inside = i0 + i < p.tokens;
            const bf16 *o = out + ((row * p.tokens + i0 + i) * p.heads + h) * p.dim;
            vec dot = {};
            float rest = 0;
            long d = 0;
            for (; inside && d + 16 <= p.dim; d += 16) dot = fma(load_bf16(o + d), load_bf16(rows + i * n + d), dot);
            for (; inside && d < p.dim; d++) rest += to_float(o[d]) * to_float(rows[i * n + d]);
            D[(g * nb + b) * B + i] = sum(dot) + rest;
            L[(g * nb + b) * B + i] = inside ? logsum[(row * p.heads + h) * p.tokens + i0 + i] : 0;
        }
    }
    memset(dq, 0, G * nb * area * sizeof(float));
    for (long jb = 0; jb < nb; jb++) {
        const long j0 = jb * B;
        gather_rows(p.head(row, p.heads + kv), W, j0, p.tokens, p.dim, n, cos, sin, keys);
        pair_rows(keys, n, words);
        turn_row_pairs(words, n, keys_turned);
        gather_rows(p.head(row, p.heads + p.kv_heads + kv), W, j0, p.tokens, p.dim, n, nullptr, nullptr, values);
        memset(dk, 0, area * sizeof(float));
        memset(dv, 0, area * sizeof(float));
        for (long ib = jb; ib < nb && first[ib * B] < j0 + B; ib++) {
            const long i0 = ib * B;
            const Visible v = visible(first, j0, i0);
            for (long g = 0; g < G; g++) {
                const long block = g * nb + ib, at = block * area / 2;
                key_by_query(v, n, keys, q_turned + at, scores);
                key_by_query(v, n, values, o_turned + at, grads);
                if (v.full) soften_gradient<true>(v, c, j0, i0, first, scores, grads, L + block * B, D + block * B, P, dS, pairs);
                else soften_gradient<false>(v, c, j0, i0, first, scores, grads, L + block * B, D + block * B, P, dS, pairs);
                add_over_queries(v, n, P, o_paired + at, dv);
                add_over_queries(v, n, dS, q_paired + at, dk);
                add_over_keys(v, n, keys_turned, pairs, dq + block * area);
            }
        }
        bf16 *base = dqkv + row * p.tokens * W;
        scatter_rows(dk, n, base + (p.heads + kv) * p.dim, W, j0, p.tokens, p.dim, cos, sin, p.scale);
        scatter_rows(dv, n, base + (p.heads + p.kv_heads + kv) * p.dim, W, j0, p.tokens, p.dim, nullptr, nullptr, 1);
    }
    for (long g = 0; g < G; g++) for (long b = 0; b < nb; b++) {
        turn_floats(dq + (g * nb + b) * area, n, dk);
        scatter_rows(dk, n, dqkv + row * p.tokens * W + (kv * G + g) * p.dim, W, b * B, p.tokens, p.dim, cos, sin, p.scale);
    }
}

thread_local Scratch scratch;
}  // namespace

KERNEL void attention_forward(const bf16 *qkv, const float *cos, const float *sin, const int32_t *first_visible, bf16 *out, float *logsum, long rows, long table_rows,
                              long tokens, long heads, long kv_heads, long dim, float scale, int threads) {
    const Problem p{qkv, cos, sin, first_visible, rows, table_rows, tokens, heads, kv_heads, dim, scale};
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < rows * kv_heads; task++) forward_head(p, task / kv_heads, task % kv_heads, out, logsum, scratch);
        multiply_done();
    }
}

KERNEL void attention_backward(const bf16 *qkv, const float *cos, const float *sin, const int32_t *first_visible, const bf16 *out, const bf16 *grad, const float *logsum,
                               bf16 *dqkv, long rows, long table_rows, long tokens, long heads, long kv_heads, long dim, float scale, int threads) {
    const Problem p{qkv, cos, sin, first_visible, rows, table_rows, tokens, heads, kv_heads, dim, scale};
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < rows * kv_heads; task++) backward_head(p, task / kv_heads, task % kv_heads, out, grad, logsum, dqkv, scratch);
        multiply_done();
    }
}
