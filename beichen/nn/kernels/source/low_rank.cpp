// A low-rank update of a few rows, added to what their layer made of them.
#include "sixteen_rows.h"
#include <omp.h>

namespace {
thread_local Scratch call_scratch;
}

// out [rows, N] += scale x A^T B^T over each part's columns. x [rows, K]; a [R, K]: the parts' matrices A below one another; ups: of each part
// B^T [rank, width]; places: of each part its first column, width and rank.
KERNEL void low_rank_add(const bf16 *x, const bf16 *a, const bf16 *const *ups, const int64_t *places, const float *scales, bf16 *out, long rows, long K, long R, long parts, long N,
                         int threads) {
    const long stride = padded_columns(K), padded = padded_rows(rows);
    call_scratch.reserve(padded * stride * sizeof(bf16) + pairs_of(rows, stride) * sizeof(uint32_t) + rows * R * sizeof(float) + 256);
    bf16 *xs = call_scratch.take<bf16>(padded * stride);
    const FewRows spread{xs, stride, rows, call_scratch.take<uint32_t>(pairs_of(rows, stride))};
    float *inner = call_scratch.take<float>(rows * R);
    pad_rows(x, rows, K, padded, stride, xs);
    spread_rows(spread);
#pragma omp parallel num_threads(threads) if (rows * R * (K + N) > 16 * WORTH_A_THREAD)
    {
        const int id = omp_get_thread_num(), count = omp_get_num_threads();
        const Share own = share(R, id, count);
        few_row_products(spread, a, K, own.from, own.to, nullptr, inner, R);
#pragma omp barrier
        long first = 0;
        for (long p = 0; p < parts; p++) {
            const long begin = places[3 * p], width = places[3 * p + 1], rank = places[3 * p + 2];
            const Share part = share(width, id, count);
            for (long m = 0; m < rows; m++) sixteens(part.to - part.from, [&](long c, auto lanes_of) {
                vec sum = {};
                for (long r = 0; r < rank; r++) sum = fma(splat(to_float(to_bf16(inner[m * R + first + r]))), load_bf16(ups[p] + r * width + part.from + c, lanes_of), sum);
                bf16 *at = out + m * N + begin + part.from + c;
                store_bf16(at, fma(sum, splat(scales[p]), load_bf16(at, lanes_of)), lanes_of);
            });
            first += rank;
        }
    }
}
