// Attention over the paged cache of one layer: new columns of many sequences, few of each or whole chunks of prompts.
#include "attention_forward.h"
#include "cached_attention.h"
#include <omp.h>
#include <vector>

namespace {
thread_local Scratch private_scratch;
constexpr long FEW = 16;  // up to so many new columns, each query goes over the blocks on its own

struct Task { long sequence, start, kv, from, to; };  // queries [from, to) of a sequence whose first new one stands at row `start`
}  // namespace

// Puts the turned keys and the values of counts[s] new columns of every sequence s, behind pasts[s] earlier ones, into the blocks that its table
// [stride] names; then every new query attends to all columns of its sequence up to its own. The new ones of all sequences stand one after
// another in qkv [tokens, (heads + 2 kv_heads) dim]; cos, sin [tokens, dim / 2].
KERNEL void attention_paged(const bf16 *qkv, const float *cos, const float *sin, const int32_t *tables, const int32_t *counts, const int32_t *pasts, bf16 *keys, bf16 *values,
                            bf16 *out, long sequences, long heads, long kv_heads, long dim, long size, long stride, float scale, int threads) {
    const Pages pages{keys, values, kv_heads, size, dim};
    const long width = (heads + 2 * kv_heads) * dim, half = dim / 2, group = heads / kv_heads, n = padded_columns(dim);
    std::vector<Task> writes, tasks;
    long start = 0, work = 0;
    for (long s = 0; s < sequences; s++) {
        const long count = counts[s], blocks = (count + B - 1) / B, fair = threads / (sequences * kv_heads) + 1;
        const long parts = count <= FEW ? 1 : blocks < fair ? blocks : fair;  // a lone sequence of few heads still gives every thread a share
        for (long kv = 0; kv < kv_heads; kv++) {
            writes.push_back({s, start, kv, 0, count});
            for (long part = parts; part-- > 0;) {  // the longest first
                const long past = pasts[s], from = part ? (past + blocks * part / parts * B) / B * B - past : 0;
                const long to = part + 1 < parts ? (past + blocks * (part + 1) / parts * B) / B * B - past : count;
                if (from < to) tasks.push_back({s, start, kv, from, to});
            }
        }
        start += count;
        work += count * (pasts[s] + count) * heads * dim;
    }
    auto turn = [&](const bf16 *head, long t, bf16 *to) { turn_head([&](long p, auto part) { return load_bf16(head + p, part); }, cos + t * half, sin + t * half, dim, to); };
#pragma omp parallel num_threads(threads) if (work > WORTH_A_THREAD)
    {
#pragma omp for schedule(dynamic, 1)
        for (size_t number = 0; number < writes.size(); number++) {
            const Task &w = writes[number];
            for (long i = 0; i < w.to; i++) {
                const long t = w.start + i, place = pages.at(tables + w.sequence * stride, w.kv, pasts[w.sequence] + i);
                turn(qkv + t * width + (heads + w.kv) * dim, t, keys + place);
                memcpy(values + place, qkv + t * width + (heads + kv_heads + w.kv) * dim, dim * sizeof(bf16));
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (size_t number = 0; number < tasks.size(); number++) {
            const Task &task = tasks[number];
            const int32_t *table = tables + task.sequence * stride;
            const long past = pasts[task.sequence], kv = task.kv;
            if (counts[task.sequence] <= FEW) {
                private_scratch.reserve((past + FEW + 32) * sizeof(float) + n * sizeof(bf16) + 256);
                float *scores = private_scratch.take<float>(past + FEW + 32);
                bf16 *q = private_scratch.take<bf16>(n);
                memset(q, 0, n * sizeof(bf16));
                for (long i = task.from; i < task.to; i++) for (long h = kv * group; h < (kv + 1) * group; h++) {
                    const long t = task.start + i;
                    turn(qkv + t * width + h * dim, t, q);
                    attend_one(q, pages, table, kv, past + i + 1, scale, scores, out + (t * heads + h) * dim);
                }
                continue;
            }
            const long total = past + task.to, blocks = (total + B - 1) / B;
            private_scratch.reserve(forward_bytes(blocks, n));
            int32_t *first = private_scratch.take<int32_t>(blocks * B);
            for (long i = 0; i < blocks * B; i++) first[i] = i < total ? 0 : INT_MAX;
            auto gather_keys = [&](long b, bf16 *to_keys, bf16 *to_values) {
                for (long r = 0; r < B; r++, to_keys += n, to_values += n) {
                    const long column = b * B + r, known = column < total ? dim : 0;
                    if (known) {
                        const long place = pages.at(table, kv, column);
                        memcpy(to_keys, keys + place, dim * sizeof(bf16));
                        memcpy(to_values, values + place, dim * sizeof(bf16));
                    }
                    memset(to_keys + known, 0, (n - known) * sizeof(bf16));
                    memset(to_values + known, 0, (n - known) * sizeof(bf16));
                }
            };
            auto gather_queries = [&](long g, long i0, bf16 *to) {
                for (long r = 0; r < B; r++, to += n) {
                    const long i = i0 + r - past, known = i >= task.from && i < task.to ? dim : 0, t = task.start + i;
                    if (known) turn(qkv + t * width + (kv * group + g) * dim, t, to);
                    memset(to + known, 0, (n - known) * sizeof(bf16));
                }
            };
            auto emit = [&](long g, long i, const float *mixed, float factor, float) {
                narrow_row(mixed, dim, factor, out + ((task.start + i - past) * heads + kv * group + g) * dim);
            };
            attend_blocks(n, past + task.from, total, total, group, scale, first, gather_keys, gather_queries, emit, private_scratch);
        }
        multiply_done();
    }
}
