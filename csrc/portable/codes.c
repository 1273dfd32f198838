/* Tables of codes, made from the tables of bytes. */

#include "portable/codes.h"

#include "portable/grids.h"

_Alignas(64) uint8_t gg_codes_iq3_xxs[2][256];
_Alignas(64) uint8_t gg_codes_iq3_s[2][512];
_Alignas(64) uint8_t gg_codes_tq1_0[2][256];

/* The two lowest bytes of a row divided by `step`, as nibbles. */
static uint8_t two_codes(uint32_t row, unsigned step) {
    return (uint8_t)((row & 255) / step | (row >> 8 & 255) / step << 4);
}

static void put_nibbles(const uint32_t *grid, int rows, unsigned step, uint8_t *first, uint8_t *last) {
    for (int r = 0; r < rows; r++) first[r] = two_codes(grid[r], step), last[r] = two_codes(grid[r] >> 16, step);
}

static void put_digits(void) {
    for (int b = 0; b < 256; b++) {
        unsigned bits = 0, rest = (unsigned)b;
        for (int k = 0; k < 5; k++, rest = rest * 3 & 255) bits |= (rest * 3 >> 8) << (2 * k);
        gg_codes_tq1_0[0][b] = (uint8_t)bits, gg_codes_tq1_0[1][b] = (uint8_t)(bits >> 8);
    }
}

__attribute__((constructor)) static void make_codes(void) {
    put_nibbles(gg_grid_iq3_xxs, 256, 8, gg_codes_iq3_xxs[0], gg_codes_iq3_xxs[1]);
    put_nibbles(gg_grid_iq3_s, 512, 2, gg_codes_iq3_s[0], gg_codes_iq3_s[1]);
    put_digits();
}
