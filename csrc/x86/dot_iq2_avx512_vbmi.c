/* AVX-512, without and with VBMI: dot products of the iq2 types that store seven signs of eight. */

#include "decode_grids_avx512.h"

INLINE void unpack_iq2_xxs(const uint8_t *p, struct weights *u) {
    const block_iq2_xxs *b = (const block_iq2_xxs *)p;
    for (int z = 0; z < 4; z++) {
        const uint8_t *r = b->qs[2 * z].rows, *s = b->qs[2 * z + 1].rows;
        u->q_u8[z] = join(four_rows(gg_grid_iq2_xxs, r[0], r[1], r[2], r[3]),
                          four_rows(gg_grid_iq2_xxs, s[0], s[1], s[2], s[3]));
    }
    rest_iq2_xxs(b, u);
}

INLINE __m512i numbers_iq2_xs(const uint8_t *p) {
    return _mm512_and_si512(_mm512_loadu_si512(((const block_iq2_xs *)p)->qs), _mm512_set1_epi16(511));
}

INLINE void unpack_iq2_xs(const uint8_t *p, const uint16_t *numbers, struct weights *u) {
    set_rows(u, gg_grid_iq2_xs, numbers);
    rest_iq2_xs((const block_iq2_xs *)p, u);
}

/* name, max, bias, has_minus */
DOT(iq2_xxs, 43, 0, 1)
DOT_ROWS(iq2_xs, 43, 0, 1)
