#pragma once

// Vectors, bfloat16, and the functions of a cell.

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

// Two products a lane, of bfloat16 pairs: sum + w.even * x.even + w.odd * x.odd.
INLINE floats add_pairs(floats sum, words w, uint32_t x) {
#ifdef __AVX512BF16__
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(x));
#else
    const uint32_t halves[2] = {x << 16, x & 0xffff0000u};
    float even, odd;
    memcpy(&even, halves, 4);
    memcpy(&odd, halves + 1, 4);
    return sum + (floats)(w << 16) * even + (floats)(w & 0xffff0000u) * odd;
#endif
}

// 2^n times a polynomial on half an octave to either side; relative error below 1e-6 where
// sigmoid and tangent aren't flat. What is left of a float after MAGIC was added is its nearest
// whole number, in its lowest bits, where with 127 it is an exponent.
static inline float exponential(float x) {
    const float MAGIC = 12582912.0f + 127;
    float octaves = x * 1.44269504f;
    octaves = octaves < -126.0f ? -126.0f : octaves;  // what is no number stays none
    octaves = octaves > 126.0f ? 126.0f : octaves;
    const float shifted = octaves + MAGIC, r = octaves - (shifted - MAGIC);
    float p = 1.5403530e-4f;  // the powers of ln 2 over the factorials
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

static inline float sigmoid(float x) { return 1 / (1 + exponential(-x)); }
static inline float tangent(float x) { return 1 - 2 / (1 + exponential(2 * x)); }

INLINE uint16_t rounded(float value) {  // to bfloat16, ties to even
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

INLINE float widened(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}
