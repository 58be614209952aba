// Sampling: a step of an LSTM or a GRU for many lines in parallel. weights.py packs the weights,
// build.py builds this file; TorchStepper in generation/steppers.py does the same without it.
//
// Weights and hidden states are bfloat16, sums and cell states float32. Each number results from
// the same operations in the same order for any number of lines, so a line is the same to the last
// bit in any batch.

#include "numbers.h"
#include "interface.h"

#define STRIP (2 * LANES)  // outputs at a time
#ifdef __AVX512F__
#define BLOCK 12  // lines at a time: with two vectors each they fill the registers
#else
#define BLOCK 4  // their sums, four halves of weights and two of a state fill the registers
#endif

// y = W x for `lines` lines and `strips` strips of outputs; inlined with both constant.
INLINE void block(const matrix *m, int strip, int strips, int lines, const uint16_t *x,
                  int64_t x_stride, float *y, int64_t y_stride) {
    const uint32_t *w[4];
    floats sums[BLOCK][2];
    for (int s = 0; s < strips; s++) {
        const int at = (strip + s) * STRIP;
        w[s] = m->weights + (int64_t)(at / PANEL) * m->pairs * PANEL + at % PANEL;
    }
    for (int n = 0; n < lines * strips; n++) sums[n][0] = sums[n][1] = (floats){0};
    for (int pair = 0; pair < m->pairs; pair++)
#pragma GCC unroll 4
        for (int s = 0; s < strips; s++) {
            words left, right;
            memcpy(&left, w[s] + pair * PANEL, sizeof left);
            memcpy(&right, w[s] + pair * PANEL + LANES, sizeof right);
#pragma GCC unroll 12
            for (int n = 0; n < lines; n++) {
                uint32_t both;
                memcpy(&both, x + n * x_stride + 2 * pair, 4);
                sums[n * strips + s][0] = add_pairs(sums[n * strips + s][0], left, both);
                sums[n * strips + s][1] = add_pairs(sums[n * strips + s][1], right, both);
            }
        }
    for (int n = 0; n < lines; n++)
        for (int s = 0; s < strips; s++) {
            const int at = (strip + s) * STRIP;
            const int count = m->outputs - at < STRIP ? m->outputs - at : STRIP;
            memcpy(y + n * y_stride + at, sums[n * strips + s], count * sizeof(float));
        }
}

static void product(const matrix *m, int lines, const uint16_t *x, int64_t x_stride, float *y,
                    int64_t y_stride) {
    const int strips = (m->outputs + STRIP - 1) / STRIP;
    int done = 0;
    if (lines >= BLOCK) {
        done = lines - lines % BLOCK;
        for (int strip = 0; strip < strips; strip++)
            for (int n = 0; n < done; n += BLOCK)
                block(m, strip, 1, BLOCK, x + n * x_stride, x_stride, y + n * y_stride, y_stride);
    }
    for (; done < lines; done++) {
        int strip = 0;
        for (; strip + 4 <= strips; strip += 4)
            block(m, strip, 4, 1, x + done * x_stride, x_stride, y + done * y_stride, y_stride);
        for (; strip < strips; strip++)
            block(m, strip, 1, 1, x + done * x_stride, x_stride, y + done * y_stride, y_stride);
    }
}

// A line's new state in an LSTM layer, from its products g (4H,): i, f, o, c_hat.
static void lstm_row(int H, const float *restrict g, const float *restrict bias,
                     float *restrict c, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float i = fast_sigmoid(g[j] + bias[j]);
        const float f = fast_sigmoid(g[H + j] + bias[H + j]);
        const float o = fast_sigmoid(g[2 * H + j] + bias[2 * H + j]);
        c[j] = f * c[j] + i * fast_tanh(g[3 * H + j] + bias[3 * H + j]);
        h[j] = o * fast_tanh(c[j]);
    }
}

// A line's new state in a GRU layer, from its products g (4H,): r, z, U h and W x of the candidate.
static void gru_row(int H, const float *restrict g, const float *restrict bias,
                    const float *restrict U_bias, const float *restrict old, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float r = fast_sigmoid(g[j] + bias[j]);
        const float z = fast_sigmoid(g[H + j] + bias[H + j]);
        const float rUh = r * (g[2 * H + j] + U_bias[j]);
        const float candidate = fast_tanh(g[3 * H + j] + bias[2 * H + j] + rUh);
        h[j] = candidate + z * (old[j] - candidate);
    }
}

// Updates the states of a layer for up to TILE lines.
static void step_layer(const model *m, int l, int lines, const uint8_t *ids, state now) {
    const int H = m->hidden;
    const int64_t h_stride = m->num_layers * m->padded;
    const packed_layer *this = m->layers + l;
    uint16_t *h = now.h + l * m->padded, *input = l ? h - m->padded : h;
    float *c = now.c + l * H, *g = now.work, *old = g + (int64_t)TILE * 4 * H, *new = old + H;
    product(&this->gates, lines, input, h_stride, g, 4 * H);
    if (m->gru) {
        product(&this->candidate_hidden, lines, h, h_stride, g + 2 * H, 4 * H);
        if (l) product(&this->candidate_input, lines, input, h_stride, g + 3 * H, 4 * H);
    }
    for (int n = 0; n < lines; n++, g += 4 * H, h += h_stride, c += m->num_layers * H) {
        const float *bias = this->bias + (l ? 0 : (int64_t)ids[n] * (m->gru ? 3 : 4) * H);
        if (m->gru) {
            if (!l) memset(g + 3 * H, 0, H * sizeof(float));
            for (int j = 0; j < H; j++) old[j] = from_bf16(h[j]);
            gru_row(H, g, bias, this->candidate_hidden_bias, old, new);
        } else {
            lstm_row(H, g, bias, c, new);
        }
        for (int j = 0; j < H; j++) h[j] = to_bf16(new[j]);
    }
}

