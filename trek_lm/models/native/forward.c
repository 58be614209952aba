// Training, forward pass: whole sequences through the layers of an LSTM or a GRU.
//
// Each thread takes some rows of the batch through all steps of all layers. Threads synchronise
// after the packing of the weights and before the sum of their gradients, never at a step.

#include "cells.h"
#include "sequences.h"

// Packs the weights for y = W x: one panel of sums.
static void pack_forward(const shape *s, const float *W, int of_input, int64_t first,
                         uint32_t *packed) {
    const int64_t units = group_count(s) * group_size(s), H = s->hidden, depth = words_of(s, H);
    const int64_t left = units - first, width = left < WIDTH ? round_up(left, LANES) : WIDTH;
    uint32_t row_words[depth];
    for (int64_t j = 0; j < width; j++) {
        const int64_t row = j < left ? torch_row(s, of_input, first + j) : -1;
        uint32_t *to = packed + first * depth + j;
        if (row < 0)
            memset(row_words, 0, sizeof row_words);
        else
            to_words(s->bf16, H, W + row * H, row_words);
        for (int64_t k = 0; k < depth; k++) to[k * width] = row_words[k];
    }
}

// Packs the weights for dx = W^T dy: one panel of inputs.
static void pack_backward(const shape *s, const float *W, int of_input, int64_t first,
                          uint32_t *packed) {
    const int64_t H = s->hidden, depth = words_of(s, group_count(s) * group_size(s));
    const int64_t left = H - first < WIDTH ? H - first : WIDTH, width = round_up(left, LANES);
    for (int64_t k = 0; k < depth; k++) {
        uint32_t *restrict to = packed + first * depth + k * width;
        const int64_t row = torch_row(s, of_input, paired(s) ? 2 * k : k);
        memset(to, 0, width * sizeof *to);
        if (row < 0) continue;
        const float *restrict even = W + row * H + first;
        const int64_t next = paired(s) ? torch_row(s, of_input, 2 * k + 1) : -1;
        if (!paired(s))
            to_words(s->bf16, left, even, to);
        else if (next < 0)
            for (int64_t j = 0; j < left; j++) to[j] = to_bf16(even[j]);
        else
            for (int64_t j = 0; j < left; j++)
                to[j] = to_bf16(even[j]) | (uint32_t)to_bf16(even[H + j]) << 16;
    }
}

static void pack_bias(const shape *s, const parameters *p, float *bias) {
    memset(bias, 0, 4 * group_size(s) * sizeof *bias);
    for (int64_t unit = 0; unit < group_count(s) * group_size(s); unit++) {
        const int64_t in = torch_row(s, 1, unit), own = torch_row(s, 0, unit);
        if (in < 0) continue;
        bias[unit] += p->b_W[in];
        bias[unit + (s->gru ? group_size(s) : 0)] += p->b_U[own];
    }
}

// Packs the weights of all layers; the threads share the panels.
static void pack(const shape *s, const parameters *weights, const layer *layers) {
    for (int l = 0; l < s->layers; l++) {
        const layer *this = layers + l;
        const parameters *p = weights + l;
#pragma omp for nowait
        for (int64_t first = 0; first < group_count(s) * group_size(s); first += WIDTH) {
            if (l) pack_forward(s, p->W, 1, first, this->W);
            pack_forward(s, p->U, 0, first, this->U);
        }
#pragma omp for nowait
        for (int64_t first = 0; first < s->hidden; first += WIDTH) {
            if (l) pack_backward(s, p->W, 1, first, this->W_back);
            pack_backward(s, p->U, 0, first, this->U_back);
        }
#pragma omp single nowait
        pack_bias(s, p, this->bias);
    }
#pragma omp barrier
}

// Writes the first layer's W x of a character to its sums y, from the table in torch's order.
static void look_up(const shape *s, const float *table, int64_t id, float *y) {
    const int64_t H = s->hidden, P = group_size(s), groups = group_count(s);
    for (int64_t g = 0; g < groups; g++) {
        memcpy(y + g * P, table + id * groups * H + torch_row(s, 1, g * P), H * sizeof *y);
        memset(y + g * P + H, 0, (P - H) * sizeof *y);
    }
}

