// The draw of a character, and whole lines of draws: see generation/sampling.py and decoding.py.

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

// Leaves of p, (count,), only what the rules allow: see Sampling in sampling.py.
static void filter(const rules *by, double *p, int count) {
    int ids[MAX_VOCAB];
    double total = 0, sum = 0;
    for (int n = 0; n < count; n++) {  // the likeliest first, of equal ones the first
        int place = n;
        for (; place && p[ids[place - 1]] < p[n]; place--) ids[place] = ids[place - 1];
        ids[place] = n;
    }
    int kept = by->top_k && by->top_k < count ? by->top_k : count;
    for (int n = 0; n < kept; n++) total += p[ids[n]];
    if (by->top_p > 0)
        for (int n = 0; n < kept; n++)
            if ((sum += p[ids[n]]) >= by->top_p * total) kept = n + 1;
    while (by->min_p > 0 && kept > 1 && p[ids[kept - 1]] < by->min_p * p[ids[0]]) kept--;
    for (int n = kept; n < count; n++) p[ids[n]] = 0;
}

static int pick(const model *m, const rules *by, const float *logits, double noise) {
    const int count = m->vocab_size;
    int likeliest = by->unknown == 0;
    for (int n = 0; n < count; n++)
        if (n != by->unknown && logits[n] > logits[likeliest]) likeliest = n;
    if (by->greedy) return likeliest;
    double p[MAX_VOCAB], total = 0, sum = 0;
    for (int n = 0; n < count; n++) {
        const double above = ((double)logits[n] - logits[likeliest]) / by->temperature;
        total += p[n] = n == by->unknown ? 0 : exp(above);
    }
    if (by->top_k || by->top_p > 0 || by->min_p > 0) {
        filter(by, p, count);
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

void read_start(const model *m, state at, const uint8_t *ids, int32_t count) {
    float logits[MAX_VOCAB];
    for (int n = 0; n < count - 1; n++) step_lines(m, 1, ids + n, at, logits);
}

int32_t draw_line(const model *m, const rules *by, state at, int64_t number, int64_t position,
                  uint8_t *ids, int32_t count, double *log_prob) {
    float logits[MAX_VOCAB];
    for (int n = 0; n < count; n++) {
        step_lines(m, 1, ids + n, at, logits);
        ids[n + 1] = pick(m, by, logits, uniform(by->seed, number, position + n));
        *log_prob += log_probability(logits, m->vocab_size, ids[n + 1]);
        if (ids[n + 1] == by->newline) return n + 1;
    }
    return count;
}

void draw_lines(const model *m, const rules *by, int32_t lines, const float *logits,
                const int64_t *numbers, const int64_t *positions, uint8_t *ids,
                double *log_probs) {
    for (int n = 0; n < lines; n++, logits += m->vocab_size) {
        ids[n] = pick(m, by, logits, uniform(by->seed, numbers[n], positions[n]));
        log_probs[n] = log_probability(logits, m->vocab_size, ids[n]);
    }
}
