/* Tables of codes, made from the tables of bytes. */

#include "codes.h"

#include "grids.h"

_Alignas(64) uint8_t gg_codes_iq2_xxs[2][256];
_Alignas(64) uint8_t gg_codes_iq2_xs[2][512];
_Alignas(64) uint8_t gg_codes_iq2_s[2][1024];
_Alignas(64) uint8_t gg_codes_iq3_xxs[2][256];
_Alignas(64) uint8_t gg_codes_iq3_s[2][512];
_Alignas(64) uint8_t gg_codes_tq1_0[2][256];

/* `n` bytes of a row divided by `step`, in a byte. */
static uint8_t code(uint64_t row, int n, unsigned step) {
    unsigned bits = 0;
    for (int i = 0; i < n; i++) bits |= (unsigned)(row >> 8 * i & 255) / step << (8 / n * i);
    return (uint8_t)bits;
}

static void put_two_bits(const uint64_t *grid, int rows, uint8_t *first, uint8_t *last) {
    for (int r = 0; r < rows; r++) first[r] = code(grid[r], 4, 17), last[r] = code(grid[r] >> 32, 4, 17);
}

static void put_nibbles(const uint32_t *grid, int rows, unsigned step, uint8_t *first, uint8_t *last) {
    for (int r = 0; r < rows; r++) first[r] = code(grid[r], 2, step), last[r] = code(grid[r] >> 16, 2, step);
}

static void put_digits(void) {
    for (int b = 0; b < 256; b++) {
        unsigned bits = 0, rest = (unsigned)b;
        for (int k = 0; k < 5; k++, rest = rest * 3 & 255) bits |= (rest * 3 >> 8) << (2 * k);
        gg_codes_tq1_0[0][b] = (uint8_t)bits, gg_codes_tq1_0[1][b] = (uint8_t)(bits >> 8);
    }
}

__attribute__((constructor)) static void make_codes(void) {
    put_two_bits(gg_grid_iq2_xxs, 256, gg_codes_iq2_xxs[0], gg_codes_iq2_xxs[1]);
    put_two_bits(gg_grid_iq2_xs, 512, gg_codes_iq2_xs[0], gg_codes_iq2_xs[1]);
    put_two_bits(gg_grid_iq2_s, 1024, gg_codes_iq2_s[0], gg_codes_iq2_s[1]);
    put_nibbles(gg_grid_iq3_xxs, 256, 8, gg_codes_iq3_xxs[0], gg_codes_iq3_xxs[1]);
    put_nibbles(gg_grid_iq3_s, 512, 2, gg_codes_iq3_s[0], gg_codes_iq3_s[1]);
    put_digits();
}
