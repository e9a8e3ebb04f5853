// The routed experts of one layer: every choice of a token through its expert, in float32 or bf16, sums in float32.
// Choices stand sorted by expert; threads share out (expert, panel of columns), so no result depends on their number.
#include "panels.h"
#include <vector>

namespace {
thread_local Scratch scratch;

struct Sizes { long tokens, choices, hidden, width, experts; };

// Rows of the sorted choices, and lines of words made of them, that belong to each expert.
template <typename T> struct Groups {
    std::vector<long> rows, lines;
    Groups(const int32_t *ends, long experts) : rows(experts + 1), lines(experts + 1) {
        for (long e = 0; e < experts; e++) {
            rows[e + 1] = ends[e];
            lines[e + 1] = lines[e] + words_of<T>(rows[e + 1] - rows[e]);
        }
    }
    long most_lines() const {
        long most = 0;
        for (size_t e = 1; e < lines.size(); e++) most = lines[e] - lines[e - 1] > most ? lines[e] - lines[e - 1] : most;
        return most;
    }
};

// order: the choices sorted by expert, those of one expert in their own order; ends: the place behind each expert's last.
static void sort_choices(const int64_t *chosen, long choices, long experts, int64_t *order, int32_t *ends) {
    memset(ends, 0, experts * sizeof(int32_t));
    for (long i = 0; i < choices; i++) ends[chosen[i]]++;
    for (long e = 1; e < experts; e++) ends[e] += ends[e - 1];
    std::vector<int32_t> next(experts);
    for (long e = 1; e < experts; e++) next[e] = ends[e - 1];
    for (long i = 0; i < choices; i++) order[next[chosen[i]]++] = i;
}

// out[t] = sum of its choices' rows.
template <typename T> static void combine(const float *rows, T *out, const Sizes &s) {
#pragma omp for schedule(static)
    for (long t = 0; t < s.tokens; t++) sixteens(s.hidden, [&](long c, auto part) {
        vec total = load_float(rows + t * s.choices * s.hidden + c, part);
        for (long i = 1; i < s.choices; i++) total += load_float(rows + (t * s.choices + i) * s.hidden + c, part);
        Format<T>::store(out + t * s.hidden + c, total, part);
    });
}

// C rows of `count` rows of A through one packed panel: then(r, row of C) for each.
template <typename T, typename F>
INLINE void each_row(long count, long columns, long length, const T *A, long stride, const uint32_t *B, float *C, F then) {
    product<T>(count, columns, words_of<T>(length), reinterpret_cast<const uint32_t *>(A), stride / Format<T>::PER_WORD, 1, B, PANEL, C);
    for (long r = 0; r < count; r++) then(r, C + r * PANEL);
}
// Rows [from, to) a chunk at a time.
template <typename F> INLINE void chunks(long from, long to, F f) {
    for (long i = from; i < to; i += CHUNK) f(i, to - i < CHUNK ? to - i : CHUNK);
}
// The rows of the tokens that `count` choices belong to, one after another, filled up with zeros to the stride.
template <typename T> static void gather(const T *x, const int64_t *order, long count, const Sizes &s, T *rows) {
    const long H = s.hidden, hs = stride_of(H);
    for (long r = 0; r < count; r++) {
        memcpy(rows + r * hs, x + order[r] / s.choices * H, H * sizeof(T));
        memset(rows + r * hs + H, 0, (hs - H) * sizeof(T));
    }
}

template <typename T>
void forward(const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *chosen, int64_t *order, int32_t *ends, T *inner, T *active,
             float *rows, T *out, Sizes s, int threads) {
    sort_choices(chosen, s.tokens * s.choices, s.experts, order, ends);
    const long H = s.hidden, F = s.width, choices = s.tokens * s.choices, hs = stride_of(H), fs = stride_of(F), longest = H > F ? H : F;
    const long panels_f = (F + PANEL - 1) / PANEL, panels_h = (H + PANEL - 1) / PANEL;
    const Groups<T> groups(ends, s.experts);
#pragma omp parallel num_threads(threads) if (choices * H * F > WORTH_A_THREAD * 16)
    {
        scratch.reserve((longest + H + 2 * CHUNK) * PANEL * 4 + CHUNK * hs * sizeof(T) + 1024);
        uint32_t *B = scratch.take<uint32_t>(longest * PANEL), *B_up = scratch.take<uint32_t>(H * PANEL);
        float *C = scratch.take<float>(CHUNK * PANEL), *C_up = scratch.take<float>(CHUNK * PANEL);
        T *A = scratch.take<T>(CHUNK * hs);
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_f; task++) {
            const long e = task / panels_f, n = task % panels_f * PANEL, columns = F - n < PANEL ? F - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_rows(gate_up + (e * 2 * F + n) * H, H, columns, B);
            pack_rows(gate_up + (e * 2 * F + F + n) * H, H, columns, B_up);
            chunks(from, to, [&](long i, long count) {
                gather(x, order + i, count, s, A);
                product<T>(count, columns, words_of<T>(H), reinterpret_cast<const uint32_t *>(A), hs / Format<T>::PER_WORD, 1, B_up, PANEL, C_up);
                each_row(count, columns, H, A, hs, B, C, [&](long r, const float *row) {
                    T *gate = inner + (i + r) * 2 * F + n, *act = active + (i + r) * fs;
                    sixteens(columns, [&](long c, auto part) {
                        Format<T>::store(gate + c, load_float(row + c, part), part);
                        Format<T>::store(gate + F + c, load_float(C_up + r * PANEL + c, part), part);
                        const vec g = Format<T>::load(gate + c, part);
                        Format<T>::store(act + n + c, weights[order[i + r]] * g * sigmoid(g) * Format<T>::load(gate + F + c, part), part);
                    });
                    if (n + columns == F) memset(act + F, 0, (fs - F) * sizeof(T));
                });
            });
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_h; task++) {
            const long e = task / panels_h, n = task % panels_h * PANEL, columns = H - n < PANEL ? H - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_rows(down + (e * H + n) * F, F, columns, B);
            chunks(from, to, [&](long i, long count) {
                each_row(count, columns, F, active + i * fs, fs, B, C, [&](long r, const float *row) { memcpy(rows + order[i + r] * H + n, row, columns * sizeof(float)); });
            });
        }
        combine(rows, out, s);
    }
}

