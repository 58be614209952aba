// One batch row of a step, forward and backward; reference.py has the equations. Groups of sums are
// P units apart; the first H of each are used.

#include "numbers.h"

// An LSTM: replaces the sums y by the gates.
static inline void lstm_row(int H, int P, float *restrict y, const float *restrict bias,
                     const float *restrict c_before, float *restrict c, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float i = fast_sigmoid(y[j] + bias[j]);
        const float f = fast_sigmoid(y[P + j] + bias[P + j]);
        const float g = fast_tanh(y[2 * P + j] + bias[2 * P + j]);
        const float o = fast_sigmoid(y[3 * P + j] + bias[3 * P + j]);
        c[j] = f * c_before[j] + i * g;
        h[j] = o * fast_tanh(c[j]);
        y[j] = i;
        y[P + j] = f;
        y[2 * P + j] = g;
        y[3 * P + j] = o;
    }
}

// A GRU: replaces the sums y by the candidate, r, z and U h of the candidate.
static inline void gru_row(int H, int P, float *restrict y, const float *restrict bias,
                    float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float r = fast_sigmoid(y[P + j] + bias[P + j]);
        const float z = fast_sigmoid(y[2 * P + j] + bias[2 * P + j]);
        const float Uh = y[3 * P + j] + bias[3 * P + j];
        const float candidate = fast_tanh(y[j] + bias[j] + r * Uh);
        h[j] = candidate + z * (h[j] - candidate);
        y[j] = candidate;
        y[P + j] = r;
        y[2 * P + j] = z;
        y[3 * P + j] = Uh;
    }
}

// Backward through an LSTM: the gates become the gradients of the sums, dc that of the previous c.
static inline void lstm_row_back(int H, int P, float *restrict y, const float *restrict c_before,
                          const float *restrict c, const float *restrict dh,
                          float *restrict dc) {
    for (int j = 0; j < H; j++) {
        const float i = y[j], f = y[P + j], g = y[2 * P + j], o = y[3 * P + j];
        const float tanh_c = fast_tanh(c[j]);
        const float d = dc[j] + dh[j] * o * (1 - tanh_c * tanh_c);
        y[j] = d * g * i * (1 - i);
        y[P + j] = d * c_before[j] * f * (1 - f);
        y[2 * P + j] = d * i * (1 - g * g);
        y[3 * P + j] = dh[j] * tanh_c * o * (1 - o);
        dc[j] = d * f;
    }
}

// Backward through a GRU; dh becomes the previous h's gradient, but for the part through the sums.
static inline void gru_row_back(int H, int P, float *restrict y, const float *restrict h_before,
                         float *restrict dh) {
    for (int j = 0; j < H; j++) {
        const float candidate = y[j], r = y[P + j], z = y[2 * P + j], Uh = y[3 * P + j];
        const float d = dh[j] * (1 - z) * (1 - candidate * candidate);
        y[j] = d;
        y[P + j] = d * Uh * r * (1 - r);
        y[2 * P + j] = dh[j] * (h_before[j] - candidate) * z * (1 - z);
        y[3 * P + j] = d * r;
        dh[j] *= z;
    }
}
