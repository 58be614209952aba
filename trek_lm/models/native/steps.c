// Lines of characters: the step of an LSTM or a GRU for many lines side by side, and the draw,
// without a call into a library between them. weights.py packs the weights, build.py builds this
// file; TorchStepper in generation/steppers.py computes the same without it.
//
// Weights and hidden states are bfloat16, sums and cell states float32. Each number comes from the
// same operations in the same order however many lines are stepped, so that a line is the same to
// the bit alone and in company.

#include "numbers.h"
#include "interface.h"

#define STRIP (2 * LANES)  // outputs at a time
#ifdef __AVX512F__
#define BLOCK 12  // lines at a time: with two vectors each they fill the registers
#else
#define BLOCK 4  // here with four halves of weights and two of a state
#endif

// y = W x for some lines and some strips; both numbers are constants where this is inlined.
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

// A row's new state of an LSTM's layer, from its products g, (4H,): i, f, o, c.
static void lstm_row(int H, const float *restrict g, const float *restrict added,
                     float *restrict c, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float i = sigmoid(g[j] + added[j]);
        const float f = sigmoid(g[H + j] + added[H + j]);
        const float o = sigmoid(g[2 * H + j] + added[2 * H + j]);
        c[j] = f * c[j] + i * tangent(g[3 * H + j] + added[3 * H + j]);
        h[j] = o * tangent(c[j]);
    }
}

// The same of a GRU's layer: r, z, and of the candidate what is own and what comes from below.
static void gru_row(int H, const float *restrict g, const float *restrict added,
                    const float *restrict own_bias, const float *restrict old, float *restrict h) {
    for (int j = 0; j < H; j++) {
        const float r = sigmoid(g[j] + added[j]);
        const float z = sigmoid(g[H + j] + added[H + j]);
        const float own = r * (g[2 * H + j] + own_bias[j]);
        const float candidate = tangent(g[3 * H + j] + added[2 * H + j] + own);
        h[j] = candidate + z * (old[j] - candidate);
    }
}

// A layer's new states of up to TILE lines.
static void step_layer(const model *m, int l, int lines, const uint8_t *ids, state at) {
    const int H = m->hidden;
    const int64_t h_stride = m->count * m->padded;
    const packed_layer *this = m->layers + l;
    uint16_t *h = at.h + l * m->padded, *below = l ? h - m->padded : h;
    float *c = at.c + l * H, *g = at.work, *old = at.work + (int64_t)TILE * 4 * H, *new = old + H;
    product(&this->both, lines, below, h_stride, g, 4 * H);
    if (m->gru) {
        product(&this->own, lines, h, h_stride, g + 2 * H, 4 * H);
        if (l) product(&this->below, lines, below, h_stride, g + 3 * H, 4 * H);
    }
    for (int n = 0; n < lines; n++, g += 4 * H, h += h_stride, c += m->count * H) {
        const float *added = this->added + (l ? 0 : (int64_t)ids[n] * (m->gru ? 3 : 4) * H);
        if (m->gru) {
            if (!l) memset(g + 3 * H, 0, H * sizeof(float));
            for (int j = 0; j < H; j++) old[j] = widened(h[j]);
            gru_row(H, g, added, this->own_bias, old, new);
        } else {
            lstm_row(H, g, added, c, new);
        }
        for (int j = 0; j < H; j++) h[j] = rounded(new[j]);
    }
}

