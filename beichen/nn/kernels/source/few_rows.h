// y = x W^T + b for a few rows x: weights are read once, at the speed of memory.
// Sixteen sums at a time are reduced over their lanes together.
#pragma once
#include "vector.h"

constexpr long AHEAD = 4096;  // bf16 weights fetched ahead, into the second cache: 8 KiB (measured: a sixth faster than 4 KiB into the first)

INLINE vec dot_words(vec sum, lanes a, lanes b) {  // + a[2i] b[2i] + a[2i+1] b[2i+1] of bf16 pairs
#ifdef BEICHEN_AVX512_BF16
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum = fma((vec)(a << 16), (vec)(b << 16), sum);
    return fma((vec)(a & 0xffff0000u), (vec)(b & 0xffff0000u), sum);
#endif
}
INLINE vec dot_pair(vec sum, lanes a, const uint32_t *pair) {  // dot_words with one pair in all lanes
#ifdef BEICHEN_AVX512_BF16
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(a), "m"(*pair));  // GCC does not find that it can read the pair itself
    return sum;
#else
    return dot_words(sum, a, splat(*pair));
#endif
}
INLINE lanes load_words(const bf16 *p, long count) {  // the first `count` of 32 bf16, up to all; without a call, which would empty all registers
#ifdef BEICHEN_AVX512
    return (lanes)_mm512_maskz_loadu_epi16(count < 32 ? (1u << count) - 1 : ~0u, p);
#else
    lanes v = {};
    memcpy(&v, p, (count < 32 ? count : 32) * sizeof(bf16));
    return v;
#endif
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
// 16 results: of 16 / M weight rows after one another (so that memory is read in order), each with M rows of x.
// Result r * M + m. Rows of x lie `stride` apart and are zero beyond K.
template <int M>
INLINE vec rows_in_order(const bf16 *x, long stride, const bf16 *w, long K, int rows) {
    constexpr int CHAINS = M >= 4 ? 1 : 4 / M;  // enough sums in flight to hide the latency of one
    vec dots[16] = {};
    for (int r = 0; r < rows; r++, w += K) {
        vec acc[CHAINS][M] = {};
        long k = 0;
        for (; k + 32 * CHAINS <= K; k += 32 * CHAINS) for (int c = 0; c < CHAINS; c++) {
            __builtin_prefetch(w + k + 32 * c + AHEAD, 0, 2);
            lanes ws = load<lanes>(w + k + 32 * c);
            for (int m = 0; m < M; m++) acc[c][m] = dot_words(acc[c][m], load<lanes>(x + m * stride + k + 32 * c), ws);
        }
        for (; k < K; k += 32) {
            const lanes ws = k + 32 <= K ? load<lanes>(w + k) : load_words(w + k, K - k);
            for (int m = 0; m < M; m++) acc[0][m] = dot_words(acc[0][m], load<lanes>(x + m * stride + k), ws);
        }
        for (int m = 0; m < M; m++) for (int c = 0; c < CHAINS; c++) dots[r * M + m] += acc[c][m];
    }
    return reduce16(dots);
}
// The same of 4 weight rows with 4 rows of x, all in flight at once: half the loads, for products that are not bound by memory.
INLINE vec four_by_four(const bf16 *x, long stride, const bf16 *w, long K, bool first) {
    vec acc[16] = {};
    const long ahead = (AHEAD / K + 4) / 4 * 4 * K;
    auto add = [&](long k, auto words) {
        lanes xs[4];
        for (int m = 0; m < 4; m++) xs[m] = load<lanes>(x + m * stride + k);
        for (int r = 0; r < 4; r++) {
            if (first) __builtin_prefetch(w + r * K + k + ahead, 0, 2);
            const lanes ws = words(w + r * K + k);
            for (int m = 0; m < 4; m++) acc[r * 4 + m] = dot_words(acc[r * 4 + m], xs[m], ws);
        }
    };
    long k = 0;
    for (; k + 32 <= K; k += 32) add(k, [](const bf16 *p) { return load<lanes>(p); });
    if (k < K) add(k, [&](const bf16 *p) { return load_words(p, K - k); });
    return reduce16(acc);
}
template <int M>
static void few_row_columns(const bf16 *x, long stride, long used, const bf16 *w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    constexpr int R = 16 / M;
    for (long n = from; n < to; n += R) {
        const int rows = to - n < R ? int(to - n) : R;
        vec dots = rows_in_order<M>(x, stride, w + n * K, K, rows);
        for (int r = 0; r < rows; r++) for (long m = 0; m < used; m++) y[m * ldy + n + r] = dots[r * M + m] + (bias ? to_float(bias[n + r]) : 0.f);
    }
}
// Columns [from, to) of y [rows, ldy] float32. x: bf16, rows `stride` apart, zero up to a multiple of 32 columns, and
// readable (any finite values) up to the next multiple of four, if there are more than two.
static void few_row_linear(const bf16 *x, long stride, long rows, const bf16 *w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    if (rows == 1) return few_row_columns<1>(x, stride, 1, w, K, from, to, bias, y, ldy);
    if (rows == 2) return few_row_columns<2>(x, stride, 2, w, K, from, to, bias, y, ldy);
    long n = from;
    for (; n + 4 <= to; n += 4) for (long m = 0; m < rows; m += 4) {
        vec dots = four_by_four(x + m * stride, stride, w + n * K, K, m == 0);
        for (long r = 0; r < 4; r++) for (long i = 0; i < 4 && m + i < rows; i++) y[(m + i) * ldy + n + r] = dots[r * 4 + i] + (bias ? to_float(bias[n + r]) : 0.f);
    }
    for (long m = 0; m < rows; m += 4) few_row_columns<4>(x + m * stride, stride, rows - m < 4 ? rows - m : 4, w, K, n, to, bias, y + m * ldy, ldy);
}
// The share of thread `id` in n columns, in steps of 16.
struct Share { long from, to; };
INLINE Share share(long n, int id, int threads) {
    const long steps = (n + 15) / 16, from = steps * id / threads * 16, to = steps * (id + 1) / threads * 16;
    return {from < n ? from : n, to < n ? to : n};
}
// bf16 rows copied to `stride` apart, zero beyond their end.
static void pad_rows(const bf16 *x, long rows, long size, long padded, long stride, bf16 *out) {
    for (long r = 0; r < padded; r++) {
        if (r < rows) memcpy(out + r * stride, x + r * size, size * sizeof(bf16));
        const long filled = r < rows ? size : 0;
        memset(out + r * stride + filled, 0, (stride - filled) * sizeof(bf16));
    }
}
INLINE long padded_columns(long n) { return (n + 31) / 32 * 32; }
