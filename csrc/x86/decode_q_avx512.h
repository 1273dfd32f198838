/* Block types unpacked 256 weights at a time for dot_q_avx512.c. */

#ifndef GG_X86_DECODE_Q_AVX512_H
#define GG_X86_DECODE_Q_AVX512_H

#include "common.h"

/* 256 weights as bytes. Lane l of each q belongs to scale and min l. */
struct weights {
    __m512i q_u8[4];
    __m512 scale_f32, min_f32;
};

INLINE __m512i lanes(void) { return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0); }
INLINE __m512i half_lanes(void) { return _mm512_srli_epi32(lanes(), 1); }
INLINE __m512i plus(__m512i x_i32, int y) { return _mm512_add_epi32(x_i32, _mm512_set1_epi32(y)); }
INLINE __m512i bytes(int x) { return _mm512_set1_epi8((char)x); }

/* Loads once: GCC would rather load again for each use, and most of these loads cross a cache line. */
INLINE __m512i load512(const void *p) {
    __m512i x = _mm512_loadu_si512(p);
    __asm__("" : "+v"(x));
    return x;
}

/* ---- Blocks of 32, eight at a time ---- */

/* Two halves of four blocks each: the first 64 bytes and the last 64, which overlap. */
struct eight_blocks {
    __m512i first[2], last[2];
};

INLINE struct eight_blocks load_8(const uint8_t *p, const int size) {
    struct eight_blocks b;
    for (int half = 0; half < 2; half++, p += 4 * size) {
        b.first[half] = load512(p);
        b.last[half] = load512(p + 4 * size - 64);
    }
    return b;
}

/* Which words to take, for blocks of `size` bytes. */
#define EACH_8(f, i, size) f(i, size), f(i + 1, size), f(i + 2, size), f(i + 3, size), \
    f(i + 4, size), f(i + 5, size), f(i + 6, size), f(i + 7, size)
#define EACH_32(f, size) {EACH_8(f, 0, size), EACH_8(f, 8, size), EACH_8(f, 16, size), EACH_8(f, 24, size)}

/* The word at byte `at`: of the first 64 bytes of a half and its last 64; of the first 64 of both halves. */
#define OF_HALF(at, size) ((at) % (4 * size) < 64 ? (at) % (4 * size) / 2 : ((at) % (4 * size) - 4 * size + 128) / 2)
#define OF_FIRST(at, size) ((at) / (4 * size) * 32 + (at) % (4 * size) / 2)

/* Sixteen bytes of nibbles end a block, four of fifth bits come before them. */
#define NIBBLES(i, size) OF_HALF((i) / 8 * size + size - 16 + (i) % 8 * 2, size)
#define FIFTH(i, size) ((i) % 8 * size + size - 20 + (i) / 8 % 2 * 2)
/* Sixteen words: d of each block, twice; or d of each, then m of each. Then fifth bits. */
#define HEAD_D(i, size) ((i) / 2 * size)
#define HEAD_DM(i, size) ((i) % 8 * size + (i) / 8 * 2)
#define HEAD_Q4_0(i, size) ((i) < 16 ? OF_FIRST(HEAD_D(i, size), size) : 0)
#define HEAD_Q4_1(i, size) ((i) < 16 ? OF_FIRST(HEAD_DM(i, size), size) : 0)
#define HEAD_Q5_0(i, size) OF_HALF((i) < 16 ? HEAD_D(i, size) : FIFTH(i, size), size)
#define HEAD_Q5_1(i, size) OF_HALF((i) < 16 ? HEAD_DM(i, size) : FIFTH(i, size), size)
/* A dword of eight blocks, twice. */
#define DWORDS_Q4_0(i, size) OF_FIRST((i) / 4 * size + 2 + (i) % 2 * 2, size)

