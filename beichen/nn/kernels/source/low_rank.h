// Low-rank updates of a few rows (nn/low_rank.py), each of which may carry another adapter: y += scale (x A^T) B^T over some of a layer's
// columns, y being what the layer made of x. Down to the ranks and up again; between the two the threads must meet.
#pragma once
#include "few_rows.h"
#include <algorithm>

// Columns [begin, begin + width) of a layer. up: B^T, two neighbours along the rank a word: [panels of 16 columns, rank / 2, 16], rank even, in
// the order in which it is read. factors [width]: by which all that is not the layer's bias [width] is multiplied in the end (DoRA), or null.
struct UpdatePart { const uint32_t *up; long begin, width, rank; float scale; const float *factors; const bf16 *bias; };
// What an adapter does to one layer. a [ranks, K]: the parts' matrices A below one another.
struct Update { const bf16 *a; const UpdatePart *parts; long count, ranks; };
// Rows [from, to) carry an adapter. updates: of one layer after another, null where it leaves one alone.
struct UpdatedRows { long from, to; const Update *const *updates; };

template <typename P> INLINE vec load_number(const float *p, P part) { return load_float(p, part); }
template <typename P> INLINE vec load_number(const bf16 *p, P part) { return load_bf16(p, part); }
template <typename P> INLINE void store_number(float *p, vec x, P part) { store_float(p, x, part); }
template <typename P> INLINE void store_number(bf16 *p, vec x, P part) { store_bf16(p, x, part); }

// Some columns of a panel, of ROWS rows of y. inner: of these rows, `ranks` numbers apart.
template <int ROWS, typename T, typename P>
INLINE void add_columns(const UpdatePart &part, long column, const uint32_t *inner, long ranks, T *y, long ldy, P lanes_of) {
    vec sums[ROWS] = {};
    const uint32_t *up = part.up + column / 16 * 8 * part.rank + column % 16;
    for (long pair = 0; pair < part.rank / 2; pair++) {
        const lanes words = (lanes)load_float(reinterpret_cast<const float *>(up + 16 * pair), lanes_of);
        for (int m = 0; m < ROWS; m++) sums[m] = dot_pair(sums[m], words, inner + m * ranks / 2 + pair);
    }
    const vec zero = {}, bias = part.factors && part.bias ? load_bf16(part.bias + column, lanes_of) : zero;
    for (int m = 0; m < ROWS; m++) {
        const vec moved = fma(sums[m], splat(part.scale), load_number(y + m * ldy, lanes_of));
        store_number(y + m * ldy, part.factors ? fma(load_float(part.factors + column, lanes_of), moved - bias, bias) : moved, lanes_of);
    }
}

// All rows with adapters, and x A^T of every row: [rows, ranks], in float32, and rounded, two to a word.
struct Updates {
    const UpdatedRows *spans;
    long count, ranks = 0;
    float *wide = nullptr;
    uint32_t *pairs = nullptr;

    Updates(const UpdatedRows *spans, long count, long layers) : spans(spans), count(count) {
        for (long s = 0; s < count; s++) for (long l = 0; l < layers; l++) if (const Update *u = spans[s].updates[l]) ranks = u->ranks > ranks ? u->ranks : ranks;
    }
    size_t bytes(long rows) const { return rows * ranks * (sizeof(float) + sizeof(bf16)) + 128; }
    void take(Scratch &scratch, long rows) { wide = scratch.take<float>(rows * ranks); pairs = scratch.take<uint32_t>(rows * ranks / 2); }

    // What falls to thread `id`, eight ranks at a time. x: as for few_row_linear, readable three rows beyond the last.
    void descend(long layer, const bf16 *x, long stride, long K, int id, int threads) const {
        long all = 0, done = 0;
        for (long s = 0; s < count; s++) if (const Update *u = spans[s].updates[layer]) all += (u->ranks + 7) / 8;
        const long first = all * id / threads, last = all * (id + 1) / threads;
        for (const UpdatedRows *span = spans; span < spans + count; span++) if (const Update *u = span->updates[layer]) {
            const long from = 8 * std::max(first - done, 0L), to = std::min(8 * (last - done), u->ranks);
            done += (u->ranks + 7) / 8;
            if (from >= to) continue;
            few_row_linear(x + span->from * stride, stride, span->to - span->from, u->a, K, from, to, nullptr, wide + span->from * ranks, ranks);
            for (long m = span->from; m < span->to; m++) sixteens(to - from, [&](long c, auto part) {
                store_bf16(reinterpret_cast<bf16 *>(pairs + m * ranks / 2) + from + c, load_float(wide + m * ranks + from + c, part), part);
            });
        }
    }
    // Columns `own` of y [rows, ldy], in float32 or bf16.
    template <typename T> void ascend(long layer, Share own, T *y, long ldy) const {
        for (const UpdatedRows *span = spans; span < spans + count; span++) if (const Update *u = span->updates[layer]) {
            const uint32_t *inner = pairs + span->from * ranks / 2;
            for (const UpdatePart *part = u->parts; part < u->parts + u->count; inner += part->rank / 2, part++) {
                const long rows = span->to - span->from, to = std::min(own.to - part->begin, part->width);
                auto add = [&](long column, auto lanes_of) {
                    T *at = y + span->from * ldy + part->begin + column;
                    long m = 0;
                    for (; m + 4 <= rows; m += 4) add_columns<4>(*part, column, inner + m * ranks / 2, ranks, at + m * ldy, ldy, lanes_of);
                    for (; m < rows; m++) add_columns<1>(*part, column, inner + m * ranks / 2, ranks, at + m * ldy, ldy, lanes_of);
                };
                for (long c = std::max(own.from - part->begin, 0L), next; c < to; c = next) {
                    next = std::min(c / 16 * 16 + 16, to);
                    if (next - c == 16) add(c, Whole{}); else add(c, Part{int(next - c)});
                }
            }
        }
    }
};
