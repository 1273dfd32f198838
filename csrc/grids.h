/* The vectors that the IQ types choose their weights from: a row is eight or four bytes, the first lowest. */

#ifndef GG_GRIDS_H
#define GG_GRIDS_H

#include <stdint.h>

extern const uint64_t gg_grid_iq1[2048]; /* iq1_s and iq1_m: each byte 8 + 8 * (-1, 0 or 1) */
extern const uint64_t gg_grid_iq2_xxs[256];
extern const uint64_t gg_grid_iq2_xs[512];
extern const uint64_t gg_grid_iq2_s[1024];
extern const uint32_t gg_grid_iq3_xxs[256];
extern const uint32_t gg_grid_iq3_s[512];

/* The rows of the iq3 grids as codes of the eight values: bytes 0 and 1 of a row in [0], 2 and 3 in [1], the lower nibble
 * first. Made when the library is loaded. */
extern _Alignas(64) uint8_t gg_codes_iq3_xxs[2][256];
extern _Alignas(64) uint8_t gg_codes_iq3_s[2][512];

#endif