struct tables {
    int16_t nibbles[32], head[32];
};
static const struct tables tables_q4_0 = {EACH_32(DWORDS_Q4_0, 18), EACH_32(HEAD_Q4_0, 18)};
static const struct tables tables_q4_1 = {EACH_32(NIBBLES, 20), EACH_32(HEAD_Q4_1, 20)};
static const struct tables tables_q5_0 = {EACH_32(NIBBLES, 22), EACH_32(HEAD_Q5_0, 22)};
static const struct tables tables_q5_1 = {EACH_32(NIBBLES, 24), EACH_32(HEAD_Q5_1, 24)};

INLINE __m512i words_of_half(const struct eight_blocks *b, const int half, const int16_t table[32]) {
    return _mm512_permutex2var_epi16(b->first[half], _mm512_loadu_si512(table), b->last[half]);
}
INLINE __m512i words_of_first(const struct eight_blocks *b, const int16_t table[32]) {
    return _mm512_permutex2var_epi16(b->first[0], _mm512_loadu_si512(table), b->first[1]);
}

INLINE void scales_of_8(__m512i head, struct weights *u, const int has_min) {
    u->scale_f32 = _mm512_cvtph_ps(_mm512_castsi512_si256(head));
    if (!has_min) return;
    u->min_f32 = _mm512_permutexvar_ps(plus(half_lanes(), 8), u->scale_f32);
    u->scale_f32 = _mm512_permutexvar_ps(half_lanes(), u->scale_f32);
}

INLINE void nibbles_of_8(const struct eight_blocks *b, struct weights *u, const int16_t table[32]) {
    const __m512i low = words_of_half(b, 0, table), high = words_of_half(b, 1, table);
    for (int m = 0; m < 2; m++) {
        const __m512i index = _mm512_add_epi64(_mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0), _mm512_set1_epi64(m));
        const __m512i q_u8 = _mm512_permutex2var_epi64(low, index, high);
        u->q_u8[m] = _mm512_and_si512(q_u8, bytes(15));
        u->q_u8[2 + m] = _mm512_and_si512(_mm512_srli_epi16(q_u8, 4), bytes(15));
    }
}

/* Words 16 to 23: bits 0 to 15 of eight blocks; words 24 to 31: bits 16 to 31. */
INLINE void fifth_bits_of_8(__m512i head, struct weights *u) {
    const __m256i even_odd = _mm256_broadcastsi128_si256(
        _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0));
    uint64_t bits[4]; /* a bit for each weight of q */
    _mm256_storeu_si256((void *)bits, _mm256_shuffle_epi8(_mm512_extracti64x4_epi64(head, 1), even_odd));
    for (int m = 0; m < 4; m++) u->q_u8[m] = _mm512_mask_add_epi8(u->q_u8[m], bits[m], u->q_u8[m], bytes(16));
}

/* Low and high nibbles go to lanes of their own. */
INLINE void unpack_q4_0(const uint8_t *p, struct weights *u) {
    const struct eight_blocks b = load_8(p, sizeof(block_q4_0));
    const __m512i mask_u8 = _mm512_set1_epi64((int64_t)0xf0f0f0f00f0f0f0f);
    const __m512i index = _mm512_loadu_si512(tables_q4_0.nibbles), next = _mm512_add_epi16(index, _mm512_set1_epi16(2));
    scales_of_8(words_of_first(&b, tables_q4_0.head), u, 0);
    u->q_u8[0] = _mm512_and_si512(_mm512_permutex2var_epi16(b.first[0], index, b.first[1]), mask_u8);
    u->q_u8[1] = _mm512_and_si512(_mm512_permutex2var_epi16(b.first[0], next, b.first[1]), mask_u8);
    u->q_u8[2] = _mm512_and_si512(_mm512_permutex2var_epi16(b.last[0], index, b.last[1]), mask_u8);
    u->q_u8[3] = _mm512_and_si512(_mm512_permutex2var_epi16(b.last[0], next, b.last[1]), mask_u8);
}

INLINE void unpack_q4_1(const uint8_t *p, struct weights *u) {
    const struct eight_blocks b = load_8(p, sizeof(block_q4_1));
    scales_of_8(words_of_first(&b, tables_q4_1.head), u, 1);
    nibbles_of_8(&b, u, tables_q4_1.nibbles);
}

