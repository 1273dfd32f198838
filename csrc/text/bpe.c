/* Byte-pair encoding over tables that are built straight from a file. Contracts in gg_cdef.h. */

#include <string.h>

#include "gg.h"

enum { NONE = -1 };

/* ---- Strings of a GGUF file ---- */

static uint64_t length_at(const uint8_t *p, int big_endian) {
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) length |= (uint64_t)p[i] << 8 * (big_endian ? 7 - i : i);
    return length;
}

uint64_t gg_scan_strings(const uint8_t *bytes, uint64_t size, uint64_t *at, uint64_t count, int big_endian,
                         uint64_t longest, uint64_t *start) {
    uint64_t done = 0, p = *at;
    for (; done < count && size >= 8 && p <= size - 8; done++) {
        const uint64_t length = length_at(bytes + p, big_endian);
        if (length > longest || length > size - 8 - p) break;
        if (start) start[done] = p;
        p += 8 + length;
    }
    if (start) start[done] = p;
    *at = p;
    return done;
}

/* ---- Tokens by text: open addressing; a slot has the upper half of the hash, and the id + 1 ---- */

static const uint64_t PRIME = ((uint64_t)1 << 61) - 1, HASH_START = 1;

/* A polynomial in the key, modulo a prime: without the key nobody finds two texts that have one hash. Modulo 2^64 there
 * are such texts for every key. */
static uint64_t hash_one(const gg_tokens *t, uint64_t hash, uint32_t value) {
    const unsigned __int128 x = (unsigned __int128)hash * t->key + value;
    const uint64_t sum = ((uint64_t)x & PRIME) + (uint64_t)(x >> 61);
    return sum < PRIME ? sum : sum - PRIME;
}

/* A text's hash goes on where its first part's ended. */
static uint64_t hash_on(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) hash = hash_one(t, hash, p[i]);
    return hash;
}

static uint64_t spread(uint64_t hash) {
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static int is_text(const gg_strings *s, uint32_t i, const uint8_t *p, size_t n) {
    return s->start[i + 1] - s->start[i] - 8 == n && memcmp(s->bytes + s->start[i] + 8, p, n) == 0;
}

/* The slot of the token with this text, or the empty one where it would go. */
static uint64_t *token_slot(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    const uint64_t mask = ((uint64_t)1 << t->slot_bits) - 1, mixed = spread(hash);
    for (uint64_t i = mixed & mask;; i = (i + 1) & mask) {
        uint64_t *slot = &t->slots[i];
        if (*slot == 0) return slot;
        if (*slot >> 32 == mixed >> 32 && is_text(&t->texts, (uint32_t)*slot - 1, p, n)) return slot;
    }
}

uint32_t gg_index_tokens(const gg_tokens *t) {
    const gg_strings *s = &t->texts;
    for (uint32_t i = 0; i < s->count; i++) {
        const uint8_t *p = s->bytes + s->start[i] + 8;
        const size_t n = s->start[i + 1] - s->start[i] - 8;
        if (n == 0) continue;
        const uint64_t hash = hash_on(t, HASH_START, p, n);
        uint64_t *slot = token_slot(t, hash, p, n);
        if (*slot) return i;
        *slot = spread(hash) >> 32 << 32 | (i + 1);
    }
    return s->count;
}

static int32_t find(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    return (int32_t)(uint32_t)*token_slot(t, hash, p, n) - 1;
}

int32_t gg_find_token(const gg_tokens *t, const uint8_t *p, size_t n) {
    return find(t, hash_on(t, HASH_START, p, n), p, n);
}

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

/* ---- Encoding: a word is a chain of symbols, and a heap has the merges of neighbours, the lowest rank first and of
 * equal ones the leftmost. Merges whose symbols have changed since stay in the heap until they come up ---- */

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

static int is_aborted(const int32_t *abort) { return __atomic_load_n(abort, __ATOMIC_RELAXED); }

/* Put the merge of symbol i and the one behind it on the heap, if there is one. */
static void offer(const gg_merges *m, const gg_symbol *s, int32_t i, uint64_t *heap, size_t *n_heap) {
    if (i == NONE || s[i].next == NONE) return;
    const uint32_t rank = *merge_slot(m, s[i].id, s[s[i].next].id);
    if (rank) push(heap, n_heap, (uint64_t)(rank - 1) << 32 | (uint32_t)i);
}

/* The characters of a word as a chain of symbols; those that are no tokens are left out. Returns their number. */
static int32_t read_symbols(const gg_tokens *t, const uint8_t *p, size_t n, gg_symbol *s) {
    int32_t count = 0;
    for (size_t i = 0, width; i < n; i += width) {
        for (width = 1; i + width < n && (p[i + width] & 0xc0) == 0x80;) width++;
        const int32_t id = gg_find_token(t, p + i, width);
        if (id >= 0) s[count] = (gg_symbol){id, count - 1, count + 1}, count++;
    }
    if (count) s[count - 1].next = NONE;
    return count;
}

enum { PATIENCE = 1 << 16 }; /* merges between looks at *abort */

static void merge_symbols(const gg_merges *m, gg_symbol *s, int32_t count, uint64_t *heap, const int32_t *abort) {
    size_t n_heap = 0;
    for (int32_t i = 0; i < count; i++) offer(m, s, i, heap, &n_heap);
    for (size_t n = 1; n_heap && (n % PATIENCE || !is_aborted(abort)); n++) {
        const uint64_t top = pop(heap, &n_heap);
        const int32_t i = (int32_t)(uint32_t)top, next = s[i].next;
        const gg_merge *merge = &m->merge[top >> 32];
        if (s[i].id != merge->left || next == NONE || s[next].id != merge->right) continue;
        s[i] = (gg_symbol){merge->whole, s[i].previous, s[next].next};
        s[next].id = NONE;
        if (s[i].next != NONE) s[s[i].next].previous = i;
        offer(m, s, s[i].previous, heap, &n_heap);
        offer(m, s, i, heap, &n_heap);
    }
}

static size_t encode_word(const gg_merges *m, const uint8_t *p, size_t n, int whole_first, int32_t *out,
                          gg_symbol *symbols, uint64_t *heap, const int32_t *abort) {
    const int32_t whole = whole_first ? gg_find_token(m->tokens, p, n) : NONE;
    if (whole >= 0) {
        out[0] = whole;
        return 1;
    }
    const int32_t count = read_symbols(m->tokens, p, n, symbols);
    merge_symbols(m, symbols, count, heap, abort);
    size_t n_out = 0;
    for (int32_t i = count ? 0 : NONE; i != NONE; i = symbols[i].next) out[n_out++] = symbols[i].id;
    return n_out;
}

size_t gg_encode_words(const gg_merges *m, const uint8_t *words, size_t bytes, int whole_first, int32_t *out,
                       gg_symbol *symbols, uint64_t *heap, const int32_t *abort) {
    size_t n_out = 0;
    for (size_t start = 0, end; start < bytes; start = end + 1) {
        if (is_aborted(abort)) return SIZE_MAX;
        for (end = start; end < bytes && words[end] != ' ';) end++;
        if (end > start)
            n_out += encode_word(m, words + start, end - start, whole_first, out + n_out, symbols, heap, abort);
    }
    return is_aborted(abort) ? SIZE_MAX : n_out;
}
