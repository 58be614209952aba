// Training, backward pass: the gradients of forward.c.

#include "cells.h"
#include "sequences.h"

#define STRIP 16   // units whose gradients are interleaved
#define CHUNK 256  // words of rows that one product adds to the gradient of the weights

static int64_t chunk_length(const shape *s, int64_t rows) {
    const int64_t steps = CHUNK / words_of(s, rows);
    return steps < 1 ? 1 : steps < s->length ? steps : s->length;
}

// y (units, outputs) += a (units, depth) times b, where a is the strips from unit `first` on.
static void outer(const shape *s, int outputs, int first, int units, int depth,
                  const uint32_t *strips, const uint32_t *b, float *y, int64_t y_row) {
    for (int u = first, rows; u < first + units; u += rows, y += rows * y_row) {
        rows = STRIP - u % STRIP < first + units - u ? STRIP - u % STRIP : first + units - u;
        const uint32_t *a = strips + (int64_t)(u - u % STRIP) * depth + u % STRIP;
        if (paired(s))
            panels(1, outputs, rows, depth, a, 1, STRIP, b, y, y_row, 1);
        else
            panels(0, outputs, rows, depth, a, 1, STRIP, b, y, y_row, 1);
    }
}

// Packs rows (rows, count), transposed, into panels of `width` units and `depth` words, from word
// `at` on: a word holds a unit of one row, or (`paired`) of two.
static void pack_rows(const shape *s, int64_t rows, int64_t count, const uint32_t *from,
                      int64_t row_words, int64_t width, int64_t depth, int64_t at,
                      uint32_t *restrict to) {
    const int64_t step = paired(s) ? 2 : 1;
    for (int64_t r = 0; r < rows; r += step, at++)
        for (int64_t first = 0; first < count; first += width) {
            const int64_t left = count - first < width ? count - first : width;
            uint32_t *out =
                to + first * depth + at * (left < width ? round_up(left, LANES) : width);
            if (paired(s)) {
                const uint16_t *even = (const uint16_t *)(from + r * row_words) + first;
                const uint16_t *odd = even + 2 * row_words;
                if (r + 1 < rows)
                    for (int64_t j = 0; j < left; j++) out[j] = even[j] | (uint32_t)odd[j] << 16;
                else
                    for (int64_t j = 0; j < left; j++) out[j] = even[j];
            } else {
                memcpy(out, from + r * row_words + first, left * sizeof(float));
            }
        }
}

static void add_to_table(const shape *s, float *table, int64_t id, const float *y) {
    const int64_t H = s->hidden, P = group_size(s), groups = group_count(s);
    for (int64_t g = 0; g < groups; g++)
        add(H, y + g * P, table + id * groups * H + torch_row(s, 1, g * P));
}

// A shard's gradients of a layer's weights and biases, a row for each sum.
typedef struct {
    float *W, *U, *bias;  // W of the first layer: its table, in torch's order
} gradients;

// The workspace of a shard.
typedef struct {
    float *y, *dh, *dc, *before, *dropped, *dx[2];
    uint32_t *dy, *dy_rows, *x_rows, *h_rows;
} scratch;

static int64_t lay_out_scratch(const shape *s, gradients *sums, scratch *work, char *memory) {
    const int64_t n = max_shard_rows(s), H = s->hidden, P = group_size(s);
    const int64_t units = group_count(s) * P;
    const int64_t row = round_up(H, LANES), depth = words_of(s, n) > CHUNK ? words_of(s, n) : CHUNK;
    int64_t at = 0;
    for (int l = 0; l < s->layers; l++) {
        sums[l].W = allocate(memory, &at, l ? units * row : s->vocab_size * group_count(s) * H);
        sums[l].U = allocate(memory, &at, units * row);
        sums[l].bias = allocate(memory, &at, 4 * P);
    }
    work->y = allocate(memory, &at, 4 * P);
    work->dh = allocate(memory, &at, n * row);
    work->dc = allocate(memory, &at, n * H);
    work->before = allocate(memory, &at, H);
    work->dropped = allocate(memory, &at, H);
    for (int i = 0; i < 2; i++) work->dx[i] = allocate(memory, &at, s->length * n * row);
    work->dy = allocate(memory, &at, n * words_of(s, 4 * P));
    work->dy_rows = allocate(memory, &at, round_up(4 * P, STRIP) * depth);
    work->x_rows = allocate(memory, &at, row * depth);
    work->h_rows = allocate(memory, &at, row * depth);
    return at;
}

