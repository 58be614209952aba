// Draws characters and whole lines; generation/sampling.py and decoding.py do the same in Python.

#include <math.h>
#include <stdint.h>

#include "interface.h"

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static double uniform(uint64_t seed, uint64_t number, uint64_t position) {
    const uint64_t start = mix((seed << 32) + number);
    return (double)(mix(start + (position + 1) * 0x9E3779B97F4A7C15u) >> 32) * 0x1p-32;
}

// Sets the probabilities p (count,) to 0 that top_k, top_p or min_p exclude: see sampling.py.
static void filter(const rules *r, double *p, int count) {
    int ids[MAX_VOCAB];
    double total = 0, sum = 0;
    for (int n = 0; n < count; n++) {  // sorts by probability, stable
        int place = n;
        for (; place && p[ids[place - 1]] < p[n]; place--) ids[place] = ids[place - 1];
        ids[place] = n;
    }
    int kept = r->top_k && r->top_k < count ? r->top_k : count;
    for (int n = 0; n < kept; n++) total += p[ids[n]];
    if (r->top_p > 0)
        for (int n = 0; n < kept; n++)
            if ((sum += p[ids[n]]) >= r->top_p * total) kept = n + 1;
    while (r->min_p > 0 && kept > 1 && p[ids[kept - 1]] < r->min_p * p[ids[0]]) kept--;
    for (int n = kept; n < count; n++) p[ids[n]] = 0;
}

static int pick(const model *m, const rules *r, const float *logits, double noise) {
    const int count = m->vocab_size;
    int likeliest = r->unknown == 0;
    for (int n = 0; n < count; n++)
        if (n != r->unknown && logits[n] > logits[likeliest]) likeliest = n;
    if (r->greedy) return likeliest;
    double p[MAX_VOCAB], total = 0, sum = 0;
    for (int n = 0; n < count; n++) {
        const double above = ((double)logits[n] - logits[likeliest]) / r->temperature;
        total += p[n] = n == r->unknown ? 0 : exp(above);
    }
    if (r->top_k || r->top_p > 0 || r->min_p > 0) {
        filter(r, p, count);
        total = 0;
        for (int n = 0; n < count; n++) total += p[n];
    }
    int last = 0;
    for (int n = 0; n < count; n++) {
        if (p[n] <= 0) continue;
        last = n;
        if ((sum += p[n]) > noise * total) break;
    }
    return last;
}

static double log_probability(const float *logits, int count, int id) {
    double total = 0;
    for (int n = 0; n < count; n++) total += exp((double)logits[n] - logits[id]);
    return -log(total);
}

void read_start(const model *m, state now, const uint8_t *ids, int32_t count) {
    float logits[MAX_VOCAB];
    for (int n = 0; n < count - 1; n++) step_lines(m, 1, ids + n, now, logits);
}

int32_t draw_line(const model *m, const rules *r, state now, int64_t number, int64_t position,
                  uint8_t *ids, int32_t count, double *log_prob) {
    float logits[MAX_VOCAB];
    for (int n = 0; n < count; n++) {
        step_lines(m, 1, ids + n, now, logits);
        ids[n + 1] = pick(m, r, logits, uniform(r->seed, number, position + n));
        *log_prob += log_probability(logits, m->vocab_size, ids[n + 1]);
        if (ids[n + 1] == r->newline) return n + 1;
    }
    return count;
}

void draw_lines(const model *m, const rules *r, int32_t lines, const float *logits,
                const int64_t *numbers, const int64_t *positions, uint8_t *ids,
                double *log_probs) {
    for (int n = 0; n < lines; n++, logits += m->vocab_size) {
        ids[n] = pick(m, r, logits, uniform(r->seed, numbers[n], positions[n]));
        log_probs[n] = log_probability(logits, m->vocab_size, ids[n]);
    }
}
