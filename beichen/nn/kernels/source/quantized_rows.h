// y = x W^T + b for a few rows x and quantized weights W (nn/quantized.py): codes are read once and never written out as numbers of W's size.
// Rows of x are 16-bit whole numbers (short_rows.h), 16 / C of them side by side in the lanes, each with C words of columns; products with
// codes are added up in whole numbers, exactly.
#pragma once
#include "short_rows.h"

static const int16_t NF4_TABLE[32] = {  // the values of nn/quantized.py; twice, so that what stands above a code's four bits does not matter
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191,
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191};
constexpr int TOGETHER = 8;  // weight rows that are multiplied at once

INLINE float half_to_float(uint16_t half) {  // of a float16 that is 0 or more
    const uint32_t bits = uint32_t(half) << 13;
    float shifted; memcpy(&shifted, &bits, 4);
    return shifted * 0x1p112f;
}
// The first 16 halves, of which `left` are there; without a call, which would empty all registers.
#if defined(BEICHEN_AVX512) && defined(__AVX512VL__)
INLINE halves first_halves(const uint16_t *p, long left) { return (halves)_mm256_maskz_loadu_epi16(left >= 16 ? 0xffff : (1u << left) - 1, p); }
#else
INLINE halves first_halves(const uint16_t *p, long left) { halves v = {}; memcpy(&v, p, (left < 16 ? left : 16) * sizeof(uint16_t)); return v; }
#endif
// C words, again and again.
template <int C> INLINE lanes repeated(const void *p) {
    if constexpr (C == 1) return splat(load<uint32_t>(static_cast<const uint32_t *>(p)));
    if constexpr (C == 16) return load<lanes>(static_cast<const uint32_t *>(p));
#ifdef BEICHEN_AVX512
    if constexpr (C == 2) return (lanes)_mm512_set1_epi64(load<long long>(static_cast<const long long *>(p)));
    if constexpr (C == 4) return (lanes)_mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i *>(p)));
    return (lanes)_mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
#else
    lanes v;
    for (int i = 0; i < 16; i += C) memcpy(reinterpret_cast<uint32_t *>(&v) + i, p, 4 * C);
    return v;
#endif
}

// sums [R]: of each weight row with M rows of x, lane 16 / M * m + c a part of row m's.
template <int M, int R>
INLINE void int8_tile(const lanes *x, const ints *zeros, const int8_t *w, const float *scales, long K, bool first, vec *sums) {
    constexpr int C = 16 / M;
    ints upper[R], lower[R];
    auto add = [&](const int8_t *codes, long stride) {
        for (int s = 0; s < M; s++) {
            const lanes own[2] = {load<lanes>(x + s), load<lanes>(x + M + s)};
            for (int r = 0; r < R; r++) {
                const lanes ws = ready_codes(repeated<C>(codes + r * stride + 4 * C * s));
                upper[r] = dot_codes<0>(upper[r], ws, own[0]);
                lower[r] = dot_codes<1>(lower[r], ws, own[1]);
            }
        }
        x += 2 * M;
    };
    for (int r = 0; r < R; r++) sums[r] = vec{};
    for (long begin = 0; begin < K; begin += INT8_COLUMNS * SPAN, zeros += 2) {
        const long end = K - begin < INT8_COLUMNS * SPAN ? K : begin + INT8_COLUMNS * SPAN;
        for (int r = 0; r < R; r++) { upper[r] = zeros[0]; lower[r] = zeros[1]; }
        long k = begin;
        for (; k + INT8_COLUMNS <= end; k += INT8_COLUMNS) {
            if (first) for (int r = 0; r < R; r++) __builtin_prefetch(w + (R + r) * K + k, 0, 2);
            add(w + k, K);
        }
        if (k < end) {
            int8_t rest[R][INT8_COLUMNS] = {};
            for (int r = 0; r < R; r++) memcpy(rest[r], w + r * K + k, end - k);
            add(rest[0], INT8_COLUMNS);
        }
        for (int r = 0; r < R; r++) sums[r] += to_floats(upper[r]) * UPPER + to_floats(lower[r]);
    }
    for (int r = 0; r < R; r++) sums[r] *= scales[r];
}
// The same of NF4: two blocks at a time, each with its scale, whose products are added up before it multiplies them.
template <int M, int R>
INLINE void nf4_tile(const lanes *x, const uint8_t *w, const uint16_t *scales, long blocks, bool first, vec *sums) {
    constexpr int C = 16 / M;
    const shorts table = load<shorts>(NF4_TABLE);
    const lanes order = nf4_word_order<C>();
    lanes second;  // lanes of the second block
    for (int i = 0; i < 16; i++) second[i] = i % C < C / 2 ? 0 : ~0u;
    vec totals[R] = {};
    for (long sixteen = 0; sixteen < blocks; sixteen += 16) {
        const long here = blocks - sixteen < 16 ? blocks - sixteen : 16;
        alignas(64) float factors[R][16];
        for (int r = 0; r < R; r++) store(factors[r], (vec)(__builtin_convertvector(first_halves(scales + r * blocks + sixteen, here), lanes) << 13) * 0x1p112f);  // as half_to_float
        for (long b = 0; b < here; b += 2, x += 4 * M) {
            alignas(64) uint32_t values[R][4][16];
            for (int r = 0; r < R; r++) {
                const uint8_t *at = w + (r * blocks + sixteen + b) * 32;
                if (first) __builtin_prefetch(at + R * blocks * 32, 0, 2);
                lanes codes = {};
                if (b + 2 <= here) codes = load<lanes>(at); else memcpy(&codes, at, 32);
                if (C > 1 && C < 16) codes = __builtin_shuffle(codes, order);
                for (int j = 0; j < 4; j++) store(values[r][j], __builtin_shuffle(table, (shorts)codes >> (4 * j)));
            }
            ints acc[R] = {};
            auto add = [&](int from, int to) {
                for (int j = 0; j < 4; j++) for (int s = from; s < to; s++) {
                    const lanes own = load<lanes>(x + j * M + s);
                    for (int r = 0; r < R; r++) {
                        if constexpr (C == 1) acc[r] = dot_pair_of_shorts(acc[r], own, &values[r][j][s]);
                        else acc[r] = dot_shorts(acc[r], own, repeated<C>(values[r][j] + C * s));
                    }
                }
            };
            if constexpr (C == 1) for (int half = 0; half < 2; half++) {
                add(8 * half, 8 * half + 8);
                for (int r = 0; r < R; r++) { totals[r] = fma(to_floats(acc[r]), splat(factors[r][b + half]), totals[r]); acc[r] = ints{}; }
            } else {
                add(0, M);
                for (int r = 0; r < R; r++) totals[r] = fma(to_floats(acc[r]), (ints)second ? splat(factors[r][b + 1]) : splat(factors[r][b]), totals[r]);
            }
        }
    }
    for (int r = 0; r < R; r++) sums[r] = totals[r];
}