INLINE void unpack_q5(const uint8_t *p, struct weights *u, const int size, const struct tables *t, const int has_min) {
    const struct eight_blocks b = load_8(p, size);
    const __mmask32 upper = has_min ? 0xf0f0f0f0 : 0xf0f0ff00; /* words of blocks 4 to 7 */
    const __m512i head =
        _mm512_mask_blend_epi16(upper, words_of_half(&b, 0, t->head), words_of_half(&b, 1, t->head));
    scales_of_8(head, u, has_min);
    nibbles_of_8(&b, u, t->nibbles);
    fifth_bits_of_8(head, u);
}

INLINE void unpack_q5_0(const uint8_t *p, struct weights *u) {
    unpack_q5(p, u, sizeof(block_q5_0), &tables_q5_0, 0);
}
INLINE void unpack_q5_1(const uint8_t *p, struct weights *u) {
    unpack_q5(p, u, sizeof(block_q5_1), &tables_q5_1, 1);
}

INLINE void unpack_q8_0(const uint8_t *p, struct weights *u) {
    const block_q8_0 *b = (const block_q8_0 *)p;
    const __m512i index = _mm512_set_epi64(13, 9, 5, 1, 12, 8, 4, 0); /* qwords 0, then 1, of four blocks */
    __m512i z[4];
    for (int k = 0; k < 4; k++)
        z[k] = _mm512_inserti64x4(_mm512_castsi256_si512(load256(b[2 * k].qs)), load256(b[2 * k + 1].qs), 1);
    for (int m = 0; m < 4; m += 2) {
        const __m512i index_m = _mm512_add_epi64(index, _mm512_set1_epi64(m));
        const __m512i low = _mm512_permutex2var_epi64(z[0], index_m, z[1]);
        const __m512i high = _mm512_permutex2var_epi64(z[2], index_m, z[3]);
        const __m512i even = _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
        const __m512i odd = _mm512_shuffle_i64x2(low, high, _MM_SHUFFLE(3, 2, 3, 2));
        u->q_u8[m] = _mm512_xor_si512(even, bytes(0x80)); /* + 128: flip the sign bit */
        u->q_u8[m + 1] = _mm512_xor_si512(odd, bytes(0x80));
    }
    const __m128i d_f16 = _mm_set_epi16((short)b[7].d, (short)b[6].d, (short)b[5].d, (short)b[4].d, (short)b[3].d,
                                        (short)b[2].d, (short)b[1].d, (short)b[0].d);
    u->scale_f32 = _mm512_permutexvar_ps(half_lanes(), _mm512_castps256_ps512(_mm256_cvtph_ps(d_f16)));
}

/* ---- Super-blocks of 256 ---- */

INLINE __m512 floats_u8(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x)); }
INLINE __m512 floats_i8(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)); }
INLINE __m512 times_f16(__m512 x_f32, gg_f16 d) { return _mm512_mul_ps(x_f32, _mm512_set1_ps(f32(d))); }

/* x where a bit of mask is set, y elsewhere. */
INLINE __m512i select_bits(__m512i mask, __m512i x, __m512i y) { return _mm512_ternarylogic_epi64(mask, x, y, 0xca); }

/* Lane 4 i + j: dword m of 16 bytes i. */
INLINE __m512i dwords(__m512i bytes_u8, const int m) {
    return m == 0   ? _mm512_shuffle_epi32(bytes_u8, 0x00)
           : m == 1 ? _mm512_shuffle_epi32(bytes_u8, 0x55)
           : m == 2 ? _mm512_shuffle_epi32(bytes_u8, 0xaa)
                    : _mm512_shuffle_epi32(bytes_u8, 0xff);
}

/* Sixteen bytes in the order of LAYERS. */
INLINE __m128i in_layers(__m128i x) {
    return _mm_shuffle_epi8(x, _mm_set_epi8(15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0));
}
INLINE __m512i layers(void) { return _mm512_and_si512(lanes(), _mm512_set1_epi32(3)); }