// The logits of up to TILE lines from their last layer's states; the head is a product or two.
static void head(const model *m, int lines, state at, float *logits) {
    const uint16_t *x = at.h + (m->count - 1) * m->padded;
    int64_t x_stride = m->count * m->padded;
    for (int p = 0; p < m->products; p++) {
        const matrix *this = m->head + p;
        const int outputs = this->outputs, last = p + 1 == m->products;
        float *y = last ? logits : at.work;
        product(this, lines, x, x_stride, y, outputs);
        for (int n = 0; n < lines; n++)
            for (int j = 0; j < outputs; j++) y[(int64_t)n * outputs + j] += this->bias[j];
        if (last) return;
        // The second product's input takes the place of the first one's output, in bfloat16.
        uint16_t *narrow = (uint16_t *)at.work;
        x_stride = outputs + outputs % 2;
        for (int n = 0; n < lines; n++) {
            for (int j = 0; j < outputs; j++)
                narrow[n * x_stride + j] = rounded(y[(int64_t)n * outputs + j]);
            if (outputs % 2) narrow[n * x_stride + outputs] = 0;
        }
        x = narrow;
    }
}

// As in contexts.py, of `count` characters in `seen` and a newer one, its number from 1; 0: none.
static uint64_t hashed(uint64_t number, const uint16_t *seen, int count) {
    for (int k = 0; k < count; k++) number = number * 257 + seen[k];
    return number * 0x9E3779B97F4A7C15u;
}

static int64_t row_of(uint64_t hash, int rows) { return hash >> 40 & (rows - 1); }

// Adds to a line's logits what the table has for its last 2, 3, ... characters: see ngrams.py.
static void add_ngrams(const model *m, uint8_t id, const uint16_t *seen, float *logits) {
    for (int before = 1; before < m->longest; before++) {
        const int64_t row = row_of(hashed(id + 1, seen, before), m->ngram_rows);
        for (int j = 0; j < m->vocab_size; j++) logits[j] += m->ngrams[row * m->vocab_size + j];
    }
}

// Remembers what followed, and adds to the logit of what followed the last time: see matches.py.
static void add_match(const model *m, int k, float gate, uint8_t id, const uint16_t *seen,
                      uint32_t *table, float *logits) {
    const uint64_t before = hashed(0, seen, m->lengths[k]);
    const uint64_t now = hashed(id + 1, seen, m->lengths[k] - 1);
    // Nine bits for the id, above them 22 of the hash that are not the row's.
    table[row_of(before, m->match_rows)] = (before >> 18 & 0x3FFFFF) << 9 | (id + 1);
    const uint32_t entry = table[row_of(now, m->match_rows)], found = entry & 0x1FF;
    if (found && entry >> 9 == (now >> 18 & 0x3FFFFF)) logits[found - 1] += gate;
}

// Adds to the logits of up to TILE lines what their last characters tell.
static void add_contexts(const model *m, int lines, const uint8_t *ids, state at, float *logits) {
    const int matches = m->gates.outputs;
    const uint16_t *top = at.h + (m->count - 1) * m->padded;
    float *gates = at.work;
    product(&m->gates, lines, top, m->count * m->padded, gates, matches);
    for (int n = 0; n < lines; n++, logits += m->vocab_size, at.seen += m->history) {
        add_ngrams(m, ids[n], at.seen, logits);
        for (int k = 0; k < matches; k++, at.table += m->match_rows)
            add_match(m, k, *gates++ + m->gates.bias[k], ids[n], at.seen, at.table, logits);
        for (int k = m->history - 1; k > 0; k--) at.seen[k] = at.seen[k - 1];
        if (m->history) at.seen[0] = ids[n] + 1;
    }
}

void step_lines(const model *m, int32_t lines, const uint8_t *ids, state at, float *logits) {
    for (; lines > 0; lines -= TILE) {
        const int count = lines < TILE ? lines : TILE;
        for (int l = 0; l < m->count; l++) step_layer(m, l, count, ids, at);
        head(m, count, at, logits);
        add_contexts(m, count, ids, at, logits);
        ids += TILE;
        logits += TILE * m->vocab_size;
        at.h += (int64_t)TILE * m->count * m->padded;
        at.c += (int64_t)TILE * m->count * m->hidden;
        at.seen += TILE * m->history;
        at.table += (int64_t)TILE * m->gates.outputs * m->match_rows;
    }
}