struct QuantizedWeights { Held held; const void *codes, *scales; };  // of a matrix [N, K]
// Columns [from, to) of y [rows, ldy] float32.
static void few_row_quantized(const ShortRows &x, long rows, const QuantizedWeights &w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    const long blocks = (K + 63) / 64;
    const float one = w.held == AS_NF4 ? 1.f / NF4_ONE : 1.f;
    for (long n = from; n < to; n += 16) each_group(rows, [&](auto m_constant, long m) {
        constexpr int M = decltype(m_constant)::value, C = 16 / M;
        const int count = to - n < 16 ? int(to - n) : 16;
        const lanes *own = x.x + m * x.vectors;
        vec sums[16] = {}, turned[16];
        auto tile = [&](auto r_constant, int r) {
            constexpr int R = decltype(r_constant)::value;
            if (w.held == AS_NF4) nf4_tile<M, R>(own, static_cast<const uint8_t *>(w.codes) + (n + r) * blocks * 32, static_cast<const uint16_t *>(w.scales) + (n + r) * blocks, blocks, m == 0, sums + r);
            else int8_tile<M, R>(own, x.zeros + m * x.spans * 2, static_cast<const int8_t *>(w.codes) + (n + r) * K, static_cast<const float *>(w.scales) + n + r, K, m == 0, sums + r);
        };
        int r = 0;
        for (; r + TOGETHER <= count; r += TOGETHER) tile(Constant<TOGETHER>{}, r);
        for (; r < count; r++) tile(Constant<1>{}, r);
        transpose16(reinterpret_cast<const uint32_t *>(sums), 16, reinterpret_cast<uint32_t *>(turned), 16);
        for (int i = 0; i < M && m + i < rows; i++) {
            vec all = turned[C * i];
            for (int c = 1; c < C; c++) all += turned[C * i + c];
            all *= x.units[m + i] * one;
            float *to_row = y + (m + i) * ldy + n;
            if (count == 16) sixteens(16, [&](long, auto part) { store_float(to_row, bias ? all + load_bf16(bias + n, part) : all, part); });
            else sixteens(count, [&](long, auto part) { store_float(to_row, bias ? all + load_bf16(bias + n, part) : all, part); });
        }
    });
}
