// Rows of x as 16-bit whole numbers, side by side in the lanes of vectors, as products with codes take them (quantized_rows.h).
// The error of a number is at most 2^-16 of its row's length: of a row as a whole below that of bf16.
#pragma once
#include "few_rows.h"
#include <cmath>
#include <type_traits>

template <int N> using Constant = std::integral_constant<int, N>;
enum Held : int { AS_BF16 = 0, AS_INT8 = 1, AS_NF4 = 2 };
#if defined(BEICHEN_AVX512) && defined(__AVX512VNNI__)
#define BEICHEN_VNNI 1
#elif defined(__AVX2__)
#include <immintrin.h>
#endif

constexpr long INT8_COLUMNS = 64, NF4_COLUMNS = 128;  // that are multiplied in one go: two vectors of a row, and four
constexpr float MOST = 32639;  // of a whole number: its bytes are -128 .. 127 both
constexpr int NF4_ONE = 8191;  // what 1 stands for in NF4's table
constexpr float NF4_MOST = 262000;  // of the sum of a block's magnitudes: with the table, below 2^31
#ifdef BEICHEN_VNNI
// Numbers come in two parts, upper and lower bytes, the upper ones worth 256; codes as bytes without a sign, 128 above what they are.
constexpr float UPPER = 256;
constexpr uint32_t NO_CODES = 0x80808080;  // four codes of 0
constexpr long SPAN = 512;  // steps of 64 columns whose products with int8 codes fit into 32 bits, all in one lane
#else
// Numbers come in two parts, of even and odd columns, as do codes.
constexpr float UPPER = 1;
constexpr uint32_t NO_CODES = 0;
constexpr long SPAN = 8;
#endif
static const uint16_t FOURTHS[64] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60};
static const uint16_t ENDS[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};  // the first half of one vector, the second of another
typedef int16_t words16 __attribute__((vector_size(64), aligned(64), may_alias));
typedef uint8_t bytes64 __attribute__((vector_size(64), aligned(64), may_alias));

INLINE ints dot_shorts(ints sum, lanes a, lanes b) {  // + a[2i] b[2i] + a[2i+1] b[2i+1]
#if defined(BEICHEN_VNNI)
    return (ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(BEICHEN_AVX512)
    return sum + (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    for (int half = 0; half < 2; half++) {
        __m256i parts[3];
        memcpy(parts, reinterpret_cast<char *>(&sum) + 32 * half, 32);
        memcpy(parts + 1, reinterpret_cast<char *>(&a) + 32 * half, 32);
        memcpy(parts + 2, reinterpret_cast<char *>(&b) + 32 * half, 32);
        parts[0] = _mm256_add_epi32(parts[0], _mm256_madd_epi16(parts[1], parts[2]));
        memcpy(reinterpret_cast<char *>(&sum) + 32 * half, parts, 32);
    }
    return sum;
#else
    return sum + ((ints)(a << 16) >> 16) * ((ints)(b << 16) >> 16) + ((ints)a >> 16) * ((ints)b >> 16);
#endif
}
INLINE ints dot_pair_of_shorts(ints sum, lanes a, const uint32_t *pair) {  // the same with one pair in all lanes
#ifdef BEICHEN_VNNI
    asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(a), "m"(*pair));  // as dot_pair
    return sum;
#elif defined(BEICHEN_AVX512)
    lanes all;
    asm("vpbroadcastd %1, %0" : "=v"(all) : "m"(*pair));
    return dot_shorts(sum, a, all);
#else
    return dot_shorts(sum, a, splat(*pair));
#endif
}
// Four int8 codes a lane times the numbers of one part of 64 columns.
INLINE ints dot_codes(ints sum, lanes codes, lanes numbers) {
#ifdef BEICHEN_VNNI
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)numbers);
#else
    return dot_shorts(sum, codes, numbers);
#endif
}
INLINE vec to_floats(ints x) { return __builtin_convertvector(x, vec); }

