// y = x W^T + b for a few rows x, of which sixteen at a time stand side by side in the lanes: nothing is summed over lanes, so that
// products of many rows come near what the machine can multiply. What is left of the rows goes as in few_rows.h.
#pragma once
#include "few_rows.h"

constexpr long WORTH_LANES = 13;  // rows from which sixteen lanes pay, though some of them are empty: four by four, twelve are as quick

INLINE long lane_groups(long rows) { return (rows + 16 - WORTH_LANES) / 16; }
// Rows of x that must be readable.
INLINE long padded_rows(long rows) {
    const long lanes_of = 16 * lane_groups(rows), left = rows - lanes_of;
    return left <= 0 ? lanes_of : lanes_of + (left <= 2 ? left : (left + 3) / 4 * 4);
}
// bf16, rows `stride` apart, zero up to a multiple of 32 columns, and readable (any finite values) up to padded_rows(rows); and the pairs of
// columns of each group of sixteen rows: [groups, stride / 2, 16].
struct FewRows { const bf16 *x; long stride, rows; uint32_t *pairs; };
INLINE long pairs_of(long rows, long stride) { return lane_groups(rows) * stride * 8; }
static void spread_rows(const FewRows &rows) {
    for (long g = 0; g < lane_groups(rows.rows); g++) for (long c = 0; c < rows.stride; c += 32)
        transpose16(reinterpret_cast<const uint32_t *>(rows.x + 16 * g * rows.stride + c), rows.stride / 2, rows.pairs + (g * rows.stride + c) * 8, 16);
}
// out [weight row][row of x] of sixteen rows of x and `count` weight rows; the next weight rows are fetched meanwhile.
INLINE void sixteen_by_sixteen(const uint32_t *pairs, const bf16 *w, long K, int count, bool first, vec *out) {
    alignas(64) uint32_t part[16][16];  // 32 columns: rows of weights that lie a power of two apart would push each other out of the cache
    vec acc[16] = {};
    for (long k = 0; k < K; k += 32, pairs += 256) {
        for (int r = 0; r < 16; r++) {
            if (first) __builtin_prefetch(w + (r + 16) * K + k, 0, 2);
            store(part[r], r < count ? load_words(w + r * K + k, K - k) : lanes{});
        }
        for (int pair = 0; pair < 16; pair++) {
            const lanes xs = load<lanes>(pairs + 16 * pair);
            for (int r = 0; r < 16; r++) acc[r] = dot_pair(acc[r], xs, &part[r][pair]);
        }
    }
    memcpy(out, acc, sizeof(acc));
}
// Columns [from, to) of y [rows, ldy] float32. spread: rows that spread_rows has seen.
static void few_row_products(const FewRows &spread, const bf16 *w, long K, long from, long to, const bf16 *bias, float *y, long ldy) {
    const long groups = lane_groups(spread.rows);
    for (long n = from; groups && n < to; n += 16) {
        const int count = to - n < 16 ? int(to - n) : 16;
        for (long g = 0; g < groups; g++) {
            const long used = spread.rows - 16 * g < 16 ? spread.rows - 16 * g : 16;
            vec sums[16], turned[16];
            sixteen_by_sixteen(spread.pairs + g * spread.stride * 8, w + n * K, K, count, g == 0, sums);
            if (bias) for (int r = 0; r < count; r++) sums[r] += to_float(bias[n + r]);
            transpose16(reinterpret_cast<const uint32_t *>(sums), 16, reinterpret_cast<uint32_t *>(turned), 16);
            for (long m = 0; m < used; m++) {
                float *to_row = y + (16 * g + m) * ldy + n;
                if (count == 16) store(to_row, turned[m]); else memcpy(to_row, turned + m, count * sizeof(float));
            }
        }
    }
    const long done = 16 * groups;
    if (done < spread.rows) few_row_linear(spread.x + done * spread.stride, spread.stride, spread.rows - done, w, K, from, to, bias, y + done * ldy, ldy);
}
