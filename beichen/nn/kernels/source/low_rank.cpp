// A low-rank update of a few rows, added to what their layer made of them.
#include "low_rank.h"
#include <omp.h>

namespace {
thread_local Scratch call_scratch;
}

// x [rows, K]; out [rows, N], which is overwritten.
KERNEL void low_rank_add(const Update *update, const bf16 *x, bf16 *out, long rows, long K, long N, int threads) {
    const long stride = padded_columns(K), padded = rows + 3;
    const UpdatedRows all{0, rows, &update};
    Updates updates(&all, 1, 1);
    call_scratch.reserve(padded * stride * sizeof(bf16) + updates.bytes(rows) + 256);
    bf16 *xs = call_scratch.take<bf16>(padded * stride);
    updates.take(call_scratch, rows);
    pad_rows(x, rows, K, padded, stride, xs);
#pragma omp parallel num_threads(threads) if (rows * update->ranks * (K + N) > 16 * WORTH_A_THREAD)
    {
        const int id = omp_get_thread_num(), count = omp_get_num_threads();
        updates.descend(0, xs, stride, K, id, count);
#pragma omp barrier
        updates.ascend(0, share(N, id, count), out, N);
    }
}
