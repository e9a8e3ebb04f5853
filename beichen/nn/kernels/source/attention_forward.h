// The forward of blocked attention for one key/value head, wherever keys and queries come from: a row of a batch, or a paged cache.
#pragma once
#include "attention_blocks.h"
#include <cmath>

namespace {
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

// What attend_blocks takes of a scratch, with `first` of its caller, for so many blocks of keys and padded head size n.
inline long forward_bytes(long blocks, long n) { return blocks * B * (n * 4 + 4) + B * n * 16 + B * B * 8 + 65536; }

void narrow_row(const float *in, long dim, float factor, bf16 *out) {
    long d = 0;
    for (; d + 16 <= dim; d += 16) store_bf16(out + d, load<vec>(in + d) * factor);
    for (; d < dim; d++) out[d] = to_bf16(in[d] * factor);
}

// Queries of the columns [from, to) of `group` heads against keys of the columns [0, columns), query i seeing first[i] .. i; from at the
// beginning of a block, or the queries before it in its block are gathered as zeros. gather_keys(block, keys, values): its 64 rows of n,
// turned, zero beyond the end. gather_queries(g, i0, rows): 64 of head g. emit(g, i, mixed [n], factor, log2 of the sum of exponentials).
template <typename Keys, typename Queries, typename Emit>
void attend_blocks(long n, long from, long to, long columns, long group, float scale, const int32_t *first, Keys gather_keys, Queries gather_queries, Emit emit, Scratch &scratch) {
    const long begin = from / B, end = (to + B - 1) / B, needed = (columns < to ? columns : to) + B - 1, nb = needed / B;
    const float c = scale * 1.44269504f;
    bf16 *keys = scratch.take<bf16>(nb * B * n), *values = scratch.take<bf16>(nb * B * n), *rows = scratch.take<bf16>(B * n);
    uint32_t *words = scratch.take<uint32_t>(B * n), *pairs = scratch.take<uint32_t>(B * B / 2);
    float *scores = scratch.take<float>(B * B), *acc = scratch.take<float>(B * n), *flat = scratch.take<float>(B * n);
    float *top = scratch.take<float>(B), *total = scratch.take<float>(B);
    for (long b = 0; b < nb; b++) {
        gather_keys(b, keys + b * B * n, rows);
        pair_rows(rows, n, words);
        turn_row_pairs(words, n, values + b * B * n);
    }
    for (long g = 0; g < group; g++) for (long ib = begin; ib < end; ib++) {
        const long i0 = ib * B, stop = to - i0 < B ? to : i0 + B;
        gather_queries(g, i0, rows);
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
        for (long i = i0 < from ? from : i0; i < stop; i++) {
            const float l = total[i - i0];
            emit(g, i, flat + (i - i0) * n, l > 0 ? 1 / l : 0, l > 0 ? top[i - i0] * c + std::log2(l) : 0);
        }
    }
}
}  // namespace
