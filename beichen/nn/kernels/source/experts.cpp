// The routed experts of one layer: every choice of a token through its expert, in float32 or bf16, sums in float32.
// Choices stand sorted by expert; threads share out (expert, panel of columns), so no result depends on their number.
#include "matmul.h"
#include <vector>

namespace {
constexpr long PANEL = 16 * TILE_VECTORS, CHUNK = 48;  // columns, and rows of a product alive at a time
thread_local Scratch scratch;

// A 32-bit word holds one float or two neighbours along the summed dimension.
template <typename T> struct Format;
template <> struct Format<float> {
    static constexpr long PER_WORD = 1;
    INLINE vec dot(vec sum, uint32_t a, lanes b) { return fma((vec)splat(a), (vec)b, sum); }
    template <typename P> INLINE vec load(const float *p, P part) { return load_float(p, part); }
    template <typename P> INLINE void store(float *p, vec x, P part) { store_float(p, x, part); }
};
template <> struct Format<bf16> {
    static constexpr long PER_WORD = 2;
    INLINE vec dot(vec sum, uint32_t a, lanes b) { return dot_pairs(sum, a, b); }
    template <typename P> INLINE vec load(const bf16 *p, P part) { return load_bf16(p, part); }
    template <typename P> INLINE void store(bf16 *p, vec x, P part) { store_bf16(p, x, part); }
};

template <typename T> INLINE long words_of(long n) { return (n + Format<T>::PER_WORD - 1) / Format<T>::PER_WORD; }
INLINE long sixteen_up(long n) { return (n + 15) / 16 * 16; }
INLINE long stride_of(long n) { return (n + 31) / 32 * 32; }  // of rows and lines in working memory, as the caller allots them

// C[ROWS, 16 VECTORS] = sum over words k of A[r * row + k * step] with B[k, :].
template <typename T, int ROWS, int VECTORS>
INLINE void tile(long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    vec acc[ROWS][VECTORS] = {};
    for (long k = 0; k < words; k++) {
        lanes b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = load<lanes>(B + k * ldb + 16 * v);
        for (int r = 0; r < ROWS; r++) {
            const uint32_t a = A[r * row + k * step];
            for (int v = 0; v < VECTORS; v++) acc[r][v] = Format<T>::dot(acc[r][v], a, b[v]);
        }
    }
    for (int r = 0; r < ROWS; r++) for (int v = 0; v < VECTORS; v++) store(C + r * PANEL + 16 * v, acc[r][v]);
}
template <typename T, int VECTORS>
static void tiles(long M, long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    long m = 0;
    for (; m + TILE_ROWS <= M; m += TILE_ROWS) tile<T, TILE_ROWS, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
    for (; m + 2 <= M; m += 2) tile<T, 2, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
    for (; m < M; m++) tile<T, 1, VECTORS>(words, A + m * row, row, step, B, ldb, C + m * PANEL);
}
// C [M, PANEL], of which `columns` are meant; B is readable up to the next sixteen.
template <typename T>
static void product(long M, long columns, long words, const uint32_t *A, long row, long step, const uint32_t *B, long ldb, float *C) {
    switch (sixteen_up(columns) / 16) {
        case 1: return tiles<T, 1>(M, words, A, row, step, B, ldb, C);
        case 2: return tiles<T, TILE_VECTORS < 2 ? 1 : 2>(M, words, A, row, step, B, ldb, C);
        case 3: return tiles<T, TILE_VECTORS < 3 ? 1 : 3>(M, words, A, row, step, B, ldb, C);
        default: return tiles<T, TILE_VECTORS>(M, words, A, row, step, B, ldb, C);
    }
}

// Word k of a row of `length` numbers; what lies beyond its end is zero.
template <typename T> INLINE uint32_t word(const T *row, long length, long k) {
    uint32_t w = 0;
    const long from = k * Format<T>::PER_WORD, count = length - from < Format<T>::PER_WORD ? length - from : Format<T>::PER_WORD;
    memcpy(&w, row + from, count * sizeof(T));
    return w;
}
// B[k, n] = word k of row n, out of `columns` rows of `length` numbers: the transpose, PANEL words a line.
template <typename T> static void pack_rows(const T *rows, long length, long columns, uint32_t *B) {
    const long words = words_of<T>(length), padded = sixteen_up(columns);
    const bool whole = length % Format<T>::PER_WORD == 0;
    for (long n = 0; n < padded; n += 16) for (long k = 0; k < words; k += 16) {
        if (whole && n + 16 <= columns && k + 16 <= words) {
            transpose16(reinterpret_cast<const uint32_t *>(rows + n * length) + k, words, B + k * PANEL + n, PANEL);
            continue;
        }
        for (long i = k; i < words && i < k + 16; i++) for (long j = n; j < n + 16; j++) B[i * PANEL + j] = j < columns ? word(rows + j * length, length, i) : 0;
    }
}
// One line of words out of as many rows as a word holds numbers; `odd` may be absent.
INLINE void line_of(const float *even, const float *, long columns, uint32_t *B) {
    sixteens(columns, [&](long c, auto part) { store(B + c, load_float(even + c, part)); });
}
INLINE void line_of(const bf16 *even, const bf16 *odd, long columns, uint32_t *B) {
    sixteens(columns, [&](long c, auto part) {
        const lanes low = (lanes)load_bf16(even + c, part) >> 16, high = odd ? (lanes)load_bf16(odd + c, part) : lanes{};
        store(B + c, low | high);
    });
}
// B[k, n] out of `rows` rows of numbers `ld` apart: the matrix itself, PANEL words a line.
template <typename T> static void pack_columns(const T *matrix, long ld, long rows, long columns, uint32_t *B) {
    for (long k = 0; k < rows; k += Format<T>::PER_WORD) line_of(matrix + k * ld, k + 1 < rows ? matrix + (k + 1) * ld : nullptr, columns, B + k / Format<T>::PER_WORD * PANEL);
}

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

// C rows [from, to) of the choices through one packed panel, a chunk at a time: then(i, row of C) for every choice i.
template <typename T, typename F>
static void each_row(long from, long to, long columns, long length, const T *A, long stride, const uint32_t *B, float *C, F then) {
    for (long i = from; i < to; i += CHUNK) {
        const long count = to - i < CHUNK ? to - i : CHUNK;
        product<T>(count, columns, words_of<T>(length), reinterpret_cast<const uint32_t *>(A + i * stride), stride / Format<T>::PER_WORD, 1, B, PANEL, C);
        for (long r = 0; r < count; r++) then(i + r, C + r * PANEL);
    }
}

template <typename T>
void forward(const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *chosen, int64_t *order, int32_t *ends, T *sorted, T *inner,
             T *active, float *rows, T *out, Sizes s, int threads) {
    sort_choices(chosen, s.tokens * s.choices, s.experts, order, ends);
    const long H = s.hidden, F = s.width, choices = s.tokens * s.choices, hs = stride_of(H), fs = stride_of(F);
    const long panels_f = (F + PANEL - 1) / PANEL, panels_h = (H + PANEL - 1) / PANEL;
    const Groups<T> groups(ends, s.experts);
#pragma omp parallel num_threads(threads) if (choices * H * F > WORTH_A_THREAD * 16)
    {
        scratch.reserve(2 * (H > F ? H : F) * PANEL * 4 + 2 * CHUNK * PANEL * 4 + 1024);
        uint32_t *B = scratch.take<uint32_t>((H > F ? H : F) * PANEL), *B_up = scratch.take<uint32_t>(H * PANEL);
        float *C = scratch.take<float>(CHUNK * PANEL), *C_up = scratch.take<float>(CHUNK * PANEL);
#pragma omp for schedule(static)
        for (long i = 0; i < choices; i++) {
            memcpy(sorted + i * hs, x + order[i] / s.choices * H, H * sizeof(T));
            memset(sorted + i * hs + H, 0, (hs - H) * sizeof(T));
            memset(active + i * fs + F, 0, (fs - F) * sizeof(T));
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_f; task++) {
            const long e = task / panels_f, n = task % panels_f * PANEL, columns = F - n < PANEL ? F - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_rows(gate_up + (e * 2 * F + n) * H, H, columns, B);
            pack_rows(gate_up + (e * 2 * F + F + n) * H, H, columns, B_up);
            for (long i = from; i < to; i += CHUNK) {
                const long count = to - i < CHUNK ? to - i : CHUNK;
                const uint32_t *A = reinterpret_cast<const uint32_t *>(sorted + i * hs);
                product<T>(count, columns, words_of<T>(H), A, hs / Format<T>::PER_WORD, 1, B, PANEL, C);
                product<T>(count, columns, words_of<T>(H), A, hs / Format<T>::PER_WORD, 1, B_up, PANEL, C_up);
                for (long r = 0; r < count; r++) sixteens(columns, [&](long c, auto part) {
                    T *gate = inner + (i + r) * 2 * F + n + c, *up = gate + F;
                    Format<T>::store(gate, load_float(C + r * PANEL + c, part), part);
                    Format<T>::store(up, load_float(C_up + r * PANEL + c, part), part);
                    const vec g = Format<T>::load(gate, part);
                    Format<T>::store(active + (i + r) * fs + n + c, weights[order[i + r]] * g * sigmoid(g) * Format<T>::load(up, part), part);
                });
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_h; task++) {
            const long e = task / panels_h, n = task % panels_h * PANEL, columns = H - n < PANEL ? H - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_rows(down + (e * H + n) * F, F, columns, B);
            each_row(from, to, columns, F, active, fs, B, C, [&](long i, const float *row) { memcpy(rows + order[i] * H + n, row, columns * sizeof(float)); });
        }
        combine(rows, out, s);
    }
}

// The gradient of one expert's matrix: [rows, columns] = A^T B over its choices, both as lines of words; a panel of columns.
template <typename T>
static void matrix_gradient(long rows, long n, long columns, long lines, const uint32_t *A, long lda, const uint32_t *B, long ldb, float *C, T *out, long ld) {
    for (long r = 0; r < rows; r += CHUNK) {
        const long count = rows - r < CHUNK ? rows - r : CHUNK;
        product<T>(count, columns, lines, A + r, 1, lda, B + n, ldb, C);
        for (long i = 0; i < count; i++) sixteens(columns, [&](long c, auto part) { Format<T>::store(out + (r + i) * ld + n + c, load_float(C + i * PANEL + c, part), part); });
    }
}

template <typename T> struct Workspace {  // of the backward: choices sorted by expert, as rows of numbers and as lines of words
    T *d_sorted, *d_inner, *active;
    uint32_t *d_sorted_lines, *sorted_lines, *d_inner_lines, *active_lines;
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
        scratch.reserve((H > 2 * F ? H : 2 * F) * PANEL * 4 + CHUNK * PANEL * 4 + 1024);
        uint32_t *B = scratch.take<uint32_t>((H > 2 * F ? H : 2 * F) * PANEL);
        float *C = scratch.take<float>(CHUNK * PANEL);
#pragma omp for schedule(dynamic, 1)
        for (long e = 0; e < s.experts; e++) for (long l = groups.lines[e], i = groups.rows[e]; l < groups.lines[e + 1]; l++, i += PER) {
            const bool pair = i + 1 < groups.rows[e + 1];
            const long t = order[i] / s.choices, next = pair ? order[i + 1] / s.choices : 0;
            line_of(x + t * H, pair ? x + next * H : nullptr, H, w.sorted_lines + l * hs);
            line_of(d_out + t * H, pair ? d_out + next * H : nullptr, H, w.d_sorted_lines + l * hs);
            for (long j = i; j < i + PER && j < groups.rows[e + 1]; j++) {
                memcpy(w.d_sorted + j * hs, d_out + order[j] / s.choices * H, H * sizeof(T));
                memset(w.d_sorted + j * hs + H, 0, (hs - H) * sizeof(T));
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_f; task++) {
            const long e = task / panels_f, n = task % panels_f * PANEL, columns = F - n < PANEL ? F - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            if (from == to) continue;
            pack_columns(down + e * H * F + n, F, H, columns, B);
            each_row(from, to, columns, H, w.d_sorted, hs, B, C, [&](long i, const float *row) {
                const float weight = weights[order[i]];
                vec total = {};
                sixteens(columns, [&](long c, auto part) {
                    const vec g = Format<T>::load(inner + i * 2 * F + n + c, part), u = Format<T>::load(inner + i * 2 * F + F + n + c, part), half = sigmoid(g);
                    const vec d = load_float(row + c, part), act = g * half * u;
                    total += keep(d * act, part);
                    Format<T>::store(w.active + i * fs + n + c, weight * act, part);
                    Format<T>::store(w.d_inner + i * gs + n + c, weight * d * u * half * (1.f + g * (1.f - half)), part);
                    Format<T>::store(w.d_inner + i * gs + F + n + c, weight * d * g * half, part);
                });
                w.d_weight_parts[task % panels_f * choices + i] = sum(total);
            });
            for (long l = groups.lines[e], i = from; i < to; l++, i += PER) {
                const long odd = i + 1 < to ? 1 : 0;
                const T *act = w.active + i * fs + n;
                line_of(act, odd ? act + fs : nullptr, columns, w.active_lines + l * fs + n);
                for (const long part : {n, F + n}) {  // the two parts touch, so a line is not stored beyond its columns
                    uint32_t line[PANEL + 16];
                    const T *inner_row = w.d_inner + i * gs + part;
                    line_of(inner_row, odd ? inner_row + gs : nullptr, columns, line);
                    memcpy(w.d_inner_lines + l * gs + part, line, columns * sizeof(uint32_t));
                }
            }
        }
#pragma omp for schedule(dynamic, 1) nowait
        for (long task = 0; task < s.experts * panels_h; task++) {
            const long e = task / panels_h, n = task % panels_h * PANEL, columns = H - n < PANEL ? H - n : PANEL, from = groups.rows[e], to = groups.rows[e + 1];
            const long first = groups.lines[e], lines = groups.lines[e + 1] - first;
            matrix_gradient<T>(2 * F, n, columns, lines, w.d_inner_lines + first * gs, gs, w.sorted_lines + first * hs, hs, C, d_gate_up + e * 2 * F * H, H);
            if (from == to) continue;
            pack_columns(gate_up + e * 2 * F * H + n, H, 2 * F, columns, B);
            each_row(from, to, columns, 2 * F, w.d_inner, gs, B, C, [&](long i, const float *row) { memcpy(w.d_rows + order[i] * H + n, row, columns * sizeof(float)); });
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < s.experts * panels_f; task++) {
            const long e = task / panels_f, n = task % panels_f * PANEL, columns = F - n < PANEL ? F - n : PANEL, first = groups.lines[e], lines = groups.lines[e + 1] - first;
            matrix_gradient<T>(H, n, columns, lines, w.d_sorted_lines + first * hs, hs, w.active_lines + first * fs, fs, C, d_down + e * H * F, F);
        }
        combine(w.d_rows, d_x, s);
#pragma omp for schedule(static)
        for (long i = 0; i < choices; i++) {
            float total = 0;
            for (long p = 0; p < panels_f; p++) total += w.d_weight_parts[p * choices + i];
            d_weights[order[i]] = total;
        }
    }
}
}  // namespace

#define EXPERTS_KERNELS(NAME, T)                                                                                                                                \
    KERNEL void experts_forward_##NAME(const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *chosen, int64_t *order, int32_t *ends, \
                                       T *sorted, T *inner, T *active, float *rows, T *out, long tokens, long choices, long hidden, long width, long experts,   \
                                       int threads) {                                                                                                           \
        forward<T>(x, gate_up, down, weights, chosen, order, ends, sorted, inner, active, rows, out, {tokens, choices, hidden, width, experts}, threads);       \
    }                                                                                                                                                           \
    KERNEL void experts_backward_##NAME(const T *d_out, const T *x, const T *gate_up, const T *down, const float *weights, const int64_t *order,                \
                                        const int32_t *ends, const T *inner, T *d_sorted, T *d_inner, T *active, uint32_t *d_sorted_lines,                      \
                                        uint32_t *sorted_lines, uint32_t *d_inner_lines, uint32_t *active_lines, float *d_rows, float *d_weight_parts,          \
                                        T *d_x, T *d_gate_up, T *d_down, float *d_weights, long tokens, long choices, long hidden, long width, long experts,    \
                                        int threads) {                                                                                                          \
        backward<T>(d_out, x, gate_up, down, weights, order, ends, inner,                                                                                       \
                    {d_sorted, d_inner, active, d_sorted_lines, sorted_lines, d_inner_lines, active_lines, d_rows, d_weight_parts}, d_x, d_gate_up,             \
                    d_down, d_weights, {tokens, choices, hidden, width, experts}, threads);                                                                     \
    }
EXPERTS_KERNELS(float32, float)
EXPERTS_KERNELS(bfloat16, bf16)
