// Optimizer steps over one tensor, each in one pass over memory: float32 master and moments, gradient in bf16 or
// float32, the bf16 parameter (null: there is none beside the master) rounded from the new master.
#include "vector.h"
#include <cmath>

namespace {
constexpr long BLOCK = 1 << 14;

template <typename Part> INLINE vec load_gradient(const void *g, int is_float, long i, Part part) {
    return is_float ? load_float(static_cast<const float *>(g) + i, part) : load_bf16(static_cast<const bf16 *>(g) + i, part);
}

template <typename F> void blocks(long count, int threads, F f) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count > BLOCK)
    for (long begin = 0; begin < count; begin += BLOCK) sixteens(count - begin < BLOCK ? count - begin : BLOCK, [&](long c, auto part) { f(begin + c, part); });
}
}  // namespace

// rate = learning rate / (1 - beta1^t), keep = 1 - learning rate * weight decay, correction = 1 / sqrt(1 - beta2^t)
KERNEL void adamw(const void *gradient, int is_float, float *master, float *first, float *second, bf16 *parameter, long count, float scale, float beta1, float beta2, float epsilon,
                  float rate, float keep_share, float correction, int threads) {
    blocks(count, threads, [&](long i, auto part) {
        vec g = load_gradient(gradient, is_float, i, part) * scale;
        vec m = load_float(first + i, part), v = load_float(second + i, part);
        m = fma(g - m, splat(1 - beta1), m);
        v = fma(g * g - v, splat(1 - beta2), v);
        store_float(first + i, m, part);
        store_float(second + i, v, part);
        vec w = load_float(master + i, part) * keep_share - m * rate / (root(v) * correction + epsilon);
        store_float(master + i, w, part);
        if (parameter) store_bf16(parameter + i, w, part);
    });
}

// momentum moves towards the gradient; direction (bf16) = gradient moved towards the new momentum
KERNEL void muon_direction(const void *gradient, int is_float, float *momentum, bf16 *direction, long count, float scale, float factor, int threads) {
    blocks(count, threads, [&](long i, auto part) {
        vec g = load_gradient(gradient, is_float, i, part) * scale, m = load_float(momentum + i, part);
        m = fma(g - m, splat(1 - factor), m);
        store_float(momentum + i, m, part);
        store_bf16(direction + i, fma(m - g, splat(factor), g), part);
    });
}

KERNEL void muon_apply(const bf16 *update, float *master, bf16 *parameter, long count, float rate, float keep_share, int threads) {
    blocks(count, threads, [&](long i, auto part) {
        vec w = load_float(master + i, part) * keep_share - load_bf16(update + i, part) * rate;
        store_float(master + i, w, part);
        if (parameter) store_bf16(parameter + i, w, part);
    });
}

// sums[block] of squares; the caller adds them up in order
KERNEL void squares(const void *values, int is_float, double *sums, long count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count > BLOCK)
    for (long begin = 0; begin < count; begin += BLOCK) {
        vec total = {};
        sixteens(count - begin < BLOCK ? count - begin : BLOCK, [&](long c, auto part) {
            vec v = load_gradient(values, is_float, begin + c, part);
            total = fma(v, v, total);
        });
        double sum64 = 0;
        for (int lane = 0; lane < 16; lane++) sum64 += total[lane];
        sums[begin / BLOCK] = sum64;
    }
}

// bf16 up or down at random: the lower half of a random word of (key, place) is added to what is cut off. The twin of
// nn/stochastic_rounding.py, bit for bit.
INLINE lanes mix(lanes x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

INLINE int count_of(Whole) { return 16; }
INLINE int count_of(Part part) { return part.count; }

KERNEL void round_stochastically(const float *values, bf16 *out, long count, long first, long key, int threads) {
    const lanes numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const lanes low = splat(uint32_t(key)), high = splat(uint32_t(uint64_t(key) >> 32)), exponent = splat(0x7f800000u);
    blocks(count, threads, [&](long i, auto part) {
        lanes words = mix(mix((numbers + uint32_t(first + i)) ^ low) + high);
        vec x = load_float(values + i, part);
        lanes u = (lanes)x;
        u = (u + (words & 0xffffu & (lanes)((u & exponent) != exponent))) >> 16;
        u = (lanes)((x == x) ? (ints)u : (ints)splat(uint32_t(0x7fc0)));
        halves h = __builtin_convertvector(u, halves);  // not store_bf16, whose instruction takes subnormal numbers for zero
        memcpy(out + i, &h, count_of(part) * sizeof(bf16));
    });
}
