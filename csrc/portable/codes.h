/* Grids and bytes of tq1_0 in few bits, for kernels that look up 64 bytes at a time. Made when the library is loaded. */

#ifndef GG_CODES_H
#define GG_CODES_H

#include <stdint.h>

/* Rows of iq3: numbers 0 to 7 of their values, a nibble each: two in a byte of [0], two in one of [1]. */
extern _Alignas(64) uint8_t gg_codes_iq3_xxs[2][256];
extern _Alignas(64) uint8_t gg_codes_iq3_s[2][512];

/* Digits of a byte of tq1_0, two bits each: the first four in [0], the fifth in [1]. */
extern _Alignas(64) uint8_t gg_codes_tq1_0[2][256];

#endif
