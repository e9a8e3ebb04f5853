// The linear layer of a few rows with quantized weights, quantized weights as bf16 for products of many rows, and weights as codes.
#include "quantized_rows.h"
#include <omp.h>

namespace {
thread_local Scratch call_scratch;
const float NF4_VALUES[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
typedef int8_t codes16 __attribute__((vector_size(16), aligned(16), may_alias));
typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(16), may_alias));
INLINE ints sixteen_codes(const int8_t *p, Whole) { return __builtin_convertvector(load<codes16>(p), ints); }
INLINE ints sixteen_codes(const int8_t *p, Part part) { codes16 v = {}; memcpy(&v, p, part.count); return __builtin_convertvector(v, ints); }
}  // namespace

KERNEL void linear_few_rows_quantized(const bf16 *x, const void *codes, const void *scales, const bf16 *bias, float *wide, bf16 *narrow_out, long rows, long K, long N, int held,
                                      int threads) {
    call_scratch.reserve(short_bytes(rows, K));
    ShortRows xs = take_shorts(call_scratch, rows, K);
    into_shorts(x, K, rows, K, Held(held), xs);
#pragma omp parallel num_threads(threads) if (K * N > WORTH_A_THREAD)
    {
        const Share part = share(N, omp_get_thread_num(), omp_get_num_threads());
        few_row_quantized(xs, rows, {Held(held), codes, scales}, K, part.from, part.to, bias, {wide, narrow_out, N});
    }
}

// out [rows, K] bf16: what the codes stand for, rounded once.
KERNEL void dequantize(const void *codes, const void *scales, bf16 *out, long rows, long K, int held, int threads) {
    const long blocks = (K + 63) / 64;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * K > WORTH_A_THREAD)
    for (long r = 0; r < rows; r++) {
        bf16 *to = out + r * K;
        if (held == AS_INT8) {
            const int8_t *from = static_cast<const int8_t *>(codes) + r * K;
            const float scale = static_cast<const float *>(scales)[r];
            sixteens(K, [&](long k, auto part) { store_bf16(to + k, to_floats(sixteen_codes(from + k, part)) * scale, part); });
            continue;
        }
        for (long b = 0; b < blocks; b++) {
            const uint8_t *from = static_cast<const uint8_t *>(codes) + (r * blocks + b) * 32;
            const float scale = half_to_float(static_cast<const uint16_t *>(scales)[r * blocks + b]);
            bf16 block[64];
            for (int half = 0; half < 2; half++) {  // of each byte the upper half comes first
                const lanes pairs = __builtin_convertvector(load<bytes16>(from + 16 * half), lanes);
                const vec table = load<vec>(NF4_VALUES);
                store(block + 32 * half, narrow_pairs(__builtin_shuffle(table, pairs >> 4) * scale, __builtin_shuffle(table, pairs & 15) * scale));
            }
            memcpy(to + 64 * b, block, (K - 64 * b < 64 ? K - 64 * b : 64) * sizeof(bf16));
        }
    }
}

// codes [blocks, 32] of blocks [blocks, 64]: each number over its block's scale (0: 1), then the count of borders [15] below it.
KERNEL void nf4_codes(const float *numbers, const float *scales, const float *borders, uint8_t *codes, long blocks, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (blocks * 64 > WORTH_A_THREAD)
    for (long b = 0; b < blocks; b++) {
        const vec scale = splat(scales[b] == 0 ? 1.f : scales[b]);
        uint8_t own[64];
        for (int k = 0; k < 64; k += 16) {
            const vec number = load<vec>(numbers + 64 * b + k) / scale;
            ints below = {};
            for (int i = 0; i < 15; i++) below -= number > borders[i];
            store(own + k, __builtin_convertvector(below, bytes16));
        }
        for (int i = 0; i < 32; i++) codes[32 * b + i] = own[2 * i] << 4 | own[2 * i + 1];
    }
}
