/* Words as the longest tokens from their start, and as the likeliest tokens. Contracts in gg_cdef.h. */

#include <math.h>
#include <string.h>

#include "gg.h"
#include "tokens.h"

/* ---- Beginnings of tokens: a bit for each by its hash, so that looking for longer tokens ends early. A bit that is set
 * by chance costs a step ---- */

static uint64_t bit_of(const gg_pieces *v, uint64_t hash) { return spread(hash) & (((uint64_t)1 << v->bits) - 1); }

static int is_beginning(const gg_pieces *v, uint64_t hash) {
    const uint64_t bit = bit_of(v, hash);
    return v->beginnings[bit >> 5] >> (bit & 31) & 1;
}

void gg_index_pieces(const gg_pieces *v) {
    const gg_strings *s = &v->tokens->texts;
    for (uint32_t i = 0; i < s->count; i++) {
        const uint8_t *p = s->bytes + s->start[i] + 8;
        const size_t n = s->start[i + 1] - s->start[i] - 8;
        uint64_t hash = HASH_START;
        for (size_t k = 0; k < n && v->score[i] != -INFINITY; k++) {
            hash = hash_one(v->tokens, hash, p[k]);
            const uint64_t bit = bit_of(v, hash);
            v->beginnings[bit >> 5] |= (uint32_t)1 << (bit & 31);
        }
    }
}

static int32_t find_piece(const gg_pieces *v, uint64_t hash, const uint8_t *p, size_t n) {
    const int32_t id = find(v->tokens, hash, p, n);
    return id >= 0 && v->score[id] != -INFINITY ? id : NONE;
}

typedef size_t encode_piece(const gg_pieces *v, const uint8_t *p, size_t n, int32_t *out, gg_node *node,
                            const int32_t *abort);

static size_t encode_each(encode_piece *encode, const gg_pieces *v, const uint8_t *words, size_t bytes,
                          uint8_t separator, int32_t *out, gg_node *node, const int32_t *abort) {
    size_t n_out = 0;
    for (size_t start = 0; start < bytes;) {
        if (is_aborted(abort)) return SIZE_MAX;
        const uint8_t *end = memchr(words + start, separator, bytes - start);
        const size_t n = end ? (size_t)(end - words) - start : bytes - start;
        if (n) n_out += encode(v, words + start, n, out + n_out, node, abort);
        start += n + 1;
    }
    return is_aborted(abort) ? SIZE_MAX : n_out;
}

/* ---- The longest token from the start, then from there on ---- */

/* Bytes of the longest token at p[0], 0 if there is none, and which it is. */
static size_t longest_at(const gg_pieces *v, const uint8_t *p, size_t n, int32_t *id) {
    uint64_t hash = HASH_START;
    size_t longest = 0;
    for (size_t k = 1; k <= n; k++) {
        hash = hash_one(v->tokens, hash, p[k - 1]);
        if (!is_beginning(v, hash)) break;
        const int32_t found = find_piece(v, hash, p, k);
        if (found < 0) continue;
        longest = k;
        *id = found;
    }
    return longest;
}

static size_t characters(const uint8_t *p, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += (p[i] & 0xc0) != 0x80;
    return count;
}

static size_t longest_pieces(const gg_pieces *v, const uint8_t *p, size_t n, int32_t *out, gg_node *node,
                             const int32_t *abort) {
    (void)node;
    size_t n_out = 0;
    int is_known = v->most == 0 || characters(p, n) <= (size_t)v->most;
    for (size_t i = 0, step; i < n && is_known; i += step) {
        step = longest_at(v, p + i, n - i, out + n_out);
        if (step) {
            n_out++;
        } else if (v->most) {
            is_known = 0;
        } else {
            step = 1;
            if (v->unknown >= 0) out[n_out++] = v->unknown;
        }
        if (n_out % PATIENCE == 0 && is_aborted(abort)) break;
    }
    if (is_known) return n_out;
    out[0] = v->unknown;
    return v->unknown >= 0;
}

size_t gg_encode_longest(const gg_pieces *v, const uint8_t *words, size_t bytes, uint8_t separator, int32_t *out,
                         const int32_t *abort) {
    return encode_each(longest_pieces, v, words, bytes, separator, out, NULL, abort);
}

/* ---- The likeliest tokens: the best sum of scores to each place, from left to right ---- */

static void reach(const gg_pieces *v, gg_node *node, size_t from, size_t to, double score, int32_t id) {
    double sum = node[from].score + score;
    if (v->is_float) sum = (double)(float)sum;
    if (node[to].from >= 0 && !(sum > node[to].score)) return;
    node[to] = (gg_node){sum, (int32_t)from, id};
}

/* From place i on: each token there, and the unknown one where the next character is none. Returns its bytes. */
static size_t reach_from(const gg_pieces *v, const uint8_t *p, size_t n, gg_node *node, size_t i) {
    const size_t width = width_of(p + i, n - i);
    uint64_t hash = HASH_START;
    int is_known = 0;
    for (size_t k = i; k < n;) {
        hash = hash_one(v->tokens, hash, p[k++]);
        if (!is_beginning(v, hash)) break;
        if (k < n && (p[k] & 0xc0) == 0x80) continue;
        const int32_t id = find_piece(v, hash, p + i, k - i);
        if (id < 0) continue;
        reach(v, node, i, k, v->score[id], id);
        is_known |= k == i + width;
    }
    if (!is_known) reach(v, node, i, i + width, v->unknown_score, NONE);
    return width;
}

/* The bytes of p, or the unknown token; from the back, where out ends. */
static size_t write_unknown(const gg_pieces *v, const uint8_t *p, size_t n, int32_t *end) {
    size_t i = 0;
    while (v->byte && i < n && v->byte[p[i]] >= 0) i++;
    if (v->byte && i == n) {
        for (i = 0; i < n; i++) end[-1 - (ptrdiff_t)i] = v->byte[p[n - 1 - i]];
        return n;
    }
    if (v->unknown >= 0) end[-1] = v->unknown;
    return v->unknown >= 0;
}

static size_t likeliest_pieces(const gg_pieces *v, const uint8_t *p, size_t n, int32_t *out, gg_node *node,
                               const int32_t *abort) {
    for (size_t i = 1; i <= n; i++) node[i].from = NONE;
    node[0] = (gg_node){0, NONE, NONE};
    for (size_t i = 0, count = 1; i < n; count++) {
        i += reach_from(v, p, n, node, i);
        if (count % PATIENCE == 0 && is_aborted(abort)) return 0;
    }
    int32_t *first = out + n;
    for (size_t to = n, from; to; to = from) {
        from = (size_t)node[to].from;
        if (node[to].id >= 0) {
            *--first = node[to].id;
            continue;
        }
        while (from && node[from].id < 0) from = (size_t)node[from].from; /* unknown neighbours are one */
        first -= write_unknown(v, p + from, to - from, first);
    }
    memmove(out, first, (size_t)(out + n - first) * sizeof *out);
    return (size_t)(out + n - first);
}

size_t gg_encode_likeliest(const gg_pieces *v, const uint8_t *words, size_t bytes, uint8_t separator, int32_t *out,
                           gg_node *node, const int32_t *abort) {
    return encode_each(likeliest_pieces, v, words, bytes, separator, out, node, abort);
}
