// y = x W^T + b for a few rows x and quantized weights W (nn/quantized.py): codes are read once and never written out as numbers.
// Rows of x become 16-bit whole numbers, the largest of a row 32767: their error is at most 2^-16 of it, below that of bf16. Products with
// codes are added up in whole numbers, exactly.
#pragma once
#include "few_rows.h"
#include <cmath>
#include <type_traits>

template <int N> using Constant = std::integral_constant<int, N>;
enum Held : int { AS_BF16 = 0, AS_INT8 = 1, AS_NF4 = 2 };

constexpr long GROUP = 128, SPAN = 8192;  // columns: of two NF4 blocks; whose int8 products fit into 32 bits, two to a lane
constexpr int NF4_ONE = 8191;  // what 1 stands for below: the products of a group fit into 32 bits
static const int16_t NF4_TABLE[32] = {  // the values of nn/quantized.py; twice, so that what stands above a code's four bits does not matter
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191,
    -8191, -5703, -4301, -3235, -2330, -1513, -746, 0, 652, 1318, 2016, 2768, 3610, 4608, 5922, 8191};
static const float NF4_VALUES[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
static const uint16_t FOURTHS[64] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60};
static const uint16_t ENDS[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};  // the first half of one vector, the second of another
typedef int16_t words16 __attribute__((vector_size(64), aligned(64), may_alias));
typedef int8_t codes16 __attribute__((vector_size(16), aligned(16), may_alias));
typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(16), may_alias));
typedef int8_t bytes8 __attribute__((vector_size(32), aligned(32), may_alias));

// Rows of x as whole numbers: [padded, stride], zero beyond their end, and what one unit of each row is worth.
struct ShortRows { int16_t *x; float *units; long stride; };
INLINE long short_columns(long n) { return (n + GROUP - 1) / GROUP * GROUP; }
INLINE long short_padded(long rows) { return rows <= 2 ? rows : rows <= 4 ? 4 : (rows + 7) / 8 * 8; }
INLINE size_t short_bytes(long rows, long n) { return short_padded(rows) * (short_columns(n) * sizeof(int16_t) + sizeof(float)) + 256; }

// 128 columns in the order in which a 16-bit piece of codes holds them: vector j has columns 4w + {1, 0, 3, 2}[j], w = 0 .. 31.
INLINE void into_nf4_order(int16_t *x) {
    const shorts low[2] = {load<shorts>(x), load<shorts>(x + 32)}, high[2] = {load<shorts>(x + 64), load<shorts>(x + 96)};
    const shorts first = load<shorts>(FOURTHS), second = load<shorts>(FOURTHS + 32), ends = load<shorts>(ENDS);
    for (int j = 0; j < 4; j++) {
        const uint16_t at = j ^ 1;
        shorts begin = __builtin_shuffle(low[0], low[1], first + at), end = __builtin_shuffle(high[0], high[1], second + at);
        store(x + 32 * j, __builtin_shuffle(begin, end, ends));
    }
}
static void into_shorts(const bf16 *x, long from_stride, long rows, long K, Held held, ShortRows out) {
    for (long r = 0; r < short_padded(rows); r++) {
        int16_t *to = out.x + r * out.stride;
        const bf16 *from = x + r * from_stride;
        out.units[r] = 0;
        if (r < rows) {
            ints top = {};  // of magnitudes, compared as bits: a NaN is the largest
            sixteens(K, [&](long k, auto part) { ints m = (ints)load_bf16(from + k, part) & 0x7fffffff; top = m > top ? m : top; });
            int32_t bits = 0;
            for (int i = 0; i < 16; i++) bits = top[i] > bits ? top[i] : bits;
            float largest; memcpy(&largest, &bits, 4);
            const bool finite = bits < 0x7f800000, none = largest < 1e-30f;  // as good as zero
            const float inverse = finite && !none ? 32767 / largest : 0;
            out.units[r] = !finite ? NAN : none ? 0 : largest / 32767;
            sixteens(K, [&](long k, auto part) {  // adding 1.5 * 2^23 rounds, and leaves the whole number in the lower half
                lanes whole = (lanes)((finite ? load_bf16(from + k, part) : vec{}) * inverse + 12582912.f);
                store(to + k, __builtin_convertvector(whole, halves));
            });
        }
        const long filled = r < rows ? (K + 15) / 16 * 16 : 0;
        memset(to + filled, 0, (out.stride - filled) * sizeof(int16_t));
        if (held == AS_NF4) for (long k = 0; k < out.stride; k += GROUP) into_nf4_order(to + k);
    }
}

