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
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[32]; uint16_t qh[8]; } block_iq1_s;
typedef struct GG_PACKED { uint8_t qs[32], qh[16]; uint16_t scales[4]; } block_iq1_m;
typedef struct GG_PACKED { gg_f16 d; struct GG_PACKED { uint8_t rows[4]; uint32_t signs; } qs[8]; } block_iq2_xxs;
typedef struct GG_PACKED { gg_f16 d; uint16_t qs[32]; uint8_t scales[8]; } block_iq2_xs;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[32], signs[32], qh[8], scales[8]; } block_iq2_s;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[64]; uint32_t signs[8]; } block_iq3_xxs;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[64], qh[8], signs[32], scales[4]; } block_iq3_s;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[16]; } block_iq4_nl;
typedef struct GG_PACKED { gg_f16 d; uint16_t scales_h; uint8_t scales_l[4], qs[128]; } block_iq4_xs;
typedef struct GG_PACKED { uint8_t e, qs[16]; } block_mxfp4; /* e: exponent of the scale, e8m0 */
typedef struct GG_PACKED { uint8_t d[4], qs[32]; } block_nvfp4; /* d: scales, ue4m3 */
typedef struct GG_PACKED { uint8_t qs[48], qh[4]; gg_f16 d; } block_tq1_0;
typedef struct GG_PACKED { uint8_t qs[64]; gg_f16 d; } block_tq2_0;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[16]; } block_q1_0;
typedef struct GG_PACKED { gg_f16 d; uint8_t qs[16]; } block_q2_0;

/* What types.inc says of block_<name>: how many weights it has, how many share a scale, do they have minima? */
#define GG_BLOCK_TYPE(name, id, weights, bytes, group, low, high) \
    static_assert(sizeof(block_##name) == (bytes), #name);         \
    enum { GG_WEIGHTS_##name = weights, GG_GROUP_##name = group, GG_HAS_MIN_##name = low >= 0 };
#include "types.inc"

#endif
