/* Tokens by text, over strings where they lie in a file. Contracts in gg_cdef.h. */

#include <string.h>

#include "gg.h"
#include "tokens.h"

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

int32_t gg_find_token(const gg_tokens *t, const uint8_t *p, size_t n) {
    return find(t, hash_on(t, HASH_START, p, n), p, n);
}
