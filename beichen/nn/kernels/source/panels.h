// Products of rows with packed panels of columns, in float32 or bf16 with sums in float32: what experts and their router have in common.
#pragma once
#include "matmul.h"

constexpr long PANEL = 16 * TILE_VECTORS, CHUNK = 48;  // columns, and rows of a product alive at a time

// A 32-bit word holds one float or two neighbours along the summed dimension.
template <typename T> struct Format;
template <> struct Format<float> {
    static constexpr long PER_WORD = 1;
    INLINE vec dot(vec sum, uint32_t a, lanes b) { return fma((vec)splat(a), (vec)b, sum); }
    template <typename P> INLINE vec load(const float *p, P part) { return load_float(p, part); }
    template <typename P> INLINE void store(float *p, vec x, P part) { store_float(p, x, part); }
};
template <> struct Format<bf16> {
    static constexpr long PER_WORD = 2;
    INLINE vec dot(vec sum, uint32_t a, lanes b) { return dot_pairs(sum, a, b); }
    template <typename P> INLINE vec load(const bf16 *p, P part) { return load_bf16(p, part); }
    template <typename P> INLINE void store(bf16 *p, vec x, P part) { store_bf16(p, x, part); }
};

template <typename T> INLINE long words_of(long n) { return (n + Format<T>::PER_WORD - 1) / Format<T>::PER_WORD; }
INLINE long sixteen_up(long n) { return (n + 15) / 16 * 16; }
INLINE long stride_of(long n) { return (n + 31) / 32 * 32; }  // of rows and lines in working memory, as the caller allots them

// C[ROWS, 16 VECTORS] = sum over words k of A[r * row + k * step] with B[k, :].
template <typename T, int ROWS, int VECTORS>
INLINE void tile(long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    vec acc[ROWS][VECTORS] = {};
    for (long k = 0; k < words; k++) {
        lanes b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = load<lanes>(B + k * ldb + 16 * v);
        for (int r = 0; r < ROWS; r++) {
            const uint32_t a = A[r * row + k * step];
            for (int v = 0; v < VECTORS; v++) acc[r][v] = Format<T>::dot(acc[r][v], a, b[v]);
        }
    }
    for (int r = 0; r < ROWS; r++) for (int v = 0; v < VECTORS; v++) store(C + r * PANEL + 16 * v, acc[r][v]);
}
template <typename T, int VECTORS>
static void tiles(long M, long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    long m = 0;
    for (; m + TILE_ROWS <= M; m += TILE_ROWS) tile<T, TILE_ROWS, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
    for (; m + 2 <= M; m += 2) tile<T, 2, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
    for (; m < M; m++) tile<T, 1, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
}
// C [M, PANEL], of which `columns` are meant; B is readable up to the next sixteen.
template <typename T>
static void product(long M, long columns, long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    switch (sixteen_up(columns) / 16) {
        case 1: return tiles<T, 1>(M, words, A, row, step, B, ldb, C);
        case 2: return tiles<T, TILE_VECTORS < 2 ? 1 : 2>(M, words, A, row, step, B, ldb, C);
        case 3: return tiles<T, TILE_VECTORS < 3 ? 1 : 3>(M, words, A, row, step, B, ldb, C);
        default: return tiles<T, TILE_VECTORS>(M, words, A, row, step, B, ldb, C);
    }
}

// B[k, n] = word k of row n, out of `columns` rows of `length` numbers: the transpose, PANEL words a line. What lies beyond the end of a
// row is zero, and so are columns up to the next sixteen.
template <typename T> static void pack_rows(const T *rows, long length, long columns, uint32_t *B) {
    const long words = words_of<T>(length), bytes = length * sizeof(T);
    for (long n = 0; n < columns; n += 16) for (long k = 0; k < words; k += 16) {
        if (n + 16 <= columns && 4 * (k + 16) <= bytes && bytes % 4 == 0) {
            transpose16(reinterpret_cast<const uint32_t *>(rows + n * length) + k, words, B + k * PANEL + n, PANEL);
            continue;
        }
        uint32_t square[256] = {}, turned[256];
        const long count = columns - n < 16 ? columns - n : 16, rest = bytes - 4 * k < 64 ? bytes - 4 * k : 64, lines = words - k < 16 ? words - k : 16;
        for (long j = 0; j < count; j++) memcpy(square + 16 * j, reinterpret_cast<const char *>(rows + (n + j) * length) + 4 * k, rest);
        transpose16(square, 16, turned, 16);
        for (long i = 0; i < lines; i++) memcpy(B + (k + i) * PANEL + n, turned + 16 * i, 64);
    }
}
// One line of words out of as many rows as a word holds numbers; `odd` may be absent. Nothing is written beyond its columns.
INLINE void line_of(const float *even, const float *, long columns, uint32_t *B) {
    sixteens(columns, [&](long c, auto part) { store_float(reinterpret_cast<float *>(B + c), load_float(even + c, part), part); });
}
INLINE void line_of(const bf16 *even, const bf16 *odd, long columns, uint32_t *B) {
    sixteens(columns, [&](long c, auto part) {
        const lanes low = (lanes)load_bf16(even + c, part) >> 16, high = odd ? (lanes)load_bf16(odd + c, part) : lanes{};
        store_float(reinterpret_cast<float *>(B + c), (vec)(low | high), part);
    });
}
// B[k, n] out of `rows` rows of numbers `ld` apart: the matrix itself, PANEL words a line.
template <typename T> static void pack_columns(const T *matrix, long ld, long rows, long columns, uint32_t *B) {
    for (long k = 0; k < rows; k += Format<T>::PER_WORD) line_of(matrix + k * ld, k + 1 < rows ? matrix + (k + 1) * ld : nullptr, columns, B + k / Format<T>::PER_WORD * PANEL);
}
