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

#endif
