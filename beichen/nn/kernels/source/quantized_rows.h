// y = x W^T + b for a few rows x and quantized weights W (nn/quantized.py): codes are read once and never written out as numbers of W's size.
// Rows of x are 16-bit whole numbers (short_rows.h), one row or several to a vector, each with C words of columns; products with codes are
// added up in whole numbers, exactly.
#pragma once
#include "short_rows.h"

static const int16_t NF4_TABLE[32] = {  // the values of nn/quantized.py; twice, so that what stands above a code's four bits does not matter
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191,
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191};
// Weight rows that are multiplied at once; with few rows of x little more than one after another, so that memory is read in order.
template <int M, Held H> constexpr int TOGETHER = M >= 8 ? 8 : M == 4 ? (H == AS_INT8 ? 8 : 2) : 4;

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
// What NF4's codes in the lowest bits of 16-bit pieces stand for.
INLINE lanes looked_up(shorts table, shorts codes) {
#ifdef BEICHEN_AVX512
    return (lanes)_mm512_permutexvar_epi16((__m512i)codes, (__m512i)table);  // GCC would take two tables
#else
    return (lanes)__builtin_shuffle(table, codes);
#endif
}
INLINE lanes in_register(lanes x) {  // what GCC would load again for each use
#ifdef BEICHEN_AVX512
    asm("" : "+v"(x));
#endif
    return x;
}
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
// The same of int8 codes, for each part of the numbers (short_rows.h).
template <int C> INLINE void repeated_codes(const int8_t *p, lanes (&parts)[2]) {
#ifdef BEICHEN_VNNI
    parts[0] = parts[1] = repeated<C>(p) ^ splat(NO_CODES);
#else
#ifdef BEICHEN_AVX512
    constexpr bool WIDE = true;
#else
    constexpr bool WIDE = C == 16;  // else few words are quicker than vectors in pieces
#endif
    if constexpr (WIDE) {
        const words16 pairs = (words16)repeated<C>(p);
        parts[0] = (lanes)((words16)(pairs << 8) >> 8);
        parts[1] = (lanes)(pairs >> 8);
        return;
    }
    uint32_t words[2][C];
    for (int i = 0; i < 2 * C; i++) words[i % 2][i / 2] = uint16_t(p[i / 2 * 4 + i % 2]) | uint32_t(p[i / 2 * 4 + i % 2 + 2]) << 16;
    for (int part = 0; part < 2; part++) parts[part] = repeated<C>(words[part]);
#endif
}
INLINE ints dot_repeated(ints sum, lanes a, const uint32_t *words, Constant<1>) { return dot_pair_of_shorts(sum, a, words); }
INLINE ints dot_repeated(ints sum, lanes a, const uint32_t *words, Constant<2>) {
#ifdef BEICHEN_AVX512
    lanes both;
    asm("vpbroadcastq %1, %0" : "=v"(both) : "m"(*reinterpret_cast<const uint64_t *>(words)));  // GCC would load and spread them in two steps
    return dot_shorts(sum, a, both);
#else
    return dot_shorts(sum, a, repeated<2>(words));
#endif
}