// [rows, columns] = A^T B over an expert's choices, both as lines of words: a panel of a matrix's gradient.
template <typename T>
static void matrix_gradient(long rows, long columns, long lines, const uint32_t *A, long lda, const uint32_t *B, long ldb, float *C, T *out, long ld) {
    chunks(0, rows, [&](long r, long count) {
        product<T>(count, columns, lines, A + r, 1, lda, B, ldb, C);
        for (long i = 0; i < count; i++) sixteens(columns, [&](long c, auto part) { Format<T>::store(out + (r + i) * ld + c, load_float(C + i * PANEL + c, part), part); });
    });
}

template <typename T> struct Workspace {  // of the backward: choices sorted by expert, as rows of numbers and as lines of words
    T *d_inner, *active;
    uint32_t *d_inner_lines, *active_lines;
    float *d_rows, *d_weight_parts;
};

template <typename T>
void backward(const T *d_out, const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *order, const int32_t *ends, const T *inner,
              const Workspace<T> &w, T *d_x, T *d_gate_up, T *d_down, float *d_weights, Sizes s, int threads) {
    constexpr long PER = Format<T>::PER_WORD;
    const long H = s.hidden, F = s.width, choices = s.tokens * s.choices, hs = stride_of(H), fs = stride_of(F), gs = stride_of(2 * F);
    const long panels_f = (F + PANEL - 1) / PANEL, panels_h = (H + PANEL - 1) / PANEL;
    const Groups<T> groups(ends, s.experts);
#pragma omp parallel num_threads(threads) if (choices * H * F > WORTH_A_THREAD * 16)
    {
        const long longest = H > 2 * F ? H : 2 * F, lines = groups.most_lines();
        scratch.reserve((longest + CHUNK + 2 * lines) * PANEL * 4 + CHUNK * hs * sizeof(T) + 1024);
        uint32_t *B = scratch.take<uint32_t>(longest * PANEL), *x_lines = scratch.take<uint32_t>(lines * PANEL), *d_lines = scratch.take<uint32_t>(lines * PANEL);
        float *C = scratch.take<float>(CHUNK * PANEL);
        T *A = scratch.take<T>(CHUNK * hs);
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_f; task++) {
            const long e = task / panels_f, n = task % panels_f * PANEL, columns = F - n < PANEL ? F - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_columns(down + e * H * F + n, F, H, columns, B);
            chunks(from, to, [&](long i, long count) {
                gather(d_out, order + i, count, s, A);
                each_row(count, columns, H, A, hs, B, C, [&](long r, const float *row) {
                    const float weight = weights[order[i + r]];
                    const T *gate = inner + (i + r) * 2 * F + n, *up = gate + F;
                    T *act = w.active + (i + r) * fs + n, *d_gate = w.d_inner + (i + r) * gs + n, *d_up = d_gate + F;
                    vec total = {};
                    sixteens(columns, [&](long c, auto part) {
                        const vec g = Format<T>::load(gate + c, part), u = Format<T>::load(up + c, part), half = sigmoid(g);
                        const vec d = load_float(row + c, part), product = g * half;
                        total += keep(d * product * u, part);
                        Format<T>::store(act + c, weight * product * u, part);
                        Format<T>::store(d_gate + c, weight * d * u * half * (1.f + g * (1.f - half)), part);
                        Format<T>::store(d_up + c, weight * d * product, part);
                    });
                    w.d_weight_parts[task % panels_f * choices + i + r] = sum(total);
                });
            });
            for (long l = groups.lines[e], i = from; i < to; l++, i += PER) {
                const T *act = w.active + i * fs + n, *gate = w.d_inner + i * gs + n;
                const bool pair = i + 1 < to;
                line_of(act, pair ? act + fs : nullptr, columns, w.active_lines + l * fs + n);
                for (const long part : {0L, F}) line_of(gate + part, pair ? gate + part + gs : nullptr, columns, w.d_inner_lines + l * gs + n + part);
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_h; task++) {
            const long e = task / panels_h, n = task % panels_h * PANEL, columns = H - n < PANEL ? H - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            const long first = groups.lines[e], own = groups.lines[e + 1] - first;
            for (long l = 0, i = from; l < own; l++, i += PER) {
                const bool pair = i + 1 < to;
                const long t = order[i] / s.choices * H + n, next = pair ? order[i + 1] / s.choices * H + n : 0;
                line_of(x + t, pair ? x + next : nullptr, columns, x_lines + l * PANEL);
                line_of(d_out + t, pair ? d_out + next : nullptr, columns, d_lines + l * PANEL);
            }
            matrix_gradient<T>(2 * F, columns, own, w.d_inner_lines + first * gs, gs, x_lines, PANEL, C, d_gate_up + e * 2 * F * H + n, H);
            for (long f = 0; f < F; f += PANEL) {
                matrix_gradient<T>(columns, F - f < PANEL ? F - f : PANEL, own, d_lines, PANEL, w.active_lines + first * fs + f, fs, C, d_down + (e * H + n) * F + f, F);
            }
            if (from == to) continue;
            pack_columns(gate_up + e * 2 * F * H + n, H, 2 * F, columns, B);
            chunks(from, to, [&](long i, long count) {
                each_row(count, columns, 2 * F, w.d_inner + i * gs, gs, B, C, [&](long r, const float *row) { memcpy(w.d_rows + order[i + r] * H + n, row, columns * sizeof(float)); });
            });
        }
#pragma omp for schedule(static) nowait
        for (long i = 0; i < choices; i++) {
            float total = 0;
            for (long p = 0; p < panels_f; p++) total += w.d_weight_parts[p * choices + i];
            d_weights[order[i]] = total;
        }
        combine(w.d_rows, d_x, s);
    }
}
}  // namespace

