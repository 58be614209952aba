#pragma once

// SIMD vectors, bfloat16, and the activation functions of a cell.

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

// Floats in a register. AVX-512 has 32 registers, AVX 16.
#if defined __AVX512F__
#define LANES 16
#elif defined __AVX__
#define LANES 8
#else
#define LANES 4
#endif
#ifdef __AVX512BF16__
#define PAIRED 1  // whether the processor multiplies pairs of bfloat16
#else
#define PAIRED 0
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

INLINE words broadcast(uint32_t x) { return x + (words){0}; }  // to all lanes

// sum + w * x, rounded once (FMA). By itself the compiler uses FMA in some loops only.
INLINE floats add_product(floats sum, floats w, floats x) {
#if defined __AVX512F__
    return (floats)_mm512_fmadd_ps((__m512)w, (__m512)x, (__m512)sum);
#elif defined __FMA__
    return (floats)_mm256_fmadd_ps((__m256)w, (__m256)x, (__m256)sum);
#else
    return sum + w * x;
#endif
}

// Two bfloat16 products in each lane: sum + w.even * x.even + w.odd * x.odd.
INLINE floats add_pairs(floats sum, words w, uint32_t x) {
#if PAIRED
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)broadcast(x));
#else
    sum = add_product(sum, (floats)(w << 16), (floats)(broadcast(x) << 16));
    return add_product(sum, (floats)(w & 0xffff0000u), (floats)(broadcast(x) & 0xffff0000u));
#endif
}

// exp(x) as 2^n times a polynomial for the remaining power of two, from -1/2 to 1/2. Its relative
// error is below 1e-6 where sigmoid and tanh aren't flat. Adding MAGIC rounds a float to the
// nearest integer, which is then in its lowest bits; the 127 makes it the exponent of 2^n.
static inline float fast_exp(float x) {
    const float MAGIC = 12582912.0f + 127;
    float octaves = x * 1.44269504f;
    octaves = octaves < -126.0f ? -126.0f : octaves;  // NaN stays NaN
    octaves = octaves > 126.0f ? 126.0f : octaves;
    const float shifted = octaves + MAGIC, r = octaves - (shifted - MAGIC);
    float p = 1.5403530e-4f;  // coefficients: powers of ln 2 over factorials
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline float fast_sigmoid(float x) { return 1 / (1 + fast_exp(-x)); }
static inline float fast_tanh(float x) { return 1 - 2 / (1 + fast_exp(2 * x)); }

INLINE uint16_t to_bf16(float value) {  // rounds ties to even
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

INLINE float from_bf16(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}
