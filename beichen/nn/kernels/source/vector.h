// Sixteen lanes of float32 (vec) and of uint32 (lanes), written once for every CPU: GCC vector extensions, which
// lower to whatever the machine has, with AVX-512 instructions only where GCC would not find them by itself.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#define BEICHEN_AVX512 1
#endif
#if defined(BEICHEN_AVX512) && defined(__AVX512BF16__)
#define BEICHEN_AVX512_BF16 1
#endif

#define KERNEL extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(64), aligned(64), may_alias));
typedef uint32_t lanes __attribute__((vector_size(64), aligned(64), may_alias));
typedef int32_t ints __attribute__((vector_size(64), aligned(64), may_alias));
typedef uint16_t bf16;  // the upper half of a float32
typedef uint16_t halves __attribute__((vector_size(32), aligned(32), may_alias));
typedef uint16_t shorts __attribute__((vector_size(64), aligned(64), may_alias));

template <typename V, typename T> INLINE V load(const T *p) { V v; memcpy(&v, p, sizeof(V)); return v; }
template <typename V, typename T> INLINE void store(T *p, V v) { memcpy(p, &v, sizeof(V)); }
INLINE vec splat(float x) { return vec{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE lanes splat(uint32_t x) { return lanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE vec maximum(vec a, vec b) { return a > b ? a : b; }

INLINE float to_float(bf16 x) { uint32_t u = uint32_t(x) << 16; float f; memcpy(&f, &u, 4); return f; }
INLINE bf16 to_bf16(float x) {  // to nearest, ties to even; a NaN stays one
    uint32_t u; memcpy(&u, &x, 4);
    return x != x ? bf16(0x7fc0) : bf16((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
INLINE vec widen(halves h) {
#ifdef BEICHEN_AVX512
    return (vec)((lanes)_mm512_cvtepu16_epi32((__m256i)h) << 16);
#else
    return (vec)(__builtin_convertvector(h, lanes) << 16);
#endif
}
INLINE vec load_bf16(const bf16 *p) { return widen(load<halves>(p)); }
INLINE halves narrow(vec x) {
#ifdef BEICHEN_AVX512_BF16
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    lanes u = (lanes)x;
    u = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    u = (lanes)((x == x) ? (ints)u : (ints)splat(uint32_t(0x7fc0)));
    return __builtin_convertvector(u, halves);
#endif
}
INLINE void store_bf16(bf16 *p, vec x) { store(p, narrow(x)); }
// Lane i of the result holds bf16(low[i]) in its lower and bf16(high[i]) in its upper half.
INLINE lanes narrow_pairs(vec low, vec high) {
    return __builtin_convertvector(narrow(low), lanes) | (__builtin_convertvector(narrow(high), lanes) << 16);
}

INLINE vec fma(vec a, vec b, vec c) {
#ifdef BEICHEN_AVX512
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}
INLINE vec root(vec x) {
#ifdef BEICHEN_AVX512
    return (vec)_mm512_sqrt_ps((__m512)x);
#else
    for (int i = 0; i < 16; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

// 2^x within 2 units in the last place; 0 below -150, infinity above 128.
INLINE vec exp2(vec x) {
#ifdef BEICHEN_AVX512
    vec whole = (vec)_mm512_roundscale_ps((__m512)x, 8);
#else
    x = x > -150.f ? x : splat(-150.f);
    x = x < 129.f ? x : splat(129.f);
    const float shift = 12582912.f;  // adding 1.5 * 2^23 rounds to a whole number
    vec whole = (x + shift) - shift;
#endif
    vec f = x - whole;
    vec y = fma(splat(1.5403530e-4f), f, splat(1.3333558e-3f));
    y = fma(y, f, splat(9.6181291e-3f));
    y = fma(y, f, splat(5.5504109e-2f));
    y = fma(y, f, splat(2.4022651e-1f));
    y = fma(y, f, splat(6.9314718e-1f));
    y = fma(y, f, splat(1.0f));
#ifdef BEICHEN_AVX512
    return (vec)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else  // two factors, so that neither leaves the exponent range
    ints n = __builtin_convertvector(whole, ints), half = n >> 1;
    return y * (vec)((half + 127) << 23) * (vec)((n - half + 127) << 23);
#endif
}
INLINE vec sigmoid(vec x) { return 1.f / (1.f + exp2(x * -1.44269504f)); }

INLINE float sum(vec v) {
#ifdef BEICHEN_AVX512
    return _mm512_reduce_add_ps((__m512)v);
#else
    float part[16], total = 0;
    memcpy(part, &v, 64);
    for (int step = 8; step; step /= 2) for (int i = 0; i < step; i++) part[i] += part[i + step];
    return total + part[0];
#endif
}
INLINE float largest(vec v) {
    float part[16];
    memcpy(part, &v, 64);
    for (int step = 8; step; step /= 2) for (int i = 0; i < step; i++) part[i] = part[i] > part[i + step] ? part[i] : part[i + step];
    return part[0];
}

// A 16 x 16 square of 32-bit words turned over its diagonal: out[column][row] = in[row][column].
INLINE void transpose16(const uint32_t *in, long in_stride, uint32_t *out, long out_stride) {
    lanes r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = load<lanes>(in + i * in_stride);
    const ints low = {0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29}, high = {2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31};
    for (int i = 0; i < 16; i += 2) { t[i] = __builtin_shuffle(r[i], r[i + 1], (lanes)low); t[i + 1] = __builtin_shuffle(r[i], r[i + 1], (lanes)high); }
    const ints low2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}, high2 = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
    for (int i = 0; i < 16; i += 4) for (int k = 0; k < 2; k++) {
        r[i + 2 * k] = __builtin_shuffle(t[i + k], t[i + 2 + k], (lanes)low2);
        r[i + 2 * k + 1] = __builtin_shuffle(t[i + k], t[i + 2 + k], (lanes)high2);
    }
    const ints low4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, high4 = {4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31};
    for (int i = 0; i < 16; i += 8) for (int k = 0; k < 4; k++) {
        t[i + k] = __builtin_shuffle(r[i + k], r[i + 4 + k], (lanes)low4);
        t[i + 4 + k] = __builtin_shuffle(r[i + k], r[i + 4 + k], (lanes)high4);
    }
    const ints low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, high8 = {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31};
    for (int k = 0; k < 8; k++) {
        store(out + k * out_stride, __builtin_shuffle(t[k], t[8 + k], (lanes)low8));
        store(out + (k + 8) * out_stride, __builtin_shuffle(t[k], t[8 + k], (lanes)high8));
    }
}

// Working memory of one thread: grows, is kept for the next call, starts on a cache line.
struct Scratch {
    char *base = nullptr;
    size_t size = 0, used = 0;
    ~Scratch() { free(base); }
    void reserve(size_t bytes) {
        used = 0;
        if (bytes <= size) return;
        free(base);
        size = (bytes + 4095) / 4096 * 4096;
        base = static_cast<char *>(aligned_alloc(4096, size));
        if (!base) abort();
    }
    template <typename T> T *take(size_t count) {
        T *p = reinterpret_cast<T *>(base + used);
        used += (count * sizeof(T) + 63) / 64 * 64;
        return p;
    }
};

// A row of any length in steps of sixteen: f(at, whole) for whole steps, f(at, part) for the rest.
struct Whole {};
struct Part { int count; };
template <typename F> INLINE void sixteens(long n, F f) {
    long at = 0;
    for (; at + 16 <= n; at += 16) f(at, Whole{});
    if (at < n) f(at, Part{int(n - at)});
}
INLINE vec load_bf16(const bf16 *p, Whole) { return load_bf16(p); }
INLINE void store_bf16(bf16 *p, vec x, Whole) { store_bf16(p, x); }
INLINE vec load_float(const float *p, Whole) { return load<vec>(p); }
INLINE void store_float(float *p, vec x, Whole) { store(p, x); }
INLINE vec keep(vec x, Whole) { return x; }
#if defined(BEICHEN_AVX512) && defined(__AVX512VL__)
INLINE __mmask16 mask(Part part) { return __mmask16((1u << part.count) - 1); }
INLINE vec load_bf16(const bf16 *p, Part part) { return widen((halves)_mm256_maskz_loadu_epi16(mask(part), p)); }
INLINE void store_bf16(bf16 *p, vec x, Part part) { _mm256_mask_storeu_epi16(p, mask(part), (__m256i)narrow(x)); }
INLINE vec load_float(const float *p, Part part) { return (vec)_mm512_maskz_loadu_ps(mask(part), p); }
INLINE void store_float(float *p, vec x, Part part) { _mm512_mask_storeu_ps(p, mask(part), (__m512)x); }
INLINE vec keep(vec x, Part part) { return (vec)_mm512_maskz_mov_ps(mask(part), (__m512)x); }
#else
INLINE vec load_bf16(const bf16 *p, Part part) { halves h = {}; memcpy(&h, p, part.count * sizeof(bf16)); return widen(h); }
INLINE void store_bf16(bf16 *p, vec x, Part part) { halves h = narrow(x); memcpy(p, &h, part.count * sizeof(bf16)); }
INLINE vec load_float(const float *p, Part part) { vec v = {}; memcpy(&v, p, part.count * sizeof(float)); return v; }
INLINE void store_float(float *p, vec x, Part part) { memcpy(p, &x, part.count * sizeof(float)); }
INLINE vec keep(vec x, Part part) { float v[16]; memcpy(v, &x, 64); for (int i = part.count; i < 16; i++) v[i] = 0; memcpy(&x, v, 64); return x; }
#endif
INLINE vec rounded(vec x) { return widen(narrow(x)); }

constexpr long WORTH_A_THREAD = 1 << 14;  // elements; below, waking other threads costs more than it saves