#define EXPERTS_KERNELS(NAME, T)                                                                                                                              \
    KERNEL void experts_forward_##NAME(const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *chosen, int64_t *order,              \
                                       int32_t *ends, T *inner, T *active, float *rows, T *out, long tokens, long choices, long hidden, long width,           \
                                       long experts, int threads) {                                                                                           \
        forward<T>(x, gate_up, down, weights, chosen, order, ends, inner, active, rows, out, {tokens, choices, hidden, width, experts}, threads);             \
    }                                                                                                                                                         \
    KERNEL void experts_backward_##NAME(const T *d_out, const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *order,              \
                                        const int32_t *ends, const T *inner, T *d_inner, T *active, uint32_t *d_inner_lines, uint32_t *active_lines,          \
                                        float *d_rows, float *d_weight_parts, T *d_x, T *d_gate_up, T *d_down, float *d_weights, long tokens, long choices,   \
                                        long hidden, long width, long experts, int threads) {                                                                 \
        backward<T>(d_out, x, gate_up, down, weights, order, ends, inner, {d_inner, active, d_inner_lines, active_lines, d_rows, d_weight_parts}, d_x,        \
                    d_gate_up, d_down, d_weights, {tokens, choices, hidden, width, experts}, threads);                                                        \
    }
EXPERTS_KERNELS(float32, float)
EXPERTS_KERNELS(bfloat16, bf16)
