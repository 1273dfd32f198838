/* Byte-pair encoding over tables that are built straight from a file. Contracts in gg_cdef.h. */

#include <string.h>

#include "gg.h"
#include "tokens.h"

/* ---- Merges by the ids of their parts; a slot has the rank + 1 ---- */

static uint32_t *merge_slot(const gg_merges *m, int32_t left, int32_t right) {
    const uint64_t mask = ((uint64_t)1 << m->slot_bits) - 1;
    const uint64_t hash = hash_one(m->tokens, (uint32_t)left, (uint32_t)right);
    for (uint64_t i = spread(hash) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &m->slots[i];
        if (*slot == 0) return slot;
        const gg_merge *merge = &m->merge[*slot - 1];
        if (merge->left == left && merge->right == right) return slot;
    }
}

/* The text of a merge is left, a space, right; `joined` has room for both parts. Returns 0 if one is not a token. */
static int read_merge(const gg_tokens *t, const uint8_t *p, size_t n, uint8_t *joined, gg_merge *merge) {
    const uint8_t *space = n ? memchr(p, ' ', n) : NULL;
    if (space == NULL) return 0;
    const size_t n_left = (size_t)(space - p), n_right = n - n_left - 1;
    if (n_left == 0 || n_right == 0) return 0;
    memcpy(joined, p, n_left);
    memcpy(joined + n_left, space + 1, n_right);
    const uint64_t hash = hash_on(t, HASH_START, p, n_left);
    merge->left = find(t, hash, p, n_left);
    merge->right = gg_find_token(t, space + 1, n_right);
    merge->whole = find(t, hash_on(t, hash, space + 1, n_right), joined, n - 1);
    return merge->left >= 0 && merge->right >= 0 && merge->whole >= 0;
}

uint32_t gg_index_merges(const gg_merges *m, const gg_strings *texts, uint8_t *joined) {
    for (uint32_t i = 0; i < texts->count; i++) {
        const uint64_t start = texts->start[i] + 8;
        gg_merge *merge = &m->merge[i];
        if (!read_merge(m->tokens, texts->bytes + start, texts->start[i + 1] - start, joined, merge)) return i;
        *merge_slot(m, merge->left, merge->right) = i + 1;
    }
    return texts->count;
}

/* ---- A heap of merges that may come next, the lowest rank first and of equal ones the leftmost. Those whose symbols have
 * changed since stay in it until they come up ---- */

