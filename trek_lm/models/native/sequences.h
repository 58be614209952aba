// What forward.c and backward.c have in common.
//
// A step's sums stand in four groups of `group` units: of an LSTM i, f, c, o, each over the input
// and the state; of a GRU the candidate's part of the input, r, z, the candidate's part of the
// state. So the input has the GRU's first three groups, the state its last three.

#include "products.h"
#include "interface.h"

// What a layer keeps from the forward pass for the backward pass.
typedef struct {
    uint32_t *W, *U, *W_back, *U_back;  // packed
    float *bias;      // (4 * group)
    uint32_t *x;      // (steps, rows, words of hidden): what the layer was given, but the first
    uint32_t *h;      // (steps + 1, rows, words of hidden): from the state before the first step
    float *c;         // LSTM: (steps + 1, rows, hidden); GRU: its newest h, (rows, hidden)
    uint32_t *gates;  // (steps, rows, words of 4 * group)
} layer;

// Rows that one thread takes together: it owns what they need.
typedef struct {
    int64_t first, rows;
} shard;

static inline int64_t shards_of(const shape *s) {
    return s->threads < s->rows ? s->threads : s->rows;
}
static inline int64_t most_rows(const shape *s) {
    return (s->rows + shards_of(s) - 1) / shards_of(s);
}
static inline shard shard_of(const shape *s, int64_t number) {
    const int64_t first = s->rows * number / shards_of(s);
    return (shard){first, s->rows * (number + 1) / shards_of(s) - first};
}

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int paired(const shape *s) { return PAIRED && s->bf16; }
static inline int64_t words_of(const shape *s, int64_t n) { return paired(s) ? (n + 1) / 2 : n; }
static inline int64_t group_of(const shape *s) { return up(s->hidden, 8); }
static inline int64_t groups_of(const shape *s) { return s->gru ? 3 : 4; }
static inline int64_t sums_of(const shape *s) { return up(4 * group_of(s), LANES) + LANES; }
static inline int64_t packed_size(int64_t outputs, int64_t depth) {
    return up(outputs, LANES) * depth;
}

// The next `words` words of 4 bytes of a memory; *at: how far it is taken.
static inline void *take(char *memory, int64_t *at, int64_t words) {
    void *taken = memory ? memory + *at : NULL;
    *at += up(4 * words, 64);
    return taken;
}

// Where each layer's part of the tape is; its size in bytes.
static inline int64_t lay_out(const shape *s, layer *layers, char *tape) {
    const int64_t rows = s->rows, T = s->steps, units = groups_of(s) * group_of(s);
    const int64_t H = s->hidden, out = words_of(s, H), back = words_of(s, units);
    int64_t at = 0;
    for (int l = 0; l < s->layers; l++) {
        layer *this = layers + l;
        if (l) {
            this->W = take(tape, &at, packed_size(units, out));
            this->W_back = take(tape, &at, packed_size(H, back));
            this->x = s->dropout > 0 ? take(tape, &at, T * rows * out) : this[-1].h + rows * out;
        }
        this->U = take(tape, &at, packed_size(units, out));
        this->U_back = take(tape, &at, packed_size(H, back));
        this->bias = take(tape, &at, 4 * group_of(s));
        this->h = take(tape, &at, (T + 1) * rows * out);
        this->c = take(tape, &at, (s->gru ? 1 : T + 1) * rows * H);
        this->gates = take(tape, &at, T * rows * words_of(s, 4 * group_of(s)));
    }
    return at;
}

// y (rows, outputs) = or += a (rows, depth) times b, packed (outputs, depth).
static inline void product(const shape *s, int outputs, int rows, int depth, const uint32_t *a,
                           int64_t a_row, const uint32_t *b, float *y, int64_t y_row, int add) {
    if (paired(s))
        panels(1, outputs, rows, depth, a, a_row, 1, b, y, y_row, add);
    else
        panels(0, outputs, rows, depth, a, a_row, 1, b, y, y_row, add);
}

// Torch's row of the sum `unit` of a layer's input or state; -1: none, it only fills a group.
static inline int64_t row_of(const shape *s, int of_input, int64_t unit) {
    const int64_t H = s->hidden, group = unit / group_of(s), j = unit % group_of(s);
    if (j >= H) return -1;
    // Torch has a GRU's groups in the order r, z, candidate.
    return (s->gru && of_input ? (group + 2) % 3 : group) * H + j;
}

static inline void add(int64_t count, const float *restrict from, float *restrict to) {
    for (int64_t j = 0; j < count; j++) to[j] += from[j];
}

static inline float dropout_of(const shape *s, int l) {
    return l + 1 == s->layers ? s->output_dropout : s->dropout;
}

// A row's h with dropout: each unit times 0 or 1 / (1 - p). What decides is Murmur3's finalizer
// (A. Appleby) of a counter.
static inline void drop(const shape *s, int l, int64_t row, const float *restrict from,
                        float *restrict to) {
    const float p = dropout_of(s, l), scale = 1 / (1 - p);
    const uint32_t first = (uint32_t)(row * s->hidden) * 0x9e3779b9u + s->seed + l * 0x7f4a7c15u;
    for (int32_t j = 0; j < s->hidden; j++) {
        uint32_t x = first + (uint32_t)j * 0x9e3779b9u;
        x = (x ^ x >> 16) * 0x85ebca6bu;
        x = (x ^ x >> 13) * 0xc2b2ae35u;
        x ^= x >> 16;
        to[j] = (int32_t)(x >> 8) * 0x1p-24f < p ? 0 : from[j] * scale;
    }
}
