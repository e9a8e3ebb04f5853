// The router of a mixture of experts: every expert's score in float32, the best ones of each token with their weights, and the gradients.
// Threads share out tokens, or panels of columns where tokens are summed, so no result depends on their number.
#include "panels.h"

namespace {
constexpr float TINY = 1e-20f;  // keeps a sum of scores from being zero, as nn/routing.py does
constexpr long BLOCK = 256;     // tokens that are summed before they are added to those before
thread_local Scratch scratch;

struct Sizes { long tokens, hidden, experts, choices; };
struct Rule { bool softmax, normalized; };

INLINE long panels_of(long columns) { return (columns + PANEL - 1) / PANEL; }
INLINE long columns_from(long n, long columns) { return columns - n < PANEL ? columns - n : PANEL; }

// e^x: the whole power of two apart, so that the rest keeps all of its digits.
INLINE vec natural_exp(vec x) {
    x = maximum(x, splat(-104.f));
    const float log2e = 1.44269504f, rest = 1.92596303e-8f, shift = 12582912.f;
    const vec whole = fma(x, splat(log2e), splat(shift)) - shift;
    return exp2(fma(x, splat(rest), fma(x, splat(log2e), -whole))) * exp2(whole);
}

static void score(const float *logits, float *scores, long experts, bool softmax) {
    if (!softmax) return sixteens(experts, [&](long e, auto part) { store_float(scores + e, 1.f / (1.f + natural_exp(-load_float(logits + e, part))), part); });
    float top = logits[0], total = 0;
    for (long e = 1; e < experts; e++) top = logits[e] > top ? logits[e] : top;
    sixteens(experts, [&](long e, auto part) {
        const vec power = keep(natural_exp(load_float(logits + e, part) - top), part);
        total += sum(power);
        store_float(scores + e, power, part);
    });
    sixteens(experts, [&](long e, auto part) { store_float(scores + e, load_float(scores + e, part) / total, part); });
}

// The best `choices` by falling score (with the bias); of equal ones the first. Whatever the scores are, the places are different ones.
static void choose(const float *scores, const float *bias, const Sizes &s, float *best, int64_t *chosen) {
    for (long e = 0; e < s.experts; e++) {
        const float value = bias ? scores[e] + bias[e] : scores[e];
        long place = e < s.choices ? e : s.choices;
        if (place == s.choices && !(value > best[place - 1])) continue;
        if (place == s.choices) place--;
        for (; place > 0 && value > best[place - 1]; place--) { best[place] = best[place - 1]; chosen[place] = chosen[place - 1]; }
        best[place] = value;
        chosen[place] = e;
    }
}

template <typename T>
void forward(const T *x, const T *router, const float *bias, float *logits, float *scores, int64_t *chosen, float *weights, Sizes s, Rule rule, int threads) {
    const long H = s.hidden, E = s.experts, words = words_of<T>(H), chunks = (s.tokens + CHUNK - 1) / CHUNK;
    scratch.reserve(panels_of(E) * words * PANEL * 4);
    uint32_t *B = scratch.take<uint32_t>(panels_of(E) * words * PANEL);
    for (long n = 0; n < E; n += PANEL) pack_rows(router + n * H, H, columns_from(n, E), B + n * words);
#pragma omp parallel num_threads(threads) if (s.tokens * H * E > WORTH_A_THREAD * 16)
    {
        thread_local Scratch own;
        own.reserve((CHUNK * (words + PANEL) + s.choices) * 4 + 256);
        uint32_t *A = own.take<uint32_t>(CHUNK * words);
        float *C = own.take<float>(CHUNK * PANEL), *best = own.take<float>(s.choices);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < chunks; chunk++) {
            const long from = chunk * CHUNK, count = s.tokens - from < CHUNK ? s.tokens - from : CHUNK;
            for (long r = 0; r < count; r++) {
                A[r * words + words - 1] = 0;
                memcpy(A + r * words, x + (from + r) * H, H * sizeof(T));
            }
            for (long n = 0; n < E; n += PANEL) {
                product<T>(count, columns_from(n, E), words, A, words, 1, B + n * words, PANEL, C);
                for (long r = 0; r < count; r++) memcpy(logits + (from + r) * E + n, C + r * PANEL, columns_from(n, E) * sizeof(float));
            }
            for (long t = from; t < from + count; t++) {
                score(logits + t * E, scores + t * E, E, rule.softmax);
                choose(scores + t * E, bias, s, best, chosen + t * s.choices);
                float total = rule.normalized ? TINY : 1.f;
                for (long c = 0; c < s.choices && rule.normalized; c++) total += scores[t * E + chosen[t * s.choices + c]];
                for (long c = 0; c < s.choices; c++) weights[t * s.choices + c] = scores[t * E + chosen[t * s.choices + c]] / total;
            }
        }
    }
}

// d_line: the gradient of one token's logits, out of those of its scores (in d_line already) and of its weights.
static void score_gradient(const float *scores, const int64_t *chosen, const float *weights, const float *d_weights, const Sizes &s, Rule rule, float *d_line) {
    float total = rule.normalized ? TINY : 1.f, met = 0;
    for (long c = 0; c < s.choices && rule.normalized; c++) { total += scores[chosen[c]]; met += d_weights[c] * weights[c]; }
    for (long c = 0; c < s.choices; c++) d_line[chosen[c]] += (d_weights[c] - met) / total;
    vec mean = {};
    sixteens(s.experts, [&](long e, auto part) { mean += load_float(d_line + e, part) * load_float(scores + e, part); });
    const float common = rule.softmax ? sum(mean) : 0.f;
    sixteens(s.experts, [&](long e, auto part) {
        const vec d = load_float(d_line + e, part), score = load_float(scores + e, part);
        store_float(d_line + e, rule.softmax ? score * (d - common) : score * (1.f - score) * d, part);
    });
}

