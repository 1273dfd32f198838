/* Blocks to integers: the types whose weights are nibbles that choose from a table, or of two bits at most. */

#include "decode_tables_avx2.h"
#include "skeleton_unpack_x86.h"

/* ---- Tables ---- */

INLINE void set_iq4_nl(const block_iq4_nl *b, float *scale, float *min) {
    store_8_twice(scale, eight_f16((const uint8_t *)b, sizeof *b));
    store_zeros(min);
}

INLINE void set_iq4_xs(const block_iq4_xs *b, float *scale, float *min) {
    store_8_twice(scale, eight_scales_iq4_xs(b));
    store_zeros(min);
}

INLINE void set_mxfp4(const block_mxfp4 *b, float *scale, float *min) {
    const __m256i e_i32 = _mm256_setr_epi32(b[0].e, b[1].e, b[2].e, b[3].e, b[4].e, b[5].e, b[6].e, b[7].e);
    store_8_twice(scale, half_e8m0(e_i32));
    store_zeros(min);
}

INLINE void set_nvfp4(const block_nvfp4 *b, float *scale, float *min) {
    for (int i = 0; i < 2; i++, b += 2) {
        const __m128i d_u8 = _mm_setr_epi32((int)load_u32(b[0].d), (int)load_u32(b[1].d), 0, 0);
        _mm256_storeu_ps(scale + 8 * i, half_ue4m3(d_u8));
    }
    store_zeros(min);
}

UNPACK(iq4_nl, 0, set_iq4_nl)
UNPACK(iq4_xs, 0, set_iq4_xs)
UNPACK(mxfp4, 0, set_mxfp4)
UNPACK(nvfp4, 0, set_nvfp4)

/* ---- Two bits at most ---- */

INLINE void set_quarters(gg_f16 d0, gg_f16 d1, gg_f16 d2, gg_f16 d3, float *scale, float *min) {
    const gg_f16 d[4] = {d0, d1, d2, d3};
    for (int i = 0; i < 4; i++) _mm_storeu_ps(scale + 4 * i, _mm_cvtph_ps(_mm_set1_epi16((short)d[i])));
    store_zeros(min);
}

#define SET_ONE(b, scale, min) set_quarters(b->d, b->d, b->d, b->d, scale, min)
#define SET_TWO(b, scale, min) set_quarters(b[0].d, b[0].d, b[1].d, b[1].d, scale, min)
#define SET_FOUR(b, scale, min) set_quarters(b[0].d, b[1].d, b[2].d, b[3].d, scale, min)
UNPACK(tq1_0, 0, SET_ONE)
UNPACK(tq2_0, 0, SET_ONE)
UNPACK(q1_0, 0, SET_TWO)
UNPACK(q2_0, 0, SET_FOUR)
