// The gradient of looking rows up: every vocabulary row is the float32 sum, in order of position, of the gradients at
// its positions, rounded once.
#include "vector.h"
#include <vector>

KERNEL void embedding_backward(const int64_t *ids, const bf16 *grad, bf16 *d_weight, long positions, long vocab, long size, int threads) {
    std::vector<int32_t> begin(vocab + 1, 0), order(positions);
    for (long i = 0; i < positions; i++) begin[ids[i] + 1]++;
    for (long v = 0; v < vocab; v++) begin[v + 1] += begin[v];
    std::vector<int32_t> next(begin.begin(), begin.end() - 1);
    for (long i = 0; i < positions; i++) order[next[ids[i]]++] = int32_t(i);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 256) if (vocab * size > WORTH_A_THREAD)
    for (long v = 0; v < vocab; v++) {
        bf16 *row = d_weight + v * size;
        if (begin[v] == begin[v + 1]) { memset(row, 0, size * sizeof(bf16)); continue; }
        sixteens(size, [&](long c, auto part) {
            vec total = {};
            for (int32_t k = begin[v]; k < begin[v + 1]; k++) total += load_bf16(grad + order[k] * size + c, part);
            store_bf16(row + c, total, part);
        });
    }
}