static void read_output_gradient(const shape *s, const void *outputs, int64_t at, float *to) {
    const int64_t H = s->hidden;
    if (s->bf16)
        from_bf16_row(H, (const uint16_t *)outputs + at * H, to);
    else
        memcpy(to, (const float *)outputs + at * H, H * sizeof *to);
}

// A batch row of a step: the gradients of its sums, from dh, dc and the tape.
static void row_back(const shape *s, const layer *this, int64_t at, int64_t n, scratch *w) {
    const int64_t H = s->hidden, P = group_size(s), row = round_up(H, LANES);
    const int64_t gates = words_of(s, 4 * P);
    float *dh = w->dh + n * row;
    from_words(paired(s), 4 * P, this->gates + at * gates, w->y);
    if (s->gru) {
        from_words(paired(s), H, this->h + at * words_of(s, H), w->before);
        gru_row_back(H, P, w->y, w->before, dh);
    } else {
        const float *c = this->c + at * H;
        lstm_row_back(H, P, w->y, c, c + s->rows * H, dh, w->dc + n * H);
        memset(dh, 0, H * sizeof *dh);
    }
    to_words(s->bf16, 4 * P, w->y, w->dy + n * gates);
}

static void layer_back(const shape *s, const layer *layers, int l, shard of,
                       const backward_arrays *a, gradients *sums, scratch *w) {
    const layer *this = layers + l;
    const int64_t B = s->rows, H = s->hidden, P = group_size(s), units = group_count(s) * P;
    const int64_t out = words_of(s, H), row = round_up(H, LANES), gates = words_of(s, 4 * P);
    const int64_t own = s->gru ? P : 0;  // the first sum of U h
    const int64_t chunk = chunk_length(s, of.rows), each = words_of(s, of.rows);
    const int64_t start = (l * B + of.first) * H;
    float *dx = w->dx[l % 2];
    const float *from_above = w->dx[(l + 1) % 2];
    memset(sums->W, 0, (l ? units * row : s->vocab_size * group_count(s) * H) * sizeof(float));
    memset(sums->U, 0, units * row * sizeof(float));
    memset(sums->bias, 0, 4 * P * sizeof(float));
    memset(w->dh, 0, of.rows * row * sizeof(float));
    memset(w->dc, 0, of.rows * H * sizeof(float));
    for (int64_t n = 0; n < of.rows; n++) {
        if (a->hn) memcpy(w->dh + n * row, a->hn + start + n * H, H * sizeof(float));
        if (a->cn) memcpy(w->dc + n * H, a->cn + start + n * H, H * sizeof(float));
    }
    int64_t left = 0, depth = 0;  // of the current chunk: remaining steps, words of rows
    for (int64_t t = s->length - 1; t >= 0; t--) {
        const int64_t at = t * B + of.first;
        if (!left) {
            left = chunk < t + 1 ? chunk : t + 1;
            depth = left * each;
        }
        for (int64_t n = 0; n < of.rows; n++) {
            float *dh = w->dh + n * row;
            const float *d = from_above + (t * of.rows + n) * row;
            if (l + 1 == s->layers) {
                read_output_gradient(s, a->outputs, at + n, w->before);
                d = w->before;
            }
            if (dropout_of(s, l) > 0) {
                drop(s, l, at + n, d, w->dropped);
                d = w->dropped;
            }
            add(H, d, dh);
            row_back(s, this, at + n, n, w);
            add(4 * P, w->y, sums->bias);
            if (!l) add_to_table(s, sums->W, a->ids[at + n], w->y);
        }
        product(s, H, of.rows, words_of(s, units), w->dy + words_of(s, own), gates, this->U_back,
                w->dh, row, 1);
        if (l)
            product(s, H, of.rows, words_of(s, units), w->dy, gates, this->W_back,
                    dx + t * of.rows * row, row, 0);
        left--;
        pack_rows(s, of.rows, 4 * P, w->dy, gates, STRIP, depth, left * each, w->dy_rows);
        pack_rows(s, of.rows, H, this->h + at * out, out, WIDTH, depth, left * each, w->h_rows);
        if (l)
            pack_rows(s, of.rows, H, this->x + at * out, out, WIDTH, depth, left * each,
                      w->x_rows);
        if (left) continue;
        outer(s, H, own, units, depth, w->dy_rows, w->h_rows, sums->U, row);
        if (l) outer(s, H, 0, units, depth, w->dy_rows, w->x_rows, sums->W, row);
    }
    for (int64_t n = 0; n < of.rows; n++) {
        memcpy(a->h0 + start + n * H, w->dh + n * row, H * sizeof(float));
        if (!s->gru) memcpy(a->c0 + start + n * H, w->dc + n * H, H * sizeof(float));
    }
}

