// Decoding: the linear layer of a few rows, attention over the cache, and one step of a whole decoder in one call.
#include "cached_attention.h"
#include "low_rank.h"
#include "quantized_rows.h"
#include "sixteen_rows.h"
#include <omp.h>

namespace {
thread_local Scratch private_scratch;
thread_local Scratch call_scratch;
}  // namespace

KERNEL void linear_few_rows(const bf16 *x, const bf16 *w, const bf16 *bias, float *wide, bf16 *narrow_out, long rows, long K, long N, int threads) {
    const long stride = padded_columns(K), padded = padded_rows(rows);
    call_scratch.reserve(padded * stride * sizeof(bf16) + pairs_of(rows, stride) * sizeof(uint32_t) + (wide ? 0 : rows * N * sizeof(float)) + 256);
    bf16 *xs = call_scratch.take<bf16>(padded * stride);
    float *y = wide ? wide : call_scratch.take<float>(rows * N);
    const FewRows spread{xs, stride, rows, call_scratch.take<uint32_t>(pairs_of(rows, stride))};
    pad_rows(x, rows, K, padded, stride, xs);
    spread_rows(spread);
#pragma omp parallel num_threads(threads) if (K * N > WORTH_A_THREAD)
    {
        const Share part = share(N, omp_get_thread_num(), omp_get_num_threads());
        few_row_products(spread, w, K, part.from, part.to, bias, y, N);
        if (!wide) for (long r = 0; r < rows; r++) sixteens(part.to - part.from, [&](long c, auto p) {
            store_bf16(narrow_out + r * N + part.from + c, load_float(y + r * N + part.from + c, p), p);
        });
    }
}

struct Matrix { const void *weights, *scales; };  // bf16, or codes with their scales
struct LayerPointers {
    const bf16 *attention_norm; Matrix qkv;
    const bf16 *qkv_bias, *query_norm, *key_norm; Matrix output;
    const bf16 *output_bias, *feed_forward_norm; Matrix gate_up;
    const bf16 *gate_up_bias; Matrix down;
    const bf16 *down_bias;
};

