/* VBMI: blocks to integers, for the types whose rows fit a table of codes in registers. */

#include "iq3_vbmi.h"

#define UNPACK(name)                                                                                            \
    void GG_NAME(unpack_##name)(size_t n, const uint8_t *restrict w, int8_t *restrict q,                        \
                                float *restrict scale, float *restrict min) {                                   \
        for (size_t i = 0; i < n; i += 256, w += sizeof(block_##name)) {                                        \
            struct superblock u;                                                                                \
            unpack_##name(w, &u);                                                                               \
            for (int z = 0; z < 4; z++) {                                                                       \
                const __m512i w_i8 =                                                                            \
                    _mm512_mask_sub_epi8(u.w_u8[z], u.minus[z], _mm512_setzero_si512(), u.w_u8[z]);             \
                _mm512_storeu_si512(q + i + 64 * z, w_i8);                                                      \
            }                                                                                                   \
            _mm512_storeu_ps(scale + i / 16, u.shift_f32);                                                      \
            _mm512_storeu_ps(min + i / 16, _mm512_setzero_ps());                                                \
        }                                                                                                       \
    }

UNPACK(iq3_xxs)
UNPACK(iq3_s)