INLINE void unpack_q2_K(const uint8_t *p, struct weights *u) {
    const block_q2_K *b = (const block_q2_K *)p;
    const __m512i qs_u8 = load512(b->qs);
    const __m512i mask_u8 = _mm512_set4_epi32((int)0xc0c0c0c0, 0x30303030, 0x0c0c0c0c, 0x03030303);
    for (int m = 0; m < 4; m++) u->q_u8[m] = _mm512_and_si512(dwords(qs_u8, m), mask_u8);
    const __m512i scales_u32 = _mm512_cvtepu8_epi32(in_layers(load128(b->scales)));
    u->scale_f32 = times_f16(_mm512_cvtepi32_ps(_mm512_and_si512(scales_u32, _mm512_set1_epi32(0x0f))), b->d);
    u->min_f32 = times_f16(_mm512_cvtepi32_ps(_mm512_and_si512(scales_u32, _mm512_set1_epi32(0xf0))), b->dmin);
}

INLINE __m512 scales_q3_K(const block_q3_K *b) {
    uint32_t high;
    memcpy(&high, b->scales + 8, sizeof high);
    const __m128i low_u8 = _mm_loadl_epi64((const void *)b->scales);
    const __m128i nibbles_u8 =
        _mm_and_si128(_mm_unpacklo_epi64(low_u8, _mm_srli_epi16(low_u8, 4)), _mm_set1_epi8(15));
    const __m128i high_u8 =
        _mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32((int)high), _mm_set_epi32(6, 4, 2, 0)), _mm_set1_epi8(3));
    const __m128i scales_i8 =
        _mm_sub_epi8(_mm_or_si128(nibbles_u8, _mm_slli_epi16(high_u8, 4)), _mm_set1_epi8(32));
    return times_f16(floats_i8(in_layers(scales_i8)), b->d);
}

INLINE void unpack_q3_K(const uint8_t *p, struct weights *u) {
    const block_q3_K *b = (const block_q3_K *)p;
    const __m512i qs_u8 = load512(b->qs), hmask_u8 = _mm512_broadcast_i64x4(load256(b->hmask));
    const __m512i shift_i32 = _mm512_slli_epi32(layers(), 1);
    const __m512i to_bit_2 = _mm512_set_epi32(-5, -4, -3, -2, -5, -4, -3, -2, -1, 0, 1, 2, -1, 0, 1, 2);
    for (int m = 0; m < 4; m++) {
        const __m512i low_u8 = _mm512_srlv_epi32(dwords(qs_u8, m), shift_i32);
        const __m512i high_u8 = _mm512_rolv_epi32(dwords(hmask_u8, m), to_bit_2);
        u->q_u8[m] = _mm512_and_si512(select_bits(bytes(4), high_u8, low_u8), bytes(7));
    }
    u->scale_f32 = scales_q3_K(b);
}

/* d, dmin, and twelve bytes: of eight scales and minima, six bits each. */
INLINE void scales_q4_K(const uint8_t *head, struct weights *u) {
    const __m128i head_u32 = load128(head);
    const __m128i low_u8 = _mm_and_si128(
        _mm_srlv_epi32(_mm_shuffle_epi32(head_u32, _MM_SHUFFLE(3, 2, 3, 1)), _mm_set_epi32(4, 0, 0, 0)),
        _mm_set_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f));
    const __m128i high_u8 = _mm_and_si128(_mm_srli_epi32(_mm_shuffle_epi32(head_u32, _MM_SHUFFLE(2, 0, 1, 0)), 2),
                                          _mm_set_epi32(0x30303030, 0, 0x30303030, 0));
    const __m512 d_f32 = _mm512_castps128_ps512(_mm_cvtph_ps(head_u32)); /* d, dmin */
    const __m512 factors_f32 = _mm512_permutexvar_ps(_mm512_srli_epi32(lanes(), 3), d_f32);
    const __m512 both_f32 = _mm512_mul_ps(floats_u8(_mm_or_si128(low_u8, high_u8)), factors_f32);
    u->scale_f32 = _mm512_permutexvar_ps(half_lanes(), both_f32);
    u->min_f32 = _mm512_permutexvar_ps(plus(half_lanes(), 8), both_f32);
}

