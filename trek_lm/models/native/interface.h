// What Python and the C hand to each other. The compiler reads this file, and so does cffi in
// build.py, which takes declarations and plain constants only: no #include, no code.

#define PANEL 32  // outputs whose weights stand together
#define TILE 48   // lines from layer to layer together: their products stay in the cache
#define MAX_VOCAB 256

// Training: forward.c and backward.c, called by sequences.py.

typedef struct {
    int32_t gru, bf16;
    int32_t steps, rows, vocab_size, hidden, layers, threads;
    float dropout, output_dropout;  // between layers; on the last one's outputs
    uint32_t seed;                  // of dropout
} shape;

typedef struct {
    const float *W, *U, *b_W, *b_U;  // torch's; the first layer has no W
    float *dW, *dU, *db_W, *db_U;    // their gradients
} parameters;

typedef struct {
    const int64_t *ids;            // (steps, rows)
    const float *table, *h0, *c0;  // (vocab_size, torch's rows), (layers, rows, hidden) twice
    void *outputs;                 // (steps, rows, hidden), bfloat16 or float
    float *hn, *cn;                // (layers, rows, hidden); c0, cn: of an LSTM
} forward_arrays;

typedef struct {
    const int64_t *ids;
    const void *outputs;  // gradients, of the forward pass's arrays
    const float *hn, *cn;
    float *table, *h0, *c0;
} backward_arrays;

// Bytes of what a forward pass keeps for the backward pass, and of what each works in.
int64_t tape_size(const shape *s);
int64_t forward_size(const shape *s);
int64_t backward_size(const shape *s);
void forward(const shape *s, const parameters *p, const forward_arrays *a, char *tape,
             char *memory);
void backward(const shape *s, const parameters *p, const backward_arrays *a, char *tape,
              char *memory);

// Sampling: steps.c and draw.c, called by generation/steppers.py with weights of weights.py.

typedef struct {
    const uint32_t *weights;  // (panels, pairs, PANEL): weights 2p and 2p+1 of an output a word
    const float *bias;        // (outputs,), or NULL
    int32_t outputs, pairs;
} matrix;

typedef struct {
    const float *added;     // the bias; of the first layer a row a character, (vocab_size, G)
    matrix both;            // over the state below and the own one: i, f, o, c; or r, z
    matrix below, own;      // what a GRU's candidate takes of either
    const float *own_bias;
} packed_layer;

typedef struct {
    const packed_layer *layers;
    const matrix *head;      // products one after the other, without anything between them
    const float *ngrams;     // (ngram_rows, vocab_size): added by the last 2, 3, ... characters
    matrix gates;            // what is added to the logit of what each match found
    const int32_t *lengths;  // (gates.outputs,): how many characters have to match
    int32_t gru, hidden, padded, count, vocab_size, products;  // padded: even; count: layers
    int32_t longest, ngram_rows, match_rows;  // longest: 1 without n-grams; rows: powers of two
    int32_t history;  // the most characters before the present one that n-grams or matches need
} model;

typedef struct {
    uint16_t *h;      // (lines, count * padded): the layers' hidden states side by side
    float *c;         // (lines, count * hidden), of an LSTM
    uint16_t *seen;   // (lines, history): the last ids, the newest first, from 1; 0: none
    uint32_t *table;  // (lines, gates.outputs, match_rows): what followed, see matches.py
    float *work;      // (TILE + 1, 4 * the largest of hidden and the outputs of head and gates)
} state;

typedef struct {
    double temperature, top_p, min_p;  // top_p, min_p: 0 without them
    int32_t top_k, greedy;             // top_k: 0 without it
    int32_t newline, unknown;          // -1 without them
    uint64_t seed;
} rules;

// The logits (lines, vocab_size) after one more character of each line.
void step_lines(const model *m, int32_t lines, const uint8_t *ids, state at, float *logits);
// Reads a line's characters but the last one, which is read with the first draw.
void read_start(const model *m, state at, const uint8_t *ids, int32_t count);
// Draws up to `count` characters of a line after the last one, `ids[0]`, into `ids[1...]`, from
// the position-th on; returns how many, fewer where the line has ended.
int32_t draw_line(const model *m, const rules *by, state at, int64_t number, int64_t position,
                  uint8_t *ids, int32_t count, double *log_prob);
// A character for each line, and its log-probability.
void draw_lines(const model *m, const rules *by, int32_t lines, const float *logits,
                const int64_t *numbers, const int64_t *positions, uint8_t *ids,
                double *log_probs);
