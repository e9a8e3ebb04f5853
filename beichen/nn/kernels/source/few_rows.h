// y = x W^T + b for a few rows x: weights are read once, at the speed of memory.
// 16 sums are in flight: 16 weight rows for one x, 8 for two, ..., 1 for sixteen; they are then reduced together.
#pragma once
#include "vector.h"

INLINE vec dot_words(vec sum, lanes a, lanes b) {  // + a[2i] b[2i] + a[2i+1] b[2i+1] of bf16 pairs
#ifdef BEICHEN_AVX512_BF16
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum = fma((vec)(a << 16), (vec)(b << 16), sum);
    return fma((vec)(a & 0xffff0000u), (vec)(b & 0xffff0000u), sum);
#endif
}
INLINE lanes load_words(const bf16 *p, long count) {  // the first `count` of 32 bf16
    lanes v = {};
    memcpy(&v, p, count * sizeof(bf16));
    return v;
}
// Lane i of the result is the sum of all lanes of a[i].
INLINE vec reduce16(vec *a) {
    const lanes even1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}, odd1 = even1 + 1;
    const lanes even2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}, odd2 = even2 + 2;
    const lanes even4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, odd4 = even4 + 4;
    const lanes even8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, odd8 = even8 + 8;
    for (int i = 0; i < 8; i++) a[i] = __builtin_shuffle(a[2 * i], a[2 * i + 1], even1) + __builtin_shuffle(a[2 * i], a[2 * i + 1], odd1);
    for (int i = 0; i < 4; i++) a[i] = __builtin_shuffle(a[2 * i], a[2 * i + 1], even2) + __builtin_shuffle(a[2 * i], a[2 * i + 1], odd2);
    for (int i = 0; i < 2; i++) a[i] = __builtin_shuffle(a[2 * i], a[2 * i + 1], even4) + __builtin_shuffle(a[2 * i], a[2 * i + 1], odd4);
    return __builtin_shuffle(a[0], a[1], even8) + __builtin_shuffle(a[0], a[1], odd8);
}
// dots[r * M + m] of R weight rows and M rows of x, whose rows lie `stride` apart and are zero beyond K.
template <int M, int R>
INLINE vec few_row_tile(const bf16 *x, long stride, const bf16 *w, long K) {
    constexpr long AHEAD = 4096 / sizeof(bf16);
    vec acc[16] = {};
    long k = 0;
    for (; k + 32 <= K; k += 32) {
        lanes xs[M];
        for (int m = 0; m < M; m++) xs[m] = load<lanes>(x + m * stride + k);
        for (int r = 0; r < R; r++) {
            __builtin_prefetch(w + r * K + k + AHEAD);
            lanes ws = load<lanes>(w + r * K + k);
            for (int m = 0; m < M; m++) acc[r * M + m] = dot_words(acc[r * M + m], xs[m], ws);
        }
    }
    if (k < K) for (int r = 0; r < R; r++) {
        lanes ws = load_words(w + r * K + k, K - k);
        for (int m = 0; m < M; m++) acc[r * M + m] = dot_words(acc[r * M + m], load<lanes>(x + m * stride + k), ws);
    }
    return reduce16(acc);
}
template <int M>
static void few_row_columns(const bf16 *x, long stride, long used, const bf16 *w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    constexpr int R = 16 / M;
    auto finish = [&](long n, int count, vec dots) {
        for (int r = 0; r < count; r++) for (long m = 0; m < used; m++) y[m * ldy + n + r] = dots[r * M + m] + (bias ? to_float(bias[n + r]) : 0.f);
    };
    long n = from;
    for (; n + R <= to; n += R) {
        vec dots = few_row_tile<M, R>(x, stride, w + n * K, K);
        if (M == 1 && !bias) store(y + n, dots);
        else finish(n, R, dots);
    }
    for (; n < to; n++) finish(n, 1, few_row_tile<M, 1>(x, stride, w + n * K, K));
}
// Columns [from, to) of y [rows, ldy] float32. x: bf16, rows `stride` apart, zero up to a multiple of 32 columns, and
// readable (any finite values) up to the next power of two of rows, or multiple of 16.
static void few_row_linear(const bf16 *x, long stride, long rows, const bf16 *w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    if (rows == 1) return few_row_columns<1>(x, stride, 1, w, K, from, to, bias, y, ldy);
    if (rows == 2) return few_row_columns<2>(x, stride, 2, w, K, from, to, bias, y, ldy);
    if (rows <= 4) return few_row_columns<4>(x, stride, rows, w, K, from, to, bias, y, ldy);
    if (rows <= 8) return few_row_columns<8>(x, stride, rows, w, K, from, to, bias, y, ldy);
    constexpr long STRIP = 16;  // weight rows that stay in the nearest cache while all of x passes by
    for (long n = from; n < to; n += STRIP) for (long m = 0; m < rows; m += 16)
        few_row_columns<16>(x + m * stride, stride, rows - m < 16 ? rows - m : 16, w, K, n, n + STRIP < to ? n + STRIP : to, bias, y + m * ldy, ldy);
}
// The share of thread `id` in n columns, in steps of 16.
struct Share { long from, to; };
INLINE Share share(long n, int id, int threads) {
    const long steps = (n + 15) / 16, from = steps * id / threads * 16, to = steps * (id + 1) / threads * 16;
    return {from < n ? from : n, to < n ? to : n};
}
INLINE long padded_rows(long rows) { return rows <= 2 ? rows : rows <= 4 ? 4 : rows <= 8 ? 8 : (rows + 15) / 16 * 16; }
INLINE long padded_columns(long n) { return (n + 31) / 32 * 32; }