/* Qword m of each 32 bytes, twice: for 32 low and 32 high nibbles. */
INLINE __m512i qwords(__m512i low, __m512i high, const int m) {
    const __m512i index = _mm512_add_epi64(_mm512_set_epi64(12, 12, 8, 8, 4, 4, 0, 0), _mm512_set1_epi64(m));
    return _mm512_permutex2var_epi64(low, index, high);
}

INLINE void unpack_q4_K(const uint8_t *p, struct weights *u) {
    const block_q4_K *b = (const block_q4_K *)p;
    const __m512i low = load512(b->qs), high = load512(b->qs + 64);
    const __m512i mask_u8 = _mm512_set4_epi64((int64_t)0xf0f0f0f0f0f0f0f0, 0x0f0f0f0f0f0f0f0f,
                                              (int64_t)0xf0f0f0f0f0f0f0f0, 0x0f0f0f0f0f0f0f0f);
    for (int m = 0; m < 4; m++) u->q_u8[m] = _mm512_and_si512(qwords(low, high, m), mask_u8);
    scales_q4_K(p, u);
}

INLINE void unpack_q5_K(const uint8_t *p, struct weights *u) {
    const block_q5_K *b = (const block_q5_K *)p;
    const __m512i low = load512(b->qs), high = load512(b->qs + 64);
    const __m512i shift = _mm512_set4_epi64(4, 0, 4, 0), to_bit_4 = _mm512_set_epi64(-3, -2, -1, 0, 1, 2, 3, 4);
    for (int m = 0; m < 4; m++) {
        int64_t bits;
        memcpy(&bits, b->qh + 8 * m, sizeof bits);
        const __m512i low_u8 = _mm512_srlv_epi64(qwords(low, high, m), shift);
        const __m512i high_u8 = _mm512_rolv_epi64(_mm512_set1_epi64(bits), to_bit_4);
        u->q_u8[m] = _mm512_and_si512(select_bits(bytes(16), high_u8, low_u8), bytes(31));
    }
    scales_q4_K(p, u);
}

/* Lane 4 i + j of q[m]: dword m of 16 bytes i of q[j]. */
INLINE void transpose(__m512i q[4]) {
    const __m512i a = _mm512_unpacklo_epi32(q[0], q[1]), b = _mm512_unpackhi_epi32(q[0], q[1]);
    const __m512i c = _mm512_unpacklo_epi32(q[2], q[3]), d = _mm512_unpackhi_epi32(q[2], q[3]);
    q[0] = _mm512_unpacklo_epi64(a, c), q[1] = _mm512_unpackhi_epi64(a, c);
    q[2] = _mm512_unpacklo_epi64(b, d), q[3] = _mm512_unpackhi_epi64(b, d);
}

INLINE void unpack_q6_K(const uint8_t *p, struct weights *u) {
    const block_q6_K *b = (const block_q6_K *)p;
    const __m512i to_bit_4[2] = {_mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4),
                                 _mm512_set_epi64(-2, -2, -2, -2, 0, 0, 0, 0)};
    for (int k = 0; k < 4; k++) {
        const __m512i ql_u8 = load512(b->ql + k / 2 * 64);
        const __m512i high_u8 =
            _mm512_rolv_epi64(_mm512_broadcast_i64x4(load256(b->qh + k / 2 * 32)), to_bit_4[k % 2]);
        const __m512i low_u8 = k % 2 ? _mm512_srli_epi16(ql_u8, 4) : ql_u8;
        u->q_u8[k] = _mm512_and_si512(select_bits(bytes(15), low_u8, high_u8), bytes(63));
    }
    transpose(u->q_u8);
    const __m128i scales_i8 = _mm_shuffle_epi8(
        load128(b->scales), _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
    u->scale_f32 = times_f16(floats_i8(scales_i8), b->d);
}

#endif
