// Rotary causal attention over packed rows, forward and backward, one task per (row, key/value head).
//
// Scores are held transposed, S^T[key, query]: softmax statistics are then vectors along the queries, and P^T and
// dS^T are already the left factors of dV and dK. Blocks are 64 x 64, in tiles of 16 x 16; a tile that no query sees
// is never computed, so packed short documents cost what they would cost alone. The gradient recomputes P from the
// stored log-sum-exp. Exponents are base 2: P = 2^(S c - L) with c = scale * log2(e).
#include "attention_forward.h"

namespace {
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
    const float *cos = p.table(p.cos, row), *sin = p.table(p.sin, row);
    scratch.reserve(forward_bytes(nb, n));
    int32_t *first = scratch.take<int32_t>(nb * B);
    copy_first_visible(p, row, first);
    auto gather_keys = [&](long b, bf16 *keys, bf16 *values) {
        gather_rows(p.head(row, p.heads + kv), W, b * B, p.tokens, p.dim, n, cos, sin, keys);
        gather_rows(p.head(row, p.heads + p.kv_heads + kv), W, b * B, p.tokens, p.dim, n, nullptr, nullptr, values);
    };
    auto gather_queries = [&](long g, long i0, bf16 *to) { gather_rows(p.head(row, kv * p.group() + g), W, i0, p.tokens, p.dim, n, cos, sin, to); };
    auto emit = [&](long g, long i, const float *mixed, float inverse, float sums) {
        const long h = kv * p.group() + g;
        logsum[(row * p.heads + h) * p.tokens + i] = sums;
        narrow_row(mixed, p.dim, inverse, out + ((row * p.tokens + i) * p.heads + h) * p.dim);
    };
    attend_blocks(n, 0, p.tokens, p.tokens, p.group(), p.scale, first, gather_keys, gather_queries, emit, scratch);
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
