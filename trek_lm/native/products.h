// Products of matrices of words. A word has 32 bits: one float, or two bfloat16 (`narrow`) that are
// neighbours in the sum they go into. Sums are float.

#include "numbers.h"

#define VECTORS 3  // with ROWS rows of three vectors each the sums fill the registers
#define ROWS 8
#define WIDTH (VECTORS * LANES)

INLINE floats add_words(int narrow, floats sum, words w, uint32_t x) {
    if (narrow) return add_pairs(sum, w, x);
    float value;
    memcpy(&value, &x, 4);
    return sum + (floats)w * value;
}

// y (rows, vectors) += sum over k of a[row, k] * b[k, vector]; rows and vectors are constants.
INLINE void block(int narrow, int rows, int vectors, int depth, const uint32_t *a, int64_t a_row,
                  int64_t a_step, const uint32_t *b, float *y, int64_t y_row, int add) {
    floats sums[ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            if (add)
                memcpy(&sums[r][v], y + r * y_row + v * LANES, sizeof(floats));
            else
                sums[r][v] = (floats){0};
    for (int k = 0; k < depth; k++, b += vectors * LANES, a += a_step) {
        words w[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) memcpy(&w[v], b + v * LANES, sizeof(words));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[r][v] = add_words(narrow, sums[r][v], w[v], a[r * a_row]);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            memcpy(y + r * y_row + v * LANES, &sums[r][v], sizeof(floats));
}

INLINE void panel(int narrow, int vectors, int rows, int depth, const uint32_t *a, int64_t a_row,
                  int64_t a_step, const uint32_t *b, float *y, int64_t y_row, int add) {
    int r = 0;
#define TAKE(n)                                                                               \
    for (; r + n <= rows; r += n)                                                             \
    block(narrow, n, vectors, depth, a + r * a_row, a_row, a_step, b, y + r * y_row, y_row, add)
    TAKE(8);
    TAKE(4);
    TAKE(2);
    TAKE(1);
#undef TAKE
}

INLINE void panels(int narrow, int outputs, int rows, int depth, const uint32_t *a, int64_t a_row,
                   int64_t a_step, const uint32_t *b, float *y, int64_t y_row, int add) {
    for (; outputs > WIDTH - LANES; outputs -= WIDTH, b += (int64_t)depth * WIDTH, y += WIDTH)
        panel(narrow, 3, rows, depth, a, a_row, a_step, b, y, y_row, add);
    if (outputs > LANES)
        panel(narrow, 2, rows, depth, a, a_row, a_step, b, y, y_row, add);
    else if (outputs > 0)
        panel(narrow, 1, rows, depth, a, a_row, a_step, b, y, y_row, add);
}

static inline void to_words(int narrow, int64_t count, const float *restrict from,
                     uint32_t *restrict to) {
    if (!narrow) {
        memcpy(to, from, count * sizeof(float));
        return;
    }
    uint16_t *halves = (uint16_t *)to;
    int64_t j = 0;
#ifdef __AVX512BF16__
    for (; j + LANES <= count; j += LANES) {
        const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + j));
        memcpy(halves + j, &rounded, sizeof rounded);
    }
#endif
    for (; j < count; j++) halves[j] = rounded(from[j]);
    if (count % 2) halves[count] = 0;
}

static inline void from_words(int narrow, int64_t count, const uint32_t *restrict from,
                       float *restrict to) {
    if (!narrow) {
        memcpy(to, from, count * sizeof(float));
        return;
    }
    const uint16_t *halves = (const uint16_t *)from;
    for (int64_t j = 0; j < count; j++) to[j] = widened(halves[j]);
}

