// What Python hands to steps.c and draw.c; weights.py and native.py of stepping/ mirror these
// structures.

#include <stdint.h>

#define PANEL 32  // outputs whose weights stand together
#define TILE 48   // lines from layer to layer together: their products stay in the cache
#define MAX_SYMBOLS 256

typedef struct {
    const uint32_t *weights;  // (panels, pairs, PANEL): weights 2p and 2p+1 of an output a word
    const float *bias;        // (outputs,), or NULL
    int32_t outputs, pairs;
} matrix;

typedef struct {
    const float *added;      // the bias; of the first layer a row for each character, (symbols, G)
    matrix both;             // over the state below and the own one: i, f, o, c; or r, z
    matrix below, own;       // what a GRU's candidate takes of either
    const float *own_bias;
} layer;

typedef struct {
    const layer *layers;
    const matrix *head;  // products one after the other, without anything between them
    const float *ngrams;  // (ngram_rows, symbols): added by the last 2, 3, ... characters
    matrix gates;          // what is added to the logit of what each match found
    const int32_t *lengths;  // (gates.outputs,): how many characters have to match
    int32_t gru, hidden, padded, count, symbols, products;  // count: layers; padded: even
    int32_t longest, ngram_rows, match_rows;  // longest: 1 without n-grams; rows: powers of two
    int32_t history;  // the most characters before the present one that n-grams or matches need
} model;

typedef struct {
    uint16_t *h;  // (lines, count * padded): the layers' hidden states side by side
    float *c;     // (lines, count * hidden), of an LSTM
    uint16_t *seen;  // (lines, history): the last ids, the newest first, from 1; 0: none
    uint32_t *table;  // (lines, gates.outputs, match_rows): what followed, see matches.py
    float *work;  // (TILE + 1, 4 * the largest of hidden and the outputs of head and gates)
} state;

typedef struct {
    double temperature, top_p, min_p;  // top_p, min_p: 0 without them
    int32_t top_k, greedy;             // top_k: 0 without it
    int32_t newline, unknown;          // -1 without them
    uint64_t seed;
} rules;

// The logits (lines, symbols) after one more character of each line.
void step_lines(const model *m, int32_t lines, const uint8_t *ids, state at, float *logits);
