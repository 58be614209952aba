// The interface between Python and C. Besides the compiler, cffi reads this file (build.py), which
// understands declarations and plain constants only: no #include, no code.

#define PANEL 32  // outputs whose weights are interleaved
#define TILE 48   // lines that go through all layers together: their products stay in the cache
#define MAX_VOCAB 256

// Training: forward.c and backward.c, called by sequences.py.

typedef struct {
    int32_t gru, bf16;              // 0 or 1
    int32_t length, rows, vocab_size, hidden, layers, threads;  // sequence length, batch size, ...
    float dropout, output_dropout;  // between layers; on the last layer's outputs
    uint32_t seed;                  // of dropout
} shape;

typedef struct {
    const float *W, *U, *b_W, *b_U;  // torch's; NULL for the first layer's W, see table
    float *dW, *dU, *db_W, *db_U;    // their gradients
} parameters;

typedef struct {
    const int64_t *ids;    // (length, rows)
    const float *table;    // (vocab_size, gates * hidden): the first layer's W x of each character
    const float *h0, *c0;  // (layers, rows, hidden); c0 and cn are NULL for a GRU
    void *outputs;         // (length, rows, hidden), bfloat16 or float
    float *hn, *cn;        // (layers, rows, hidden)
} forward_arrays;

typedef struct {  // the gradients of the forward pass's arrays
    const int64_t *ids;
    const void *outputs;
    const float *hn, *cn;
    float *table, *h0, *c0;
} backward_arrays;

// Bytes of the tape, which the forward pass keeps for the backward pass, and of their workspaces.
int64_t tape_size(const shape *s);
int64_t forward_size(const shape *s);
int64_t backward_size(const shape *s);
void forward(const shape *s, const parameters *p, const forward_arrays *a, char *tape,
             char *memory);
void backward(const shape *s, const parameters *p, const backward_arrays *a, char *tape,
              char *memory);

// Sampling: steps.c and draw.c, called by generation/steppers.py with the weights of weights.py.

typedef struct {
    const uint32_t *weights;  // (panels, pairs, PANEL): bf16 weights 2p and 2p+1 of an output
    const float *bias;        // (outputs,), or NULL
    int32_t outputs, pairs;
} matrix;

typedef struct {
    const float *bias;  // (G,); of the first layer W x + bias of each character, (vocab_size, G)
    matrix gates;       // LSTM: i, f, o, c_hat; GRU: r, z; over input and h, in the first layer h
    matrix candidate_input, candidate_hidden;  // of a GRU: W over the input, U over h
    const float *candidate_hidden_bias;
} packed_layer;

typedef struct {
    const packed_layer *layers;
    const matrix *head;            // one or two linear layers
    const float *ngrams;           // (ngram_rows, vocab_size): logits, see ngrams.py
    matrix match_gates;            // the logit of each match, see matches.py
    const int32_t *match_lengths;  // (match_gates.outputs,): characters that have to match
    int32_t gru, hidden, padded, num_layers, vocab_size, head_layers;  // padded: hidden, made even
    int32_t longest_ngram, ngram_rows, match_rows;  // 1 without n-grams; powers of two
    int32_t history;  // characters before the current one that n-grams and matches need
} model;

typedef struct {
    uint16_t *h;      // (lines, num_layers * padded): hidden states of the layers, bfloat16
    float *c;         // (lines, num_layers * hidden): cell states of an LSTM
    uint16_t *seen;   // (lines, history): the last ids, newest first, counted from 1; 0: none
    uint32_t *table;  // (lines, match_gates.outputs, match_rows): see matches.py
    float *work;      // (TILE + 1, 4 * the largest of hidden, head outputs and match_gates.outputs)
} state;

typedef struct {
    double temperature, top_p, min_p;  // top_p, min_p: 0 without them
    int32_t top_k, greedy;             // top_k: 0 without it
    int32_t newline, unknown;          // ids; -1 without them
    uint64_t seed;
} rules;

// Reads one more character of each line; writes its logits (lines, vocab_size).
void step_lines(const model *m, int32_t lines, const uint8_t *ids, state now, float *logits);
// Reads all characters of a line's start but the last one, which draw_line reads first.
void read_start(const model *m, state now, const uint8_t *ids, int32_t count);
// Reads `ids[0]`, the last character of line `number`, and draws up to `count` more into
// `ids[1...]`, the first at `position`; returns how many, fewer if the line ends.
int32_t draw_line(const model *m, const rules *r, state now, int64_t number, int64_t position,
                  uint8_t *ids, int32_t count, double *log_prob);
// Draws a character for each line, with its log-probability.
void draw_lines(const model *m, const rules *r, int32_t lines, const float *logits,
                const int64_t *numbers, const int64_t *positions, uint8_t *ids,
                double *log_probs);
