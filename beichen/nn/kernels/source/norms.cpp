// RMSNorm over rows, with or without the residual addition before it, and its gradient.
// The quotient x / rms is rounded to bf16 before the product with the weight, as the published models do.
#include "vector.h"
#include <cmath>

namespace {
constexpr long CHUNKS = 32;  // weight gradients are summed per chunk of rows, then over chunks: one order for any thread count
thread_local Scratch scratch;
}

// total (null: no addition) = residual + x; out = weight * total / rms(total)
KERNEL void rms_norm_forward(const bf16 *residual, const bf16 *x, const bf16 *weight, bf16 *total, bf16 *out, float *inverse, long rows, long size, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * size > WORTH_A_THREAD)
    for (long r = 0; r < rows; r++) {
        const bf16 *row = x + r * size;
        vec squares = {};
        if (total) {
            sixteens(size, [&](long c, auto part) {
                vec v = rounded(load_bf16(residual + r * size + c, part) + load_bf16(row + c, part));
                store_bf16(total + r * size + c, v, part);
                squares = fma(v, v, squares);
            });
            row = total + r * size;
        } else {
            sixteens(size, [&](long c, auto part) { vec v = load_bf16(row + c, part); squares = fma(v, v, squares); });
        }
        const float scale = 1 / std::sqrt(sum(squares) / size + eps);
        inverse[r] = scale;
        sixteens(size, [&](long c, auto part) { store_bf16(out + r * size + c, load_bf16(weight + c, part) * rounded(load_bf16(row + c, part) * scale), part); });
    }
}

// d_row = through (null: nothing) + gradient of the norm; d_weight over all rows
KERNEL void rms_norm_backward(const bf16 *row, const bf16 *weight, const bf16 *grad, const bf16 *through, const float *inverse, bf16 *d_row, bf16 *d_weight, long rows, long size, int threads) {
    const long chunks = rows < CHUNKS ? rows : CHUNKS;
    scratch.reserve(chunks * size * sizeof(float) + 64);
    float *partial = scratch.take<float>(chunks * size);
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * size > WORTH_A_THREAD)
    for (long chunk = 0; chunk < chunks; chunk++) {
        float *dw = partial + chunk * size;
        memset(dw, 0, size * sizeof(float));
        for (long r = rows * chunk / chunks; r < rows * (chunk + 1) / chunks; r++) {
            const bf16 *x = row + r * size, *g = grad + r * size;
            const float scale = inverse[r];
            vec dots = {};
            sixteens(size, [&](long c, auto part) {
                vec hat = load_bf16(x + c, part) * scale, gv = load_bf16(g + c, part);
                dots = fma(gv * load_bf16(weight + c, part), hat, dots);
                store_float(dw + c, load_float(dw + c, part) + gv * rounded(hat), part);
            });
            const float mean = sum(dots) / size;
            sixteens(size, [&](long c, auto part) {
                vec hat = load_bf16(x + c, part) * scale;
                vec d = (load_bf16(g + c, part) * load_bf16(weight + c, part) - hat * mean) * scale;
                if (through) d += load_bf16(through + r * size + c, part);
                store_bf16(d_row + r * size + c, d, part);
            });
        }
    }
    if (!d_weight) return;
    sixteens(size, [&](long c, auto part) {
        vec s = {};
        for (long chunk = 0; chunk < chunks; chunk++) s += load_float(partial + chunk * size + c, part);
        store_bf16(d_weight + c, s, part);
    });
}
