/* The block formats of GGUF tensors, byte for byte. Source: llama.cpp ggml-common.h.
 *
 * All are packed: a file may place a tensor at any address. Multi-byte fields are little-endian. */

#ifndef GG_BLOCKS_H
#define GG_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#define GG_PACKED __attribute__((packed))

enum { GG_QK = 32, GG_QK_K = 256 };

typedef uint16_t gg_f16; /* IEEE binary16 bits */

typedef struct GG_PACKED { gg_f16 d; uint8_t qs[16]; } block_q4_0;
typedef struct GG_PACKED { gg_f16 d, m; uint8_t qs[16]; } block_q4_1;
typedef struct GG_PACKED { gg_f16 d; uint8_t qh[4], qs[16]; } block_q5_0;
typedef struct GG_PACKED { gg_f16 d, m; uint8_t qh[4], qs[16]; } block_q5_1;
typedef struct GG_PACKED { gg_f16 d; int8_t qs[32]; } block_q8_0;
typedef struct GG_PACKED { uint8_t scales[16], qs[64]; gg_f16 d, dmin; } block_q2_K;
typedef struct GG_PACKED { uint8_t hmask[32], qs[64], scales[12]; gg_f16 d; } block_q3_K;
typedef struct GG_PACKED { gg_f16 d, dmin; uint8_t scales[12], qs[128]; } block_q4_K;
typedef struct GG_PACKED { gg_f16 d, dmin; uint8_t scales[12], qh[32], qs[128]; } block_q5_K;
typedef struct GG_PACKED { uint8_t ql[128], qh[64]; int8_t scales[16]; gg_f16 d; } block_q6_K;

static_assert(sizeof(block_q4_0) == 18, "q4_0");
static_assert(sizeof(block_q4_1) == 20, "q4_1");
static_assert(sizeof(block_q5_0) == 22, "q5_0");
static_assert(sizeof(block_q5_1) == 24, "q5_1");
static_assert(sizeof(block_q8_0) == 34, "q8_0");
static_assert(sizeof(block_q2_K) == 84, "q2_K");
static_assert(sizeof(block_q3_K) == 110, "q3_K");
static_assert(sizeof(block_q4_K) == 144, "q4_K");
static_assert(sizeof(block_q5_K) == 176, "q5_K");
static_assert(sizeof(block_q6_K) == 210, "q6_K");

#endif
