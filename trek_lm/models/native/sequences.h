// Shared by forward.c and backward.c: the tape, the shards, the layout of a step's sums.
//
// The sums (pre-activations) of a step are four groups of `group_size` units. LSTM: i, f, c_hat, o,
// each the sum of W x and U h. GRU: W x of the candidate, r, z, U h of the candidate; so W x fills
// the first three groups and U h the last three.

#include "products.h"
#include "interface.h"

// A layer's tape: what the forward pass keeps for the backward pass.
typedef struct {
    uint32_t *W, *U, *W_back, *U_back;  // packed; W_back and U_back are transposed
    float *bias;      // (4 * group_size)
    uint32_t *x;      // (length, rows, words of hidden): the input; not of the first layer
    uint32_t *h;      // (length + 1, rows, words of hidden): from the initial state on
    float *c;         // LSTM: (length + 1, rows, hidden); GRU: its newest h, (rows, hidden)
    uint32_t *gates;  // (length, rows, words of 4 * group_size)
} layer;

// The batch rows of one thread.
typedef struct {
    int64_t first, rows;
} shard;

static inline int64_t shard_count(const shape *s) {
    return s->threads < s->rows ? s->threads : s->rows;
}
static inline int64_t max_shard_rows(const shape *s) {
    return (s->rows + shard_count(s) - 1) / shard_count(s);
}
static inline shard shard_of(const shape *s, int64_t number) {
    const int64_t first = s->rows * number / shard_count(s);
    return (shard){first, s->rows * (number + 1) / shard_count(s) - first};
}

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int paired(const shape *s) { return PAIRED && s->bf16; }
// The words that hold n numbers.
static inline int64_t words_of(const shape *s, int64_t n) { return paired(s) ? (n + 1) / 2 : n; }
static inline int64_t group_size(const shape *s) { return round_up(s->hidden, 8); }
static inline int64_t group_count(const shape *s) { return s->gru ? 3 : 4; }
static inline int64_t sums_stride(const shape *s) {
    return round_up(4 * group_size(s), LANES) + LANES;
}
static inline int64_t packed_size(int64_t outputs, int64_t depth) {
    return round_up(outputs, LANES) * depth;
}

// Allocates the next `words` words of 4 bytes; *used: bytes allocated so far. NULL only counts.
static inline void *allocate(char *memory, int64_t *used, int64_t words) {
    void *start = memory ? memory + *used : NULL;
    *used += round_up(4 * words, 64);
    return start;
}

// Sets the pointers of each layer into the tape; returns the tape's size in bytes.
static inline int64_t lay_out_tape(const shape *s, layer *layers, char *tape) {
    const int64_t rows = s->rows, T = s->length, units = group_count(s) * group_size(s);
    const int64_t H = s->hidden, out = words_of(s, H), back = words_of(s, units);
    int64_t at = 0;
    for (int l = 0; l < s->layers; l++) {
        layer *this = layers + l;
        if (l) {
            this->W = allocate(tape, &at, packed_size(units, out));
            this->W_back = allocate(tape, &at, packed_size(H, back));
            this->x = s->dropout > 0 ? allocate(tape, &at, T * rows * out)
                                     : this[-1].h + rows * out;
        }
        this->U = allocate(tape, &at, packed_size(units, out));
        this->U_back = allocate(tape, &at, packed_size(H, back));
        this->bias = allocate(tape, &at, 4 * group_size(s));
        this->h = allocate(tape, &at, (T + 1) * rows * out);
        this->c = allocate(tape, &at, (s->gru ? 1 : T + 1) * rows * H);
        this->gates = allocate(tape, &at, T * rows * words_of(s, 4 * group_size(s)));
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

// The row of the sum `unit` in torch's W (`of_input`) or U; -1 for the padding of a group.
static inline int64_t torch_row(const shape *s, int of_input, int64_t unit) {
    const int64_t H = s->hidden, group = unit / group_size(s), j = unit % group_size(s);
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

// Dropout on a row of h: each unit times 0 or 1 / (1 - p), by a random number that is Murmur3's
// finalizer (A. Appleby) of a counter.
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
