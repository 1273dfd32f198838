/* Tokens by text: hashes that go on, and open addressing. A slot has the upper half of the hash, and the id + 1. */
#ifndef GG_TOKENS_H
#define GG_TOKENS_H
#include "gg.h"

enum { NONE = -1 };
enum { PATIENCE = 1 << 16 }; /* steps between looks at *abort */

static const uint64_t PRIME = ((uint64_t)1 << 61) - 1, HASH_START = 1;

/* A polynomial in the key, modulo a prime: without the key nobody finds two texts that have one hash. Modulo 2^64 there
 * are such texts for every key. */
static inline uint64_t hash_one(const gg_tokens *t, uint64_t hash, uint32_t value) {
    const unsigned __int128 x = (unsigned __int128)hash * t->key + value;
    const uint64_t sum = ((uint64_t)x & PRIME) + (uint64_t)(x >> 61);
    return sum < PRIME ? sum : sum - PRIME;
}

/* A text's hash goes on where its first part's ended. */
static inline uint64_t hash_on(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) hash = hash_one(t, hash, p[i]);
    return hash;
}

static inline uint64_t spread(uint64_t hash) {
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static inline int is_text(const gg_strings *s, uint32_t i, const uint8_t *p, size_t n) {
    return s->start[i + 1] - s->start[i] - 8 == n && memcmp(s->bytes + s->start[i] + 8, p, n) == 0;
}

/* The slot of the token with this text, or the empty one where it would go. */
static inline uint64_t *token_slot(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    const uint64_t mask = ((uint64_t)1 << t->slot_bits) - 1, mixed = spread(hash);
    for (uint64_t i = mixed & mask;; i = (i + 1) & mask) {
        uint64_t *slot = &t->slots[i];
        if (*slot == 0) return slot;
        if (*slot >> 32 == mixed >> 32 && is_text(&t->texts, (uint32_t)*slot - 1, p, n)) return slot;
    }
}

/* The token with this text, or NONE. */
static inline int32_t find(const gg_tokens *t, uint64_t hash, const uint8_t *p, size_t n) {
    return (int32_t)(uint32_t)*token_slot(t, hash, p, n) - 1;
}

static inline int is_aborted(const int32_t *abort) { return __atomic_load_n(abort, __ATOMIC_RELAXED); }

/* The bytes of the character at p[0], of at most n. */
static inline size_t width_of(const uint8_t *p, size_t n) {
    size_t width = 1;
    while (width < n && (p[width] & 0xc0) == 0x80) width++;
    return width;
}
#endif
