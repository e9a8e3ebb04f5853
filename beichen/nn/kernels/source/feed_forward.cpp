// silu(gate) * up over rows of [gate, up], and its gradient.
#include "vector.h"

KERNEL void swiglu_forward(const bf16 *gate_up, bf16 *out, long rows, long size, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * size > WORTH_A_THREAD)
    for (long r = 0; r < rows; r++) {
        const bf16 *gate = gate_up + r * 2 * size, *up = gate + size;
        sixteens(size, [&](long c, auto part) {
            vec g = load_bf16(gate + c, part);
            store_bf16(out + r * size + c, g * sigmoid(g) * load_bf16(up + c, part), part);
        });
    }
}

KERNEL void swiglu_backward(const bf16 *gate_up, const bf16 *grad, bf16 *d_gate_up, long rows, long size, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * size > WORTH_A_THREAD)
    for (long r = 0; r < rows; r++) {
        const bf16 *gate = gate_up + r * 2 * size, *up = gate + size;
        bf16 *d_gate = d_gate_up + r * 2 * size, *d_up = d_gate + size;
        sixteens(size, [&](long c, auto part) {
            vec g = load_bf16(gate + c, part), d = load_bf16(grad + r * size + c, part), s = sigmoid(g);
            store_bf16(d_gate + c, d * load_bf16(up + c, part) * s * (1.f + g * (1.f - s)), part);
            store_bf16(d_up + c, d * g * s, part);
        });
    }
}
