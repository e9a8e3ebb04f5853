// The linear layer of a few rows with quantized weights.
#include "quantized_rows.h"
#include <omp.h>

namespace {
thread_local Scratch call_scratch;
}

KERNEL void linear_few_rows_quantized(const bf16 *x, const void *codes, const void *scales, const bf16 *bias, float *wide, bf16 *narrow_out, long rows, long K, long N, int held,
                                      int threads) {
    call_scratch.reserve(short_bytes(rows, K) + (wide ? 0 : rows * N * sizeof(float)) + 512);
    const ShortRows xs{call_scratch.take<int16_t>(short_padded(rows) * short_columns(K)), call_scratch.take<float>(short_padded(rows)), short_columns(K)};
    float *y = wide ? wide : call_scratch.take<float>(rows * N);
    into_shorts(x, K, rows, K, Held(held), xs);
#pragma omp parallel num_threads(threads) if (K * N > WORTH_A_THREAD)
    {
        const Share part = share(N, omp_get_thread_num(), omp_get_num_threads());
        few_row_quantized(xs, rows, {Held(held), codes, scales}, K, part.from, part.to, bias, y, N);
        if (!wide) for (long r = 0; r < rows; r++) sixteens(part.to - part.from, [&](long c, auto p) {
            store_bf16(narrow_out + r * N + part.from + c, load_float(y + r * N + part.from + c, p), p);
        });
    }
}