static void push(uint64_t *heap, size_t *n, uint64_t item) {
    size_t i = (*n)++;
    for (; i && heap[(i - 1) / 2] > item; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static uint64_t pop(uint64_t *heap, size_t *n) {
    const uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* ---- Encoding: a word is a chain of symbols ---- */

/* A word and the memory that it is encoded in. */
typedef struct {
    const gg_merges *m;
    const uint8_t *p;
    size_t n;
    gg_symbol *symbols;
    uint64_t *heap;
} work;

/* The rank that the merge of symbol i and the one behind it has, and the token that it makes; -1 if there is none. */
static int32_t rank_of(const work *w, int32_t i, int32_t *whole) {
    const gg_merges *m = w->m;
    const gg_symbol *s = w->symbols;
    const int32_t next = s[i].next;
    if (m->rank == NULL) {
        if (s[i].id < 0 || s[next].id < 0) return NONE;
        const int32_t rank = (int32_t)*merge_slot(m, s[i].id, s[next].id) - 1;
        if (rank >= 0) *whole = m->merge[rank].whole;
        return rank;
    }
    const size_t start = (size_t)s[i].start, end = s[next].next == NONE ? w->n : (size_t)s[s[next].next].start;
    if (end - start > m->tokens->longest) return NONE;
    *whole = gg_find_token(m->tokens, w->p + start, end - start);
    return *whole < 0 ? NONE : m->rank[*whole];
}

/* Put the merge of symbol i and the one behind it on the heap, if there is one. */
static void offer(const work *w, int32_t i, size_t *n_heap) {
    int32_t whole;
    if (i == NONE || w->symbols[i].next == NONE) return;
    const int32_t rank = rank_of(w, i, &whole);
    if (rank >= 0) push(w->heap, n_heap, (uint64_t)rank << 32 | (uint32_t)i);
}

/* Whether the symbol i and the one behind it still make the merge of that rank, and which token. */
static int is_merge(const work *w, int32_t i, int32_t rank, int32_t *whole) {
    const gg_symbol *s = w->symbols;
    if (s[i].start < 0 || s[i].next == NONE) return 0; /* it has become part of another, or is the last */
    if (w->m->rank) return rank_of(w, i, whole) == rank;
    const gg_merge *merge = &w->m->merge[rank];
    *whole = merge->whole;
    return s[i].id == merge->left && s[s[i].next].id == merge->right;
}

static void merge_symbols(const work *w, int32_t count, const int32_t *abort) {
    gg_symbol *s = w->symbols;
    size_t n_heap = 0;
    for (int32_t i = 0; i < count; i++) offer(w, i, &n_heap);
    for (size_t n = 1; n_heap && (n % PATIENCE || !is_aborted(abort)); n++) {
        const uint64_t top = pop(w->heap, &n_heap);
        const int32_t i = (int32_t)(uint32_t)top, next = s[i].next;
        int32_t whole;
        if (!is_merge(w, i, (int32_t)(top >> 32), &whole)) continue;
        s[i].id = whole;
        s[i].next = s[next].next;
        s[next].start = NONE;
        if (s[i].next != NONE) s[s[i].next].previous = i;
        offer(w, s[i].previous, &n_heap);
        offer(w, i, &n_heap);
    }
}

/* The bytes of the word, or its characters, as symbols; of those that are no tokens, a symbol stays where something is
 * written in their place. Returns their number. */
static int32_t read_symbols(const work *w) {
    const gg_merges *m = w->m;
    const int is_kept = m->rank || m->unknown >= 0 || (m->byte && !m->is_byte_level);
    int32_t count = 0;
    for (size_t i = 0, width; i < w->n; i += width) {
        width = m->is_byte_level ? 1 : width_of(w->p + i, w->n - i);
        int32_t id = m->is_byte_level ? m->byte[w->p[i]] : gg_find_token(m->tokens, w->p + i, width);
        if (m->rank && id >= 0 && m->rank[id] < 0) id = NONE;
        if (id < 0 && !is_kept) continue;
        w->symbols[count] = (gg_symbol){id, count - 1, count + 1, (int32_t)i};
        count++;
    }
    if (count) w->symbols[count - 1].next = NONE;
    return count;
}

/* What stands for text that is no token: its bytes, or an unknown token. */
static size_t write_unknown(const gg_merges *m, const uint8_t *p, size_t n, int32_t *out, int was_unknown) {
    size_t i = 0;
    while (m->byte && i < n && m->byte[p[i]] >= 0) i++;
    if (m->byte && i == n) {
        for (i = 0; i < n; i++) out[i] = m->byte[p[i]];
        return n;
    }
    if (m->unknown < 0 || (was_unknown && m->is_fused)) return 0;
    out[0] = m->unknown;
    return 1;
}

static size_t write_ids(const work *w, int32_t count, int32_t *out) {
    const gg_symbol *s = w->symbols;
    size_t n_out = 0;
    int was_unknown = 0;
    for (int32_t i = count ? 0 : NONE; i != NONE; i = s[i].next) {
        if (s[i].id >= 0) {
            out[n_out++] = s[i].id;
            was_unknown = 0;
            continue;
        }
        const size_t start = (size_t)s[i].start, end = s[i].next == NONE ? w->n : (size_t)s[s[i].next].start;
        n_out += write_unknown(w->m, w->p + start, end - start, out + n_out, was_unknown);
        was_unknown = n_out && out[n_out - 1] == w->m->unknown;
    }
    return n_out;
}

/* The character that stands for a byte in GPT-2's alphabet: printable ones for themselves, others from U+0100 on. */
static uint32_t letter_of(uint8_t byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte < 0x7f || (byte >= 0xa1 && byte != 0xad)) return byte;
    return byte == 0xad ? 0x143 : 0x121u + byte - 0x7f;
}

/* The token that the whole word is, or NONE. In GPT-2's alphabet it is written into the heap's memory. */
static int32_t whole_word(const work *w) {
    const uint8_t *p = w->p;
    size_t n = w->n;
    if (n > w->m->tokens->longest) return NONE;
    if (w->m->is_byte_level) {
        uint8_t *letters = (uint8_t *)w->heap;
        n = 0;
        for (size_t i = 0; i < w->n; i++) {
            const uint32_t letter = letter_of(p[i]);
            if (letter >= 0x80) letters[n++] = (uint8_t)(0xc0 | letter >> 6);
            letters[n++] = (uint8_t)(letter < 0x80 ? letter : 0x80 | (letter & 0x3f));
        }
        p = letters;
    }
    return gg_find_token(w->m->tokens, p, n);
}

static size_t encode_word(const work *w, int32_t *out, const int32_t *abort) {
    const int32_t whole = w->m->whole_first ? whole_word(w) : NONE;
    if (whole >= 0) {
        out[0] = whole;
        return 1;
    }
    const int32_t count = read_symbols(w);
    merge_symbols(w, count, abort);
    return write_ids(w, count, out);
}

size_t gg_encode_words(const gg_merges *m, const uint8_t *words, size_t bytes, uint8_t separator, int32_t *out,
                       gg_symbol *symbols, uint64_t *heap, const int32_t *abort) {
    size_t n_out = 0;
    for (size_t start = 0; start < bytes;) {
        if (is_aborted(abort)) return SIZE_MAX;
        const uint8_t *end = memchr(words + start, separator, bytes - start);
        const work w = {m, words + start, end ? (size_t)(end - words) - start : bytes - start, symbols, heap};
        if (w.n) n_out += encode_word(&w, out + n_out, abort);
        start += w.n + 1;
    }
    return is_aborted(abort) ? SIZE_MAX : n_out;
}
