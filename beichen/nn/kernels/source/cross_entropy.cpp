// One chunk of bf16 logits to losses and, in place, to the gradient of their sum.
// loss = -log softmax(scale * logits)[target] + z_loss * logsumexp^2
#include "vector.h"
#include <cmath>

KERNEL void cross_entropy_rows(bf16 *logits, const int64_t *targets, float *losses, long rows, long vocab, float scale, float z_loss, int with_gradient, int threads) {
    const float c = scale * 1.44269504f;
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * vocab > WORTH_A_THREAD)
    for (long r = 0; r < rows; r++) {
        bf16 *x = logits + r * vocab;
        vec top = splat(-INFINITY), total = {};
        sixteens(vocab - vocab % 16, [&](long i, auto) { top = maximum(top, load_bf16(x + i) * c); });
        float m = largest(top);
        for (long i = vocab - vocab % 16; i < vocab; i++) m = to_float(x[i]) * c > m ? to_float(x[i]) * c : m;
        sixteens(vocab, [&](long i, auto part) { total += keep(exp2(fma(load_bf16(x + i, part), splat(c), splat(-m))), part); });
        const float log2sum = m + std::log2(sum(total)), logsum = log2sum * 0.69314718f;
        losses[r] = logsum - to_float(x[targets[r]]) * scale + z_loss * logsum * logsum;
        if (!with_gradient) continue;
        const float p_target = std::exp2(to_float(x[targets[r]]) * c - log2sum), factor = scale * (1 + 2 * z_loss * logsum);
        sixteens(vocab, [&](long i, auto part) { store_bf16(x + i, exp2(fma(load_bf16(x + i, part), splat(c), splat(-log2sum))) * factor, part); });
        x[targets[r]] = to_bf16(p_target * factor - scale);
    }
}

// sum (float32) = or += update (bf16)
KERNEL void accumulate(float *sum, const bf16 *update, long count, int first, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count > WORTH_A_THREAD)
    for (long begin = 0; begin < count; begin += WORTH_A_THREAD) sixteens(count - begin < WORTH_A_THREAD ? count - begin : WORTH_A_THREAD, [&](long c, auto part) {
        vec v = load_bf16(update + begin + c, part);
        store_float(sum + begin + c, first ? v : v + load_float(sum + begin + c, part), part);
    });
}