INLINE ints dot_shorts(ints sum, lanes a, lanes b) {  // + a[2i] b[2i] + a[2i+1] b[2i+1]
#if defined(BEICHEN_AVX512) && defined(__AVX512VNNI__)
    return (ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(BEICHEN_AVX512)
    return sum + (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#else
    return sum + ((ints)(a << 16) >> 16) * ((ints)(b << 16) >> 16) + ((ints)a >> 16) * ((ints)b >> 16);
#endif
}
INLINE float half_to_float(uint16_t half) {  // of a float16 that is 0 or more
    const uint32_t bits = uint32_t(half) << 13;
    float shifted; memcpy(&shifted, &bits, 4);
    return shifted * 0x1p112f;
}
INLINE ints sixteen_codes(const int8_t *p, Whole) { return __builtin_convertvector(load<codes16>(p), ints); }
INLINE ints sixteen_codes(const int8_t *p, Part part) { codes16 v = {}; memcpy(&v, p, part.count); return __builtin_convertvector(v, ints); }
INLINE vec to_floats(ints x) { return __builtin_convertvector(x, vec); }
// The first 32 bytes, or 16 halves, of which `left` are there; without a call, which would empty all registers.
#if defined(BEICHEN_AVX512) && defined(__AVX512VL__)
INLINE bytes8 first_bytes(const int8_t *p, long left) { return (bytes8)_mm256_maskz_loadu_epi8(left >= 32 ? ~0u : (1u << left) - 1, p); }
INLINE halves first_halves(const uint16_t *p, long left) { return (halves)_mm256_maskz_loadu_epi16(left >= 16 ? 0xffff : (1u << left) - 1, p); }
#else
INLINE bytes8 first_bytes(const int8_t *p, long left) { bytes8 v = {}; memcpy(&v, p, left < 32 ? left : 32); return v; }
INLINE halves first_halves(const uint16_t *p, long left) { halves v = {}; memcpy(&v, p, (left < 16 ? left : 16) * sizeof(uint16_t)); return v; }
#endif
INLINE lanes widen_codes(bytes8 codes) {
#ifdef BEICHEN_AVX512
    return (lanes)_mm512_cvtepi8_epi16((__m256i)codes);
#else
    return (lanes)__builtin_convertvector(codes, words16);
#endif
}

// Sixteen sums, as `rows_in_order` gives them.
template <int M>
INLINE vec int8_in_order(const int16_t *x, long stride, const int8_t *w, const float *scales, long K, int rows) {
    constexpr int CHAINS = 4 / M;
    vec dots[16] = {};
    for (int r = 0; r < rows; r++, w += K) for (long begin = 0; begin < K; begin += SPAN) {
        const long end = K - begin < SPAN ? K : begin + SPAN;
        ints acc[CHAINS][M] = {};
        long k = begin;
        for (; k + 32 * CHAINS <= end; k += 32 * CHAINS) for (int c = 0; c < CHAINS; c++) {
            if (c % 2 == 0) __builtin_prefetch(w + k + 32 * c + 2 * AHEAD, 0, 2);
            const lanes ws = widen_codes(load<bytes8>(w + k + 32 * c));
            for (int m = 0; m < M; m++) acc[c][m] = dot_shorts(acc[c][m], load<lanes>(x + m * stride + k + 32 * c), ws);
        }
        for (; k < end; k += 32) {
            const lanes ws = widen_codes(first_bytes(w + k, end - k));
            for (int m = 0; m < M; m++) acc[0][m] = dot_shorts(acc[0][m], load<lanes>(x + m * stride + k), ws);
        }
        for (int m = 0; m < M; m++) {
            ints all = {};
            for (int c = 0; c < CHAINS; c++) all += acc[c][m];
            dots[r * M + m] += to_floats(all) * scales[r];
        }
    }
    return reduce16(dots);
}
// The same of R weight rows with M rows of x, R * M = 16, all in flight at once.
template <int R, int M>
INLINE vec int8_tile(const int16_t *x, long stride, const int8_t *w, const float *scales, long K, bool first) {
    vec dots[16] = {};
    for (long begin = 0; begin < K; begin += SPAN) {
        const long end = K - begin < SPAN ? K : begin + SPAN;
        ints acc[16] = {};
        for (long k = begin; k < end; k += 32) {
            lanes xs[M];
            for (int m = 0; m < M; m++) xs[m] = load<lanes>(x + m * stride + k);
            for (int r = 0; r < R; r++) {
                if (first && k % 64 == 0) __builtin_prefetch(w + (r + R) * K + k);
                const lanes ws = widen_codes(first_bytes(w + r * K + k, end - k));
                for (int m = 0; m < M; m++) acc[r * M + m] = dot_shorts(acc[r * M + m], xs[m], ws);
            }
        }
        for (int i = 0; i < 16; i++) dots[i] += to_floats(acc[i]) * scales[i / M];
    }
    return reduce16(dots);
}
// Of NF4: two blocks at a time, each with its scale, whose products are added up before it multiplies them.
template <int M>
INLINE vec nf4_in_order(const int16_t *x, long stride, const uint8_t *w, const uint16_t *scales, long blocks, int rows) {
    const shorts table = load<shorts>(NF4_TABLE);
    const lanes eight = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    vec dots[16] = {};
    for (int r = 0; r < rows; r++, w += 32 * blocks, scales += blocks) for (long sixteen = 0; sixteen < blocks; sixteen += 16) {
        const long here = blocks - sixteen < 16 ? blocks - sixteen : 16;
        const halves some = first_halves(scales + sixteen, here);
        const vec factors = (vec)(__builtin_convertvector(some, lanes) << 13) * 0x1p112f;  // as half_to_float
        for (long b = 0; b < here; b += 2) {
            const uint8_t *at = w + 32 * (sixteen + b);
            __builtin_prefetch(at + 2 * AHEAD, 0, 2);
            shorts codes = {};
            if (b + 2 <= here) codes = load<shorts>(at); else memcpy(&codes, at, 32);
            const int16_t *columns = x + (sixteen + b) * 64;
            ints acc[M] = {};
            for (int j = 0; j < 4; j++) {
                const lanes values = (lanes)__builtin_shuffle(table, codes >> (4 * j));
                for (int m = 0; m < M; m++) acc[m] = dot_shorts(acc[m], load<lanes>(columns + m * stride + 32 * j), values);
            }
            const vec factor = __builtin_shuffle(factors, eight + uint32_t(b));
            for (int m = 0; m < M; m++) dots[r * M + m] = fma(to_floats(acc[m]), factor, dots[r * M + m]);
        }
    }
    return reduce16(dots);
}

struct QuantizedWeights { Held held; const void *codes, *scales; };  // of a matrix [N, K]
// Columns [from, to) of y [rows, ldy] float32.
static void few_row_quantized(const ShortRows &x, long rows, const QuantizedWeights &w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    const long blocks = (K + 63) / 64;
    const auto *bytes = static_cast<const uint8_t *>(w.codes);
    const auto *whole = static_cast<const int8_t *>(w.codes);
    const float one = w.held == AS_NF4 ? 1.f / NF4_ONE : 1.f;
    auto each = [&](auto m_constant, long begin, long end, long m, auto dots_of) {
        constexpr int M = decltype(m_constant)::value, R = 16 / M;
        for (long n = begin; n < end; n += R) {
            const int count = end - n < R ? int(end - n) : R;
            const vec dots = dots_of(x.x + m * x.stride, n, count);
            for (int r = 0; r < count; r++) for (long i = 0; i < M && m + i < rows; i++)
                y[(m + i) * ldy + n + r] = dots[r * M + i] * (x.units[m + i] * one) + (bias ? to_float(bias[n + r]) : 0.f);
        }
    };
    auto nf4 = [&](auto m_constant, long begin, long end, long m) {
        each(m_constant, begin, end, m, [&](const int16_t *rows_of, long n, int count) {
            return nf4_in_order<decltype(m_constant)::value>(rows_of, x.stride, bytes + n * blocks * 32, static_cast<const uint16_t *>(w.scales) + n * blocks, blocks, count);
        });
    };
    auto int8 = [&](auto m_constant, long begin, long end, long m) {
        each(m_constant, begin, end, m, [&](const int16_t *rows_of, long n, int count) {
            constexpr int M = decltype(m_constant)::value, R = 16 / M;
            const float *scales = static_cast<const float *>(w.scales) + n;
            if constexpr (M > 2) if (count == R) return int8_tile<R, M>(rows_of, x.stride, whole + n * K, scales, K, m == 0);
            constexpr int FEW = M > 2 ? 1 : M;
            if constexpr (M <= 2) return int8_in_order<FEW>(rows_of, x.stride, whole + n * K, scales, K, count);
            vec dots = {};  // the last few weight rows, one row of x after another
            for (int i = 0; i < M; i++) {
                const vec own = int8_in_order<FEW>(rows_of + i * x.stride, x.stride, whole + n * K, scales, K, count);
                for (int r = 0; r < count; r++) dots[r * M + i] = own[r];
            }
            return dots;
        });
    };
    auto all = [&](auto product, auto most) {
        if (rows == 1) return product(Constant<1>{}, from, to, 0);
        if (rows == 2) return product(Constant<2>{}, from, to, 0);
        if (rows <= 4) return product(Constant<4>{}, from, to, 0);
        constexpr int MOST = decltype(most)::value, R = 16 / MOST;
        for (long n = from; n < to; n += R) for (long m = 0; m < rows; m += MOST) product(most, n, n + R < to ? n + R : to, m);
    };
    if (w.held == AS_NF4) all(nf4, Constant<8>{}); else all(int8, Constant<4>{});
}