// Writes a row of outputs to torch's array, which is bfloat16 or float.
static void write_output(const shape *s, const uint32_t *from, int64_t at, void *outputs) {
    const int64_t H = s->hidden;
    if (!s->bf16)
        memcpy((float *)outputs + at, from, H * sizeof(float));
    else if (paired(s))
        memcpy((uint16_t *)outputs + at, from, H * sizeof(uint16_t));
    else
        for (int64_t j = 0; j < H; j++) ((uint16_t *)outputs)[at + j] = from[j] >> 16;
}

static void forward_rows(const shape *s, const layer *layers, shard of, const forward_arrays *a,
                         float *work) {
    const int64_t B = s->rows, H = s->hidden, P = group_size(s), Y = sums_stride(s);
    const int64_t out = words_of(s, H), sums = group_count(s) * P, gates = words_of(s, 4 * P);
    float *y = work, *new_h = y + of.rows * Y;
    uint32_t *dropped = (uint32_t *)(new_h + H);
    for (int l = 0; l < s->layers; l++) {
        const layer *this = layers + l;
        const int64_t start = (l * B + of.first) * H;
        memcpy(this->c + of.first * H, (s->gru ? a->h0 : a->c0) + start, of.rows * H * sizeof *y);
        for (int64_t n = 0; n < of.rows; n++)
            to_words(s->bf16, H, a->h0 + start + n * H, this->h + (of.first + n) * out);
        for (int64_t t = 0; t < s->length; t++) {
            const int64_t at = t * B + of.first;
            if (l)
                product(s, sums, of.rows, out, this->x + at * out, out, this->W, y, Y, 0);
            else
                for (int64_t n = 0; n < of.rows; n++)
                    look_up(s, a->table, a->ids[at + n], y + n * Y);
            if (s->gru)
                for (int64_t n = 0; n < of.rows; n++) memset(y + n * Y + sums, 0, P * sizeof *y);
            product(s, sums, of.rows, out, this->h + at * out, out, this->U,
                    y + (s->gru ? P : 0), Y, 1);
            for (int64_t n = 0; n < of.rows; n++) {
                float *sum = y + n * Y, *h = new_h, *c = this->c + (at + n) * H;
                if (s->gru)
                    gru_row(H, P, sum, this->bias, h = this->c + (of.first + n) * H);
                else
                    lstm_row(H, P, sum, this->bias, c, c + B * H, h);
                to_words(s->bf16, 4 * P, sum, this->gates + (at + n) * gates);
                uint32_t *kept_h = this->h + (at + B + n) * out;
                to_words(s->bf16, H, h, kept_h);
                uint32_t *output = kept_h;
                if (dropout_of(s, l) > 0) {
                    drop(s, l, at + n, h, sum);
                    output = l + 1 < s->layers ? this[1].x + (at + n) * out : dropped;
                    to_words(s->bf16, H, sum, output);
                }
                if (l + 1 == s->layers) write_output(s, output, (at + n) * H, a->outputs);
                if (t + 1 == s->length) {
                    memcpy(a->hn + start + n * H, h, H * sizeof *h);
                    if (!s->gru) memcpy(a->cn + start + n * H, c + B * H, H * sizeof *c);
                }
            }
        }
    }
}

int64_t tape_size(const shape *s) {
    layer layers[s->layers];
    return lay_out_tape(s, layers, NULL);
}

static int64_t workspace(const shape *s) {  // bytes for each shard
    return round_up((max_shard_rows(s) * sums_stride(s) + 2 * s->hidden) * sizeof(float), 64);
}

int64_t forward_size(const shape *s) { return shard_count(s) * workspace(s); }

void forward(const shape *s, const parameters *p, const forward_arrays *a, char *tape,
             char *memory) {
    layer layers[s->layers];
    lay_out_tape(s, layers, tape);
#pragma omp parallel num_threads(s->threads)
    {
        pack(s, p, layers);
#pragma omp for schedule(static, 1)
        for (int64_t i = 0; i < shard_count(s); i++)
            forward_rows(s, layers, shard_of(s, i), a, (float *)(memory + workspace(s) * i));
    }
}