// sums (the first R): of each weight row with M rows of x, in lane 16 / M * m + c a part of row m's.
template <int M, int R>
INLINE void int8_tile(const lanes *x, const ints *zeros, const int8_t *w, const float *scales, long K, bool first, vec *sums) {
    constexpr int C = 16 / M;
    const long ahead = M <= 2 ? 2 * AHEAD : R * K;
    ints upper[R], lower[R];
    auto add = [&](const int8_t *codes, long stride) {
        for (int s = 0; s < M; s++) {
            const lanes own[2] = {load<lanes>(x + s), load<lanes>(x + M + s)};
            for (int r = 0; r < R; r++) {
                lanes ws[2];
                repeated_codes<C>(codes + r * stride + 4 * C * s, ws);
                upper[r] = dot_codes(upper[r], ws[0], own[0]);
                lower[r] = dot_codes(lower[r], ws[1], own[1]);
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
            if (first) for (int r = 0; r < R; r++) __builtin_prefetch(w + r * K + k + ahead, 0, 2);
            add(w + k, K);
        }
        if (k < end) {
            int8_t rest[R][INT8_COLUMNS] = {};
            for (int r = 0; r < R; r++) memcpy(rest[r], w + r * K + k, end - k);
            add(rest[0], INT8_COLUMNS);
        }
        for (int r = 0; r < R; r++) sums[r] += (to_floats(upper[r]) * UPPER + to_floats(lower[r])) * scales[r];
    }
}
// The same of NF4, two blocks at a time: their products are added up before their scales multiply them. sums [ALONE][16]: of rows that share no
// vector one after another.
template <int M, int R>
INLINE void nf4_tile(const lanes *x, const uint8_t *w, const uint16_t *scales, long blocks, bool first, vec *sums) {
    constexpr int L = SHARING<M, AS_NF4>, ALONE = M / L, C = 16 / L, HALVES = C == 1 ? 2 : 1;  // sums: of each block its own, where a lane has but one word
    const long ahead = L == 1 ? 2 * AHEAD : R * blocks * 32;
    const shorts table = load<shorts>(NF4_TABLE);
    const lanes order = nf4_word_order<C>();
    lanes second;  // lanes of the second block
    for (int i = 0; i < 16; i++) second[i] = (C == 2 ? i % 2 : i / 8) ? ~0u : 0;
    vec totals[R][ALONE] = {};
    for (long sixteen = 0; sixteen < blocks; sixteen += 16) {
        const long here = blocks - sixteen < 16 ? blocks - sixteen : 16;
        alignas(64) float factors[R][16];
        for (int r = 0; r < R; r++) store(factors[r], (vec)(__builtin_convertvector(first_halves(scales + r * blocks + sixteen, here), lanes) << 13) * 0x1p112f);  // as half_to_float
        for (long b = 0; b < here; b += 2) {
            lanes codes[R] = {};
            for (int r = 0; r < R; r++) {
                const uint8_t *at = w + (r * blocks + sixteen + b) * 32;
                if (first) __builtin_prefetch(at + ahead, 0, 2);
                if (b + 2 <= here) codes[r] = load<lanes>(at); else memcpy(codes + r, at, 32);
                if (C == 2) codes[r] = __builtin_shuffle(codes[r], order);
            }
            ints acc[R][ALONE][HALVES] = {};
            #pragma GCC unroll 4
            for (int j = 0; j < 4; j++, x += M) if constexpr (L == 1) {
                lanes own[ALONE];
                for (int a = 0; a < ALONE; a++) own[a] = in_register(load<lanes>(x + a));
                #pragma GCC unroll 4
                for (int r = 0; r < R; r++) {
                    const lanes values = looked_up(table, (shorts)codes[r] >> (4 * j));
                    for (int a = 0; a < ALONE; a++) acc[r][a][0] = dot_shorts(acc[r][a][0], own[a], values);
                }
            } else {
                alignas(64) uint32_t values[R][16];
                for (int r = 0; r < R; r++) store(values[r], looked_up(table, (shorts)codes[r] >> (4 * j)));
                asm("" : "+m"(values));  // GCC would take the words out of registers, one after another
                #pragma GCC unroll 2
                for (int half = 0; half < HALVES; half++) {
                    #pragma GCC unroll 8
                    for (int s = half * (L / HALVES); s < (half + 1) * (L / HALVES); s++) {
                        const lanes own = load<lanes>(x + s);
                        #pragma GCC unroll 8
                        for (int r = 0; r < R; r++) acc[r][0][half] = dot_repeated(acc[r][0][half], own, values[r] + C * s, Constant<C>{});
                    }
                }
            }
            for (int r = 0; r < R; r++) {
                const vec scale[2] = {splat(factors[r][b]), splat(factors[r][b + 1])}, both = (ints)second ? scale[1] : scale[0];
                for (int a = 0; a < ALONE; a++) for (int half = 0; half < HALVES; half++)
                    totals[r][a] = fma(to_floats(acc[r][a][half]), HALVES == 1 ? both : scale[half], totals[r][a]);
            }
        }
    }
    for (int r = 0; r < R; r++) for (int a = 0; a < ALONE; a++) sums[16 * a + r] = totals[r][a];
}

struct QuantizedWeights { Held held; const void *codes, *scales; };  // of a matrix [N, K]
constexpr long IN_REACH = 1 << 19;  // bytes of x that the second cache keeps beside weights
struct Products { float *wide; bf16 *narrow; long stride; };  // rows of either format
// Columns [from, to) of the products' rows.
static void few_row_quantized(const ShortRows &x, long rows, const QuantizedWeights &w, long K, long from, long to, const bf16 *bias, const Products &y) {
    const long blocks = (K + 63) / 64;
    const float one = w.held == AS_NF4 ? 1.f / NF4_ONE : 1.f;
    auto sixteen = [&](auto m_constant, auto held, long m, long n, bool first) {
        constexpr Held H = Held(decltype(held)::value);
        constexpr int M = decltype(m_constant)::value, L = SHARING<M, H>, C = 16 / L, TOGETHER_HERE = TOGETHER<M, H>;
        const int count = to - n < 16 ? int(to - n) : 16;
        const lanes *own = x.x + m * x.vectors;
        vec sums[M / L * 16] = {}, turned[16];
        auto tile = [&](auto r_constant, int r) {
            constexpr int R = decltype(r_constant)::value;
            if constexpr (H == AS_NF4) nf4_tile<M, R>(own, static_cast<const uint8_t *>(w.codes) + (n + r) * blocks * 32, static_cast<const uint16_t *>(w.scales) + (n + r) * blocks, blocks, first, sums + r);
            else int8_tile<M, R>(own, x.zeros + m * x.spans * 2, static_cast<const int8_t *>(w.codes) + (n + r) * K, static_cast<const float *>(w.scales) + n + r, K, first, sums + r);
        };
        int r = 0;
        for (; r + TOGETHER_HERE <= count; r += TOGETHER_HERE) tile(Constant<TOGETHER_HERE>{}, r);
        for (; r < count; r++) tile(Constant<1>{}, r);
        if (L > 1) transpose16(reinterpret_cast<const uint32_t *>(sums), 16, reinterpret_cast<uint32_t *>(turned), 16);
        for (int i = 0; i < M && m + i < rows; i++) {
            vec all = L == 1 ? reduce16(sums + 16 * i) : turned[C * i % 16];
            for (int c = 1; L > 1 && c < C; c++) all += turned[C * i + c];
            all *= x.units[m + i] * one;
            const long at = (m + i) * y.stride + n;
            sixteens(count, [&](long, auto part) {
                if (bias) all += load_bf16(bias + n, part);
                if (y.wide) store_float(y.wide + at, all, part); else store_bf16(y.narrow + at, all, part);
            });
        }
    };
    const long near = IN_REACH / (32 * x.vectors * long(sizeof(lanes))) * 32, together = near > 32 ? near : 32;
    for (long begin = 0; begin < rows; begin += together) for (long n = from; n < to; n += 16) {
        each_group(rows - begin < together ? rows - begin : together, [&](auto m_constant, long m) {
            if (w.held == AS_NF4) sixteen(m_constant, Constant<AS_NF4>{}, begin + m, n, m == 0); else sixteen(m_constant, Constant<AS_INT8>{}, begin + m, n, m == 0);
        });
    }
}
