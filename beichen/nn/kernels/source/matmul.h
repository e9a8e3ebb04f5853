// One small matrix product for all kernels: C[M, N] (float32) = or += A[M, K] (bf16, row-major) times B (bf16, pairs).
// B holds K / 2 rows of N pairs: word [k][n] = (B[2k][n], B[2k+1][n]), the layout of the bf16 dot product and of AMX.
// N is a multiple of 16 and K of 2. With AMX the product is torch's own brgemm, else a register-blocked kernel here.
#pragma once
#include "vector.h"

namespace c10 { struct BFloat16; }
namespace at::native::cpublas {
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, bool add_C, const c10::BFloat16 *A, const c10::BFloat16 *B, float *C, bool is_vnni);
void brgemm_release(bool is_vnni);
}

INLINE vec dot_pairs(vec sum, uint32_t a, lanes b) {
#ifdef BEICHEN_AVX512_BF16
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)splat(a), (__m512bh)b);
#else
    sum = fma((vec)(splat(a << 16)), (vec)(b << 16), sum);
    return fma((vec)(splat(a & 0xffff0000u)), (vec)(b & 0xffff0000u), sum);
#endif
}

template <int ROWS, int VECTORS>
INLINE void multiply_tile(long pairs, const bf16 *A, long lda, const uint32_t *B, long ldb, float *C, long ldc, bool add) {
    vec acc[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++) for (int v = 0; v < VECTORS; v++) acc[r][v] = add ? load<vec>(C + r * ldc + 16 * v) : vec{};
    for (long k = 0; k < pairs; k++) {
        lanes b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = load<lanes>(B + k * ldb + 16 * v);
        for (int r = 0; r < ROWS; r++) {
            uint32_t a;
            memcpy(&a, A + r * lda + 2 * k, 4);
            for (int v = 0; v < VECTORS; v++) acc[r][v] = dot_pairs(acc[r][v], a, b[v]);
        }
    }
    for (int r = 0; r < ROWS; r++) for (int v = 0; v < VECTORS; v++) store(C + r * ldc + 16 * v, acc[r][v]);
}

#ifdef BEICHEN_AVX512
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4;
#else
constexpr int TILE_ROWS = 2, TILE_VECTORS = 1;
#endif

template <int VECTORS>
static void multiply_panel(long M, long pairs, const bf16 *A, long lda, const uint32_t *B, long ldb, float *C, long ldc, bool add) {
    long m = 0;
    for (; m + TILE_ROWS <= M; m += TILE_ROWS) multiply_tile<TILE_ROWS, VECTORS>(pairs, A + m * lda, lda, B, ldb, C + m * ldc, ldc, add);
    for (; m + 4 <= M; m += 4) multiply_tile<4, VECTORS>(pairs, A + m * lda, lda, B, ldb, C + m * ldc, ldc, add);
    for (; m < M; m++) multiply_tile<1, VECTORS>(pairs, A + m * lda, lda, B, ldb, C + m * ldc, ldc, add);
}

INLINE void multiply(long M, long N, long K, const bf16 *A, long lda, const uint32_t *B, long ldb, float *C, long ldc, bool add) {
#if defined(__AMX_BF16__) || defined(BEICHEN_BRGEMM)
    at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, add, reinterpret_cast<const c10::BFloat16 *>(A), reinterpret_cast<const c10::BFloat16 *>(B), C, true);
#else
    long n = 0;
    for (; n + 16 * TILE_VECTORS <= N; n += 16 * TILE_VECTORS) multiply_panel<TILE_VECTORS>(M, K / 2, A, lda, B + n, ldb, C + n, ldc, add);
    if (TILE_VECTORS > 3 && n + 48 <= N) { multiply_panel<3>(M, K / 2, A, lda, B + n, ldb, C + n, ldc, add); n += 48; }
    if (TILE_VECTORS > 2 && n + 32 <= N) { multiply_panel<2>(M, K / 2, A, lda, B + n, ldb, C + n, ldc, add); n += 32; }
    if (n < N) multiply_panel<1>(M, K / 2, A, lda, B + n, ldb, C + n, ldc, add);
#endif
}
INLINE void multiply_done() {  // AMX keeps its tile configuration until told
#if defined(__AMX_BF16__) || defined(BEICHEN_BRGEMM)
    at::native::cpublas::brgemm_release(true);
#endif
}
