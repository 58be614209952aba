// Rows of a step, forward and backward; cells.py beside the models has the equations. P units
// stand from group to group of sums, of which H are the cell's.

#include "numbers.h"

// One row of an LSTM: its sums y become its gates.
static inline void lstm_row(int H, int P, float *restrict y, const float *restrict bias,
                     const float *restrict c_before, float *restrict c, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float i = sigmoid(y[j] + bias[j]);
        const float f = sigmoid(y[P + j] + bias[P + j]);
        const float g = tangent(y[2 * P + j] + bias[2 * P + j]);
        const float o = sigmoid(y[3 * P + j] + bias[3 * P + j]);
        c[j] = f * c_before[j] + i * g;
        h[j] = o * tangent(c[j]);
        y[j] = i;
        y[P + j] = f;
        y[2 * P + j] = g;
        y[3 * P + j] = o;
    }
}

// One row of a GRU: its sums become candidate, r, z and the candidate's part of the state.
static inline void gru_row(int H, int P, float *restrict y, const float *restrict bias,
                    float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float r = sigmoid(y[P + j] + bias[P + j]);
        const float z = sigmoid(y[2 * P + j] + bias[2 * P + j]);
        const float own = y[3 * P + j] + bias[3 * P + j];
        const float candidate = tangent(y[j] + bias[j] + r * own);
        h[j] = candidate + z * (h[j] - candidate);
        y[j] = candidate;
        y[P + j] = r;
        y[2 * P + j] = z;
        y[3 * P + j] = own;
    }
}

// Back over an LSTM's row: its gates become the gradients of its sums; dc goes a step back.
static inline void lstm_row_back(int H, int P, float *restrict y, const float *restrict c_before,
                          const float *restrict c, const float *restrict dh,
                          float *restrict dc) {
    for (int j = 0; j < H; j++) {
        const float i = y[j], f = y[P + j], g = y[2 * P + j], o = y[3 * P + j];
        const float shown = tangent(c[j]);
        const float d = dc[j] + dh[j] * o * (1 - shown * shown);
        y[j] = d * g * i * (1 - i);
        y[P + j] = d * c_before[j] * f * (1 - f);
        y[2 * P + j] = d * i * (1 - g * g);
        y[3 * P + j] = dh[j] * shown * o * (1 - o);
        dc[j] = d * f;
    }
}

// Back over a GRU's row; dh becomes what of it goes past the sums a step back.
static inline void gru_row_back(int H, int P, float *restrict y, const float *restrict h_before,
                         float *restrict dh) {
    for (int j = 0; j < H; j++) {
        const float candidate = y[j], r = y[P + j], z = y[2 * P + j], own = y[3 * P + j];
        const float d = dh[j] * (1 - z) * (1 - candidate * candidate);
        y[j] = d;
        y[P + j] = d * own * r * (1 - r);
        y[2 * P + j] = dh[j] * (h_before[j] - candidate) * z * (1 - z);
        y[3 * P + j] = d * r;
        dh[j] *= z;
    }
}