// New columns of sequences, a few in all, through a whole decoder: x [rows, hidden] (after the embedding) to the final normed hidden states.
// query_scale [rows] (null: 1). keys, values: [layers, blocks, kv_heads, size, dim]; tables [sequences, stride]; sequences, columns [rows]: whose
// each is, and which of its columns; several: whether a sequence has more than one. Five meetings of the threads a layer, six with several; what
// is small, every thread computes for itself. held: how the matrices are (Held). moved: rows with adapters (four matrices a layer), for which the
// threads meet four times more a layer. Returns the share of the time that the thread waited for the others that waited longest.
KERNEL double decode_step(const LayerPointers *layers, const bf16 *final_norm, const bf16 *x, const float *cos, const float *sin, const float *query_scale, const int32_t *tables,
                        const int32_t *sequences, const int32_t *columns, bf16 *keys, bf16 *values, bf16 *out, const UpdatedRows *moved, long num_moved, long num_layers, long rows, long hidden,
                        long heads, long kv_heads, long dim, long intermediate, long blocks, long size, long stride, float eps, float scale, int residual_after_norm, int several, int held, int threads) {
    const long W = (heads + 2 * kv_heads) * dim, group = heads / kv_heads, half = dim / 2, padded = padded_rows(rows) + (moved ? 3 : 0), F = intermediate;
    const long hs = padded_columns(hidden), as = padded_columns(heads * dim), fs = padded_columns(F), area = blocks * kv_heads * size * dim;
    long longest = 0;
    for (long r = 0; r < rows; r++) longest = columns[r] > longest ? columns[r] : longest;
    Updates updates(moved, num_moved, 4 * num_layers);
    call_scratch.reserve(rows * (W + hidden + 2 * F) * 4 + padded * (as + fs) * 2 + updates.bytes(rows) + 1024);
    updates.take(call_scratch, rows);
    float *qkv = call_scratch.take<float>(rows * W), *update = call_scratch.take<float>(rows * hidden), *gate_up = call_scratch.take<float>(rows * 2 * F);
    bf16 *mixed = call_scratch.take<bf16>(padded * as), *active = call_scratch.take<bf16>(padded * fs);
    memset(mixed, 0, padded * as * sizeof(bf16));
    memset(active, 0, padded * fs * sizeof(bf16));
    const double begin = omp_get_wtime();
    double longest_wait = 0;
#pragma omp parallel num_threads(threads)
    {
        double waited = 0;
        auto meet = [&] {
            const double from = omp_get_wtime();
#pragma omp barrier
            waited += omp_get_wtime() - from;
        };
        const int id = omp_get_thread_num(), count = omp_get_num_threads();
        const long widest = hidden > F ? (hidden > heads * dim ? hidden : heads * dim) : F > heads * dim ? F : heads * dim;
        private_scratch.reserve((longest + 64) * 4 + padded_columns(dim) * 2 + rows * hidden * 2 + padded * hs * 2 + 1024 + (held ? short_bytes(rows, widest) : pairs_of(rows, padded_columns(widest)) * 4));
        float *scores = private_scratch.take<float>(longest + 48);
        bf16 *q = private_scratch.take<bf16>(padded_columns(dim)), *residual = private_scratch.take<bf16>(rows * hidden), *normed = private_scratch.take<bf16>(padded * hs);
        memset(q, 0, padded_columns(dim) * sizeof(bf16));
        memset(normed, 0, padded * hs * sizeof(bf16));
        memcpy(residual, x, rows * hidden * sizeof(bf16));

        auto add_norm = [&](const float *added, const bf16 *weight, bool keep_normed) {
            for (long r = 0; r < rows; r++) {
                bf16 *total = residual + r * hidden, *to = normed + r * hs;
                vec squares = {};
                sixteens(hidden, [&](long c, auto part) {
                    vec v = load_bf16(total + c, part);
                    if (added) v = rounded(v + rounded(load_float(added + r * hidden + c, part)));
                    store_bf16(total + c, v, part);
                    squares = fma(v, v, squares);
                });
                const float factor = 1 / std::sqrt(sum(squares) / hidden + eps);
                sixteens(hidden, [&](long c, auto part) {
                    vec v = load_bf16(weight + c, part) * rounded(load_bf16(total + c, part) * factor);
                    store_bf16(to + c, v, part);
                    if (keep_normed) store_bf16(total + c, v, part);
                });
            }
        };
        ShortRows whole{};  // what enters quantized matrices,
        FewRows spread{nullptr, 0, rows, held ? nullptr : private_scratch.take<uint32_t>(pairs_of(rows, padded_columns(widest)))};  // or others
        if (held) whole = take_shorts(private_scratch, rows, widest);
        auto enter = [&](long matrix, const bf16 *from, long stride, long K) {
            spread.x = from;
            spread.stride = stride;
            if (held) into_shorts(from, stride, rows, K, Held(held), whole);
            else spread_rows(spread);
            if (!moved) return;
            updates.descend(matrix, from, stride, K, id, count);
            meet();
        };
        auto linear = [&](long matrix, long K, const Matrix &w, const bf16 *bias, Share part, float *to, long N) {
            if (held) few_row_quantized(whole, rows, {Held(held), w.weights, w.scales}, K, part.from, part.to, bias, {to, nullptr, N});
            else few_row_products(spread, static_cast<const bf16 *>(w.weights), K, part.from, part.to, bias, to, N);
            updates.ascend(matrix, part, to, N);
        };

        for (long l = 0; l < num_layers; l++) {
            const LayerPointers &layer = layers[l];
            const Pages pages{keys + l * area, values + l * area, kv_heads, size, dim};
            add_norm(l ? update : nullptr, layer.attention_norm, residual_after_norm);
            enter(4 * l, normed, hs, hidden);
            linear(4 * l, hidden, layer.qkv, layer.qkv_bias, share(W, id, count), qkv, W);
            auto fetch = [&](long task) {
                const long row = task / kv_heads;
                if (row < rows) fetch_first_keys(pages, tables + sequences[row] * stride, task % kv_heads, columns[row]);
            };
            fetch(id);
            meet();
            auto turn = [&](const float *head, long row, const bf16 *norm, const float *sharper, bf16 *to) {
                vec squares = {};
                if (norm) sixteens(dim, [&](long p, auto part) { vec v = rounded(load_float(head + p, part)); squares = fma(v, v, squares); });
                const float factor = norm ? 1 / std::sqrt(sum(squares) / dim + eps) : 1;
                turn_head([&](long p, auto part) {
                    vec v = rounded(load_float(head + p, part));
                    if (norm) v = rounded(load_bf16(norm + p, part) * rounded(v * factor));
                    return sharper ? rounded(v * sharper[row]) : v;
                }, cos + row * half, sin + row * half, dim, to);
            };
            auto keep = [&](long row, long kv) {
                const float *heads_of = qkv + row * W, *v = heads_of + (heads + kv_heads + kv) * dim;
                const long place = pages.at(tables + sequences[row] * stride, kv, columns[row]);
                turn(heads_of + (heads + kv) * dim, row, layer.key_norm, nullptr, pages.keys + place);
                sixteens(dim, [&](long p, auto part) { store_bf16(pages.values + place + p, load_float(v + p, part), part); });
            };
            if (several) {
                for (long task = id; task < rows * kv_heads; task += count) keep(task / kv_heads, task % kv_heads);
                meet();
            }
            for (long task = id; task < rows * kv_heads; task += count) {
                const long row = task / kv_heads, kv = task % kv_heads;
                if (!several) keep(row, kv);
                fetch(task + count);
                for (long h = kv * group; h < (kv + 1) * group; h++) {
                    turn(qkv + row * W + h * dim, row, layer.query_norm, query_scale, q);
                    attend_one(q, pages, tables + sequences[row] * stride, kv, columns[row] + 1, scale, scores, mixed + row * as + h * dim);
                }
            }
            meet();
            enter(4 * l + 1, mixed, as, heads * dim);
            linear(4 * l + 1, heads * dim, layer.output, layer.output_bias, share(hidden, id, count), update, hidden);
            meet();
            add_norm(update, layer.feed_forward_norm, residual_after_norm);
            const Share part = share(F, id, count);
            enter(4 * l + 2, normed, hs, hidden);
            linear(4 * l + 2, hidden, layer.gate_up, layer.gate_up_bias, part, gate_up, 2 * F);
            linear(4 * l + 2, hidden, layer.gate_up, layer.gate_up_bias, {F + part.from, F + part.to}, gate_up, 2 * F);
            for (long r = 0; r < rows; r++) sixteens(part.to - part.from, [&](long c, auto p) {
                const float *g = gate_up + r * 2 * F + part.from + c;
                vec gate = rounded(load_float(g, p));
                store_bf16(active + r * fs + part.from + c, gate * sigmoid(gate) * rounded(load_float(g + F, p)), p);
            });
            meet();
            enter(4 * l + 3, active, fs, F);
            linear(4 * l + 3, F, layer.down, layer.down_bias, share(hidden, id, count), update, hidden);
            meet();
        }
        add_norm(num_layers ? update : nullptr, final_norm, false);
        if (id == 0) for (long r = 0; r < rows; r++) memcpy(out + r * hidden, normed + r * hs, hidden * sizeof(bf16));
#pragma omp critical
        longest_wait = waited > longest_wait ? waited : longest_wait;
    }
    return longest_wait / (omp_get_wtime() - begin);
}