// Sums the gradients of the shards, in torch's order; the threads share the rows.
static void reduce_shards(const shape *s, int l, const parameters *p, const backward_arrays *a,
                          gradients (*sums)[s->layers]) {
    const int64_t shards = shard_count(s), H = s->hidden, P = group_size(s);
    const int64_t row = round_up(H, LANES);
    const int64_t entries = s->vocab_size * group_count(s);  // of H each
#pragma omp for nowait
    for (int64_t e = 0; e < (l ? 0 : entries); e++) {
        memcpy(a->table + e * H, sums[0][0].W + e * H, H * sizeof(float));
        for (int64_t i = 1; i < shards; i++) add(H, sums[i][0].W + e * H, a->table + e * H);
    }
#pragma omp for nowait
    for (int64_t unit = 0; unit < group_count(s) * P; unit++) {
        const int64_t in = torch_row(s, 1, unit), own = torch_row(s, 0, unit);
        if (in < 0) continue;
        memset(p->dU + own * H, 0, H * sizeof(float));
        if (l) memset(p->dW + in * H, 0, H * sizeof(float));
        p->db_W[in] = p->db_U[own] = 0;
        for (int64_t i = 0; i < shards; i++) {
            add(H, sums[i][l].U + unit * row, p->dU + own * H);
            if (l) add(H, sums[i][l].W + unit * row, p->dW + in * H);
            p->db_W[in] += sums[i][l].bias[unit];
            p->db_U[own] += sums[i][l].bias[unit + (s->gru ? P : 0)];
        }
    }
}

static int64_t workspace(const shape *s) {  // bytes for each shard
    gradients sums[s->layers];
    scratch work;
    return lay_out_scratch(s, sums, &work, NULL);
}

int64_t backward_size(const shape *s) { return shard_count(s) * workspace(s); }

void backward(const shape *s, const parameters *p, const backward_arrays *a, char *tape,
              char *memory) {
    layer layers[s->layers];
    lay_out_tape(s, layers, tape);
    gradients sums[shard_count(s)][s->layers];
#pragma omp parallel num_threads(s->threads)
    {
#pragma omp for schedule(static, 1)
        for (int64_t i = 0; i < shard_count(s); i++) {
            scratch w;
            lay_out_scratch(s, sums[i], &w, memory + workspace(s) * i);
            for (int l = s->layers - 1; l >= 0; l--)
                layer_back(s, layers, l, shard_of(s, i), a, sums[i] + l, &w);
        }
        for (int l = 0; l < s->layers; l++) reduce_shards(s, l, p + l, a, sums);
    }
}