// The logits of up to TILE lines from their last layer's states, by one or two linear layers.
static void head(const model *m, int lines, state now, float *logits) {
    const uint16_t *x = now.h + (m->num_layers - 1) * m->padded;
    int64_t x_stride = m->num_layers * m->padded;
    for (int p = 0; p < m->head_layers; p++) {
        const matrix *this = m->head + p;
        const int outputs = this->outputs, last = p + 1 == m->head_layers;
        float *y = last ? logits : now.work;
        product(this, lines, x, x_stride, y, outputs);
        for (int n = 0; n < lines; n++)
            for (int j = 0; j < outputs; j++) y[(int64_t)n * outputs + j] += this->bias[j];
        if (last) return;
        // Rounds the first layer's outputs to bfloat16, in place, as the second layer's input.
        uint16_t *bf16 = (uint16_t *)now.work;
        x_stride = outputs + outputs % 2;
        for (int n = 0; n < lines; n++) {
            for (int j = 0; j < outputs; j++)
                bf16[n * x_stride + j] = to_bf16(y[(int64_t)n * outputs + j]);
            if (outputs % 2) bf16[n * x_stride + outputs] = 0;
        }
        x = bf16;
    }
}

// The hash in contexts.py, of a newest character (id + 1; 0: none) and `count` in `seen`.
static uint64_t hashed(uint64_t newest, const uint16_t *seen, int count) {
    for (int k = 0; k < count; k++) newest = newest * 257 + seen[k];
    return newest * 0x9E3779B97F4A7C15u;
}

static int64_t row_of(uint64_t hash, int rows) { return hash >> 40 & (rows - 1); }

// Adds the table's rows for a line's last 2, 3, ... characters to its logits: see ngrams.py.
static void add_ngrams(const model *m, uint8_t id, const uint16_t *seen, float *logits) {
    for (int before = 1; before < m->longest_ngram; before++) {
        const int64_t row = row_of(hashed(id + 1, seen, before), m->ngram_rows);
        for (int j = 0; j < m->vocab_size; j++) logits[j] += m->ngrams[row * m->vocab_size + j];
    }
}

// Stores the newest character, and adds the gate to the logit of a match: see matches.py.
static void add_match(const model *m, int k, float gate, uint8_t id, const uint16_t *seen,
                      uint32_t *table, float *logits) {
    const uint64_t before = hashed(0, seen, m->match_lengths[k]);
    const uint64_t now = hashed(id + 1, seen, m->match_lengths[k] - 1);
    // Nine bits for the id, above them 22 bits of the hash that don't determine the row.
    table[row_of(before, m->match_rows)] = (before >> 18 & 0x3FFFFF) << 9 | (id + 1);
    const uint32_t entry = table[row_of(now, m->match_rows)], found = entry & 0x1FF;
    if (found && entry >> 9 == (now >> 18 & 0x3FFFFF)) logits[found - 1] += gate;
}

// Adds the n-gram and match logits of up to TILE lines.
static void add_contexts(const model *m, int lines, const uint8_t *ids, state now, float *logits) {
    const int matches = m->match_gates.outputs;
    const uint16_t *top = now.h + (m->num_layers - 1) * m->padded;
    float *gates = now.work;
    product(&m->match_gates, lines, top, m->num_layers * m->padded, gates, matches);
    for (int n = 0; n < lines; n++, logits += m->vocab_size, now.seen += m->history) {
        add_ngrams(m, ids[n], now.seen, logits);
        for (int k = 0; k < matches; k++, now.table += m->match_rows)
            add_match(m, k, *gates++ + m->match_gates.bias[k], ids[n], now.seen, now.table, logits);
        for (int k = m->history - 1; k > 0; k--) now.seen[k] = now.seen[k - 1];
        if (m->history) now.seen[0] = ids[n] + 1;
    }
}

void step_lines(const model *m, int32_t lines, const uint8_t *ids, state now, float *logits) {
    for (; lines > 0; lines -= TILE) {
        const int count = lines < TILE ? lines : TILE;
        for (int l = 0; l < m->num_layers; l++) step_layer(m, l, count, ids, now);
        head(m, count, now, logits);
        add_contexts(m, count, ids, now, logits);
        ids += TILE;
        logits += TILE * m->vocab_size;
        now.h += (int64_t)TILE * m->num_layers * m->padded;
        now.c += (int64_t)TILE * m->num_layers * m->hidden;
        now.seen += TILE * m->history;
        now.table += (int64_t)TILE * m->match_gates.outputs * m->match_rows;
    }
}