// Rows stand in groups of 16, 8, 4, 2 or 1. A vector holds as many rows of a group as share it, each with 16 / L words of columns in lanes of its
// own (the first row's come first): all of a group, but for the few that NF4's values, spread over lanes by no load, are multiplied with at once.
template <int M, Held H> constexpr int SHARING = H == AS_INT8 || M >= 8 ? M : 1;
INLINE int group_of(long left) { return left >= 13 ? 16 : left >= 5 ? 8 : left >= 3 ? 4 : int(left); }
INLINE long short_padded(long rows) {
    long padded = 0;
    for (; padded < rows; padded += group_of(rows - padded)) {}
    return padded;
}
INLINE long row_vectors(long K, Held held) { return held == AS_NF4 ? (K + NF4_COLUMNS - 1) / NF4_COLUMNS * 4 : (K + INT8_COLUMNS - 1) / INT8_COLUMNS * 2; }
INLINE long row_spans(long K) { return (K + INT8_COLUMNS * SPAN - 1) / (INT8_COLUMNS * SPAN); }
// x: of each group [vectors of a row, M] vectors; units: what 1 is worth in each row; zeros: of each group [spans, 2] what int8 codes of
// 0 add to the sums, negative.
struct ShortRows { lanes *x; float *units; ints *zeros; long vectors, spans; };
INLINE size_t short_bytes(long rows, long K) {
    return short_padded(rows) * (((K + NF4_COLUMNS - 1) / NF4_COLUMNS * 4 + row_spans(K) * 2) * sizeof(vec) + sizeof(float)) + 256;
}
INLINE ShortRows take_shorts(Scratch &scratch, long rows, long K) {
    const long padded = short_padded(rows);
    auto *x = scratch.take<lanes>(padded * ((K + NF4_COLUMNS - 1) / NF4_COLUMNS * 4));
    auto *zeros = scratch.take<ints>(padded * row_spans(K) * 2);
    return {x, scratch.take<float>(padded), zeros, 0, 0};
}

