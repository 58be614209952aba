// Matrix products. A matrix consists of 32-bit words: each is one float, or (`paired`) two bfloat16
// that are adjacent along the summed dimension. Sums are float. If the processor can't multiply
// bfloat16 (PAIRED is 0), bf16 numbers are floats that were rounded to bfloat16.

#include "numbers.h"

// ROWS * VECTORS sums fill the registers.
#ifdef __AVX512F__
#define VECTORS 3
#define ROWS 8
#else
#define VECTORS 2
#define ROWS 6
#endif
#define WIDTH (VECTORS * LANES)

INLINE floats add_words(int paired, floats sum, words w, uint32_t x) {
    return paired ? add_pairs(sum, w, x) : add_product(sum, (floats)w, (floats)broadcast(x));
}

// y (rows, vectors) = or += sum over k of a[row, k] * b[k, vector]; inlined with constant sizes.
INLINE void block(int paired, int rows, int vectors, int depth, const uint32_t *a, int64_t a_row,
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
                sums[r][v] = add_words(paired, sums[r][v], w[v], a[r * a_row]);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            memcpy(y + r * y_row + v * LANES, &sums[r][v], sizeof(floats));
}

// The same for any number of rows.
INLINE void panel(int paired, int vectors, int rows, int depth, const uint32_t *a, int64_t a_row,
                  int64_t a_step, const uint32_t *b, float *y, int64_t y_row, int add) {
    int r = 0;
#define BLOCKS(n)                                                                               \
    for (; r + n <= rows; r += n)                                                             \
    block(paired, n, vectors, depth, a + r * a_row, a_row, a_step, b, y + r * y_row, y_row, add)
    BLOCKS(ROWS);
    BLOCKS(4);
    BLOCKS(2);
    BLOCKS(1);
#undef BLOCKS
}

// The same for any number of outputs; b is packed in panels of WIDTH outputs.
INLINE void panels(int paired, int outputs, int rows, int depth, const uint32_t *a, int64_t a_row,
                   int64_t a_step, const uint32_t *b, float *y, int64_t y_row, int add) {
    for (; outputs > WIDTH - LANES; outputs -= WIDTH, b += (int64_t)depth * WIDTH, y += WIDTH)
        panel(paired, VECTORS, rows, depth, a, a_row, a_step, b, y, y_row, add);
    if (outputs > LANES)
        panel(paired, 2, rows, depth, a, a_row, a_step, b, y, y_row, add);
    else if (outputs > 0)
        panel(paired, 1, rows, depth, a, a_row, a_step, b, y, y_row, add);
}

static inline void to_words(int bf16, int64_t count, const float *restrict from,
                     uint32_t *restrict to) {
    if (!bf16) {
        memcpy(to, from, count * sizeof(float));
        return;
    }
#if PAIRED
    uint16_t *halves = (uint16_t *)to;
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        const __m256bh converted = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + j));
        memcpy(halves + j, &converted, sizeof converted);
    }
    for (; j < count; j++) halves[j] = to_bf16(from[j]);
    if (count % 2) halves[count] = 0;
#else
    for (int64_t j = 0; j < count; j++) to[j] = (uint32_t)to_bf16(from[j]) << 16;
#endif
}

static inline void from_bf16_row(int64_t count, const uint16_t *restrict from, float *restrict to) {
    for (int64_t j = 0; j < count; j++) to[j] = from_bf16(from[j]);
}

static inline void from_words(int paired, int64_t count, const uint32_t *restrict from,
                       float *restrict to) {
    if (paired)
        from_bf16_row(count, (const uint16_t *)from, to);
    else
        memcpy(to, from, count * sizeof(float));
}
