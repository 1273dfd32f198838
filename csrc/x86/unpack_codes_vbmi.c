/* VBMI: blocks to integers, for the types whose rows fit a table of codes in registers. */

#include "decode_codes_vbmi.h"
#include "skeleton_unpack_x86.h"

#define UNPACK_CODES(name)                                                                                      \
    UNPACK_KERNEL(name) {                                                                                       \
        const __m512i low_i8 = _mm512_set1_epi8((char)low);                                                     \
        for (size_t i = 0; i < n; i += 256, w += sizeof(block_##name)) {                                        \
            struct weights u;                                                                                \
            unpack_##name(w, &u);                                                                               \
            for (int z = 0; z < 4; z++) {                                                                       \
                const __m512i w_i8 =                                                                            \
                    _mm512_mask_sub_epi8(u.q_u8[z], u.minus[z], _mm512_setzero_si512(), u.q_u8[z]);             \
                _mm512_storeu_si512(q + i + 64 * z, _mm512_sub_epi8(w_i8, low_i8));                             \
            }                                                                                                   \
            _mm512_storeu_ps(scale + i / 16, u.shift_f32);                                                      \
            _mm512_storeu_ps(min + i / 16, _mm512_setzero_ps());                                                \
        }                                                                                                       \
    }

UNPACK_CODES(iq3_xxs)
UNPACK_CODES(iq3_s)