template <typename T>
void backward(const float *d_logits, const float *d_scores, const float *d_weights, const T *x, const T *router, const float *scores, const int64_t *chosen,
              const float *weights, float *lines, T *d_x, T *d_router, Sizes s, Rule rule, int threads) {
    const long H = s.hidden, E = s.experts, chunks = (s.tokens + CHUNK - 1) / CHUNK;
    scratch.reserve(panels_of(H) * E * PANEL * 4);
    uint32_t *B = scratch.take<uint32_t>(panels_of(H) * E * PANEL);
    const auto widened = [](const T *row, long columns, uint32_t *line) {
        sixteens(columns, [&](long c, auto part) { store(line + c, Format<T>::load(row + c, part)); });
    };
#pragma omp parallel num_threads(threads) if (s.tokens * H * E > WORTH_A_THREAD * 16)
    {
        thread_local Scratch own;
        own.reserve((BLOCK + 2 * E + CHUNK) * PANEL * 4 + 256);
        uint32_t *X = own.take<uint32_t>(BLOCK * PANEL);
        float *C = own.take<float>((E > CHUNK ? E : CHUNK) * PANEL), *total = own.take<float>(E * PANEL);
#pragma omp for schedule(static) nowait
        for (long t = 0; t < s.tokens; t++) {
            float *line = lines + t * E;
            if (d_scores) memcpy(line, d_scores + t * E, E * sizeof(float));
            else memset(line, 0, E * sizeof(float));
            score_gradient(scores + t * E, chosen + t * s.choices, weights + t * s.choices, d_weights + t * s.choices, s, rule, line);
            for (long e = 0; d_logits && e < E; e++) line[e] += d_logits[t * E + e];
        }
#pragma omp for schedule(static)
        for (long panel = 0; panel < panels_of(H); panel++) for (long e = 0; e < E; e++) {
            widened(router + e * H + panel * PANEL, columns_from(panel * PANEL, H), B + (panel * E + e) * PANEL);
        }
#pragma omp for schedule(static) nowait
        for (long chunk = 0; chunk < chunks; chunk++) for (long n = 0; n < H; n += PANEL) {
            const long from = chunk * CHUNK, count = s.tokens - from < CHUNK ? s.tokens - from : CHUNK, columns = columns_from(n, H);
            product<float>(count, columns, E, reinterpret_cast<const uint32_t *>(lines + from * E), E, 1, B + n * E, PANEL, C);
            for (long r = 0; r < count; r++) sixteens(columns, [&](long c, auto part) {
                Format<T>::store(d_x + (from + r) * H + n + c, load_float(C + r * PANEL + c, part), part);
            });
        }
#pragma omp for schedule(dynamic, 1)
        for (long n = 0; n < H; n += PANEL) {
            const long columns = columns_from(n, H);
            memset(total, 0, E * PANEL * sizeof(float));
            for (long from = 0; from < s.tokens; from += BLOCK) {
                const long count = s.tokens - from < BLOCK ? s.tokens - from : BLOCK;
                for (long t = 0; t < count; t++) widened(x + (from + t) * H + n, columns, X + t * PANEL);
                product<float>(E, columns, count, reinterpret_cast<const uint32_t *>(lines + from * E), 1, E, X, PANEL, C);
                for (long e = 0; e < E; e++) sixteens(columns, [&](long c, auto part) {
                    store_float(total + e * PANEL + c, load_float(total + e * PANEL + c, part) + load_float(C + e * PANEL + c, part), part);
                });
            }
            for (long e = 0; e < E; e++) sixteens(columns, [&](long c, auto part) {
                Format<T>::store(d_router + e * H + n + c, load_float(total + e * PANEL + c, part), part);
            });
        }
    }
}
}  // namespace

#define ROUTER_KERNELS(NAME, T)                                                                                                                            \
    KERNEL void router_forward_##NAME(const T *x, const T *router, const float *bias, float *logits, float *scores, int64_t *chosen, float *weights,      \
                                      long tokens, long hidden, long experts, long choices, int softmax, int normalized, int threads) {                   \
        forward<T>(x, router, bias, logits, scores, chosen, weights, {tokens, hidden, experts, choices}, {softmax != 0, normalized != 0}, threads);       \
    }                                                                                                                                                      \
    KERNEL void router_backward_##NAME(const float *d_logits, const float *d_scores, const float *d_weights, const T *x, const T *router,                 \
                                       const float *scores, const int64_t *chosen, const float *weights, float *lines, T *d_x, T *d_router, long tokens,  \
                                       long hidden, long experts, long choices, int softmax, int normalized, int threads) {                               \
        backward<T>(d_logits, d_scores, d_weights, x, router, scores, chosen, weights, lines, d_x, d_router, {tokens, hidden, experts, choices},          \
                    {softmax != 0, normalized != 0}, threads);                                                                                             \
    }
ROUTER_KERNELS(float32, float)
ROUTER_KERNELS(bfloat16, bf16)