// 128 columns in the order in which a 16-bit piece of codes holds them: vector j has columns 4w + {1, 0, 3, 2}[j], w = 0 .. 31.
INLINE void into_nf4_order(const int16_t *x, lanes *out) {
    const shorts low[2] = {load<shorts>(x), load<shorts>(x + 32)}, high[2] = {load<shorts>(x + 64), load<shorts>(x + 96)};
    const shorts first = load<shorts>(FOURTHS), second = load<shorts>(FOURTHS + 32), ends = load<shorts>(ENDS);
    for (int j = 0; j < 4; j++) {
        const uint16_t at = j ^ 1;
        shorts begin = __builtin_shuffle(low[0], low[1], first + at), end = __builtin_shuffle(high[0], high[1], second + at);
        out[j] = (lanes)__builtin_shuffle(begin, end, ends);
    }
}
// The two parts of 64 columns.
INLINE void into_parts(const int16_t *x, lanes *out) {
#ifdef BEICHEN_VNNI
    const words16 numbers[2] = {load<words16>(x), load<words16>(x + 32)};
    bytes64 lower;
    for (int i = 0; i < 64; i++) lower[i] = 2 * i;
    out[0] = (lanes)__builtin_shuffle((bytes64)(numbers[0] + 128), (bytes64)(numbers[1] + 128), lower + 1);
    out[1] = (lanes)__builtin_shuffle((bytes64)numbers[0], (bytes64)numbers[1], lower);
#else
    int16_t parts[2][32];
    for (int i = 0; i < 32; i++) { parts[0][i] = x[2 * i]; parts[1][i] = x[2 * i + 1]; }
    memcpy(out, parts, sizeof(parts));
#endif
}
// In which order 16 words of NF4 codes are taken, C at a time: as they come, but of two one from each block.
template <int C> INLINE lanes nf4_word_order() {
    lanes order;
    for (int i = 0; i < 16; i++) order[i] = C == 2 ? i / 2 + 8 * (i % 2) : i;
    return order;
}
// [M rows][16 words] to M vectors, that L rows share.
template <int M, int L> INLINE void into_lanes(const lanes *rows, lanes *out) {
    constexpr int C = 16 / L;
    const auto *words = reinterpret_cast<const uint32_t *>(rows);
    auto *to = reinterpret_cast<uint32_t *>(out);
    if constexpr (L == 16) transpose16(words, 16, to, 16);
    else if constexpr (L == 1) memcpy(out, rows, M * sizeof(lanes));
    else for (int s = 0; s < L; s++) for (int m = 0; m < L; m++) memcpy(to + 16 * s + C * m, words + 16 * m + C * s, 4 * C);
}
// What a whole number of the row is worth, 0 of a row that is as good as zero, NaN of one that is not finite.
INLINE float unit_of(const bf16 *x, long K, Held held) {
    ints top = {};  // of magnitudes, compared as bits: a NaN is the largest
    float fullest = 0;
    auto see = [&](long k, auto part) { ints m = (ints)load_bf16(x + k, part) & 0x7fffffff; top = m > top ? m : top; return (vec)m; };
    if (held != AS_NF4) sixteens(K, see);
    else for (long k = 0; k < K; k += 64) {
        vec block = {};
        sixteens(K - k < 64 ? K - k : 64, [&](long c, auto part) { block += see(k + c, part); });
        const float all = sum(block);
        fullest = all > fullest ? all : fullest;
    }
    const lanes order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (uint32_t step = 8; step; step /= 2) { const ints other = __builtin_shuffle(top, (ints)(order ^ step)); top = other > top ? other : top; }
    const int32_t bits = top[0];
    float largest; memcpy(&largest, &bits, 4);
    if (bits >= 0x7f800000) return NAN;
    if (largest < 1e-30f) return 0;
    const float unit = largest / MOST, other = fullest / NF4_MOST;
    return unit > other ? unit : other;
}
// The first `count` of `columns` numbers as whole ones, the rest zero. Two vectors at a time: what is stored whole can be read again at once.
INLINE void into_whole(const bf16 *x, long count, long columns, float inverse, int16_t *out) {
    shorts lower;
    for (int i = 0; i < 32; i++) lower[i] = 2 * i;
    auto number = [&](long k, auto part) { return (lanes)(load_bf16(x + k, part) * inverse + 12582912.f); };  // 1.5 * 2^23: rounded, in the lower half
    long k = 0;
    for (; k + 32 <= count; k += 32) store(out + k, __builtin_shuffle((shorts)number(k, Whole{}), (shorts)number(k + 16, Whole{}), lower));
    if (k < columns) memset(out + k, 0, (columns - k) * sizeof(int16_t));
    sixteens(count - k, [&](long c, auto part) { store(out + k + c, __builtin_convertvector(number(k + c, part), halves)); });
}
template <int M, Held H>
static void into_group(const bf16 *x, long from_stride, long used, long K, lanes *to, ints *zeros, float *units) {
    constexpr long COLUMNS = H == AS_NF4 ? NF4_COLUMNS : INT8_COLUMNS;
    constexpr int VECTORS = H == AS_NF4 ? 4 : 2, L = SHARING<M, H>;
    float inverse[M];
    for (int m = 0; m < M; m++) {
        units[m] = m < used ? unit_of(x + m * from_stride, K, H) : 0;
        inverse[m] = units[m] > 0 ? 1 / units[m] : 0;
    }
    memset(zeros, 0, row_spans(K) * 2 * sizeof(ints));
    lanes tile[VECTORS][M] = {};
    for (long k = 0; k < K; k += COLUMNS, to += VECTORS * M) {
        for (int m = 0; m < M && m < used; m++) if (inverse[m] > 0) {
            alignas(64) int16_t whole[COLUMNS];
            into_whole(x + m * from_stride + k, K - k < COLUMNS ? K - k : COLUMNS, COLUMNS, inverse[m], whole);
            lanes own[VECTORS];
            if constexpr (H == AS_NF4) into_nf4_order(whole, own); else into_parts(whole, own);
            for (int v = 0; v < VECTORS; v++) tile[v][m] = H == AS_NF4 ? __builtin_shuffle(own[v], nf4_word_order<16 / L>()) : own[v];
        }
        for (int v = 0; v < VECTORS; v++) into_lanes<M, L>(tile[v], to + v * M);
        ints *of_span = zeros + k / (INT8_COLUMNS * SPAN) * 2;
        if (H == AS_INT8) for (int s = 0; s < M; s++) for (int part = 0; part < 2; part++)
            of_span[part] -= dot_codes(ints{}, splat(NO_CODES), load<lanes>(to + part * M + s));
    }
}
// f(M as a constant, its first row, number of the vector of x at which it begins) of each group.
template <typename F> INLINE void each_group(long rows, F f) {
    long first = 0;
    for (; rows - first >= 13; first += 16) f(Constant<16>{}, first);
    if (rows - first >= 5) { f(Constant<8>{}, first); first += 8; }
    if (rows - first >= 3) { f(Constant<4>{}, first); first += 4; }
    if (rows - first == 2) f(Constant<2>{}, first);
    if (rows - first == 1) f(Constant<1>{}, first);
}
static void into_shorts(const bf16 *x, long from_stride, long rows, long K, Held held, ShortRows &out) {
    out.vectors = row_vectors(K, held);
    out.spans = row_spans(K);
    each_group(rows, [&](auto m, long first) {
        constexpr int M = decltype(m)::value;
        auto into = held == AS_NF4 ? into_group<M, AS_NF4> : into_group<M, AS_INT8>;
        into(x + first * from_stride, from_stride, rows - first, K, out.x + first * out.vectors, out.zeros + first * out.spans * 2, out.units + first);
    });
}
