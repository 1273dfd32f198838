/* bf16 GEMM for AMX: registers are tiles of 16 rows of 64 bytes, an instruction does 16 x 16 x 32 multiplications.
 *
 * 32 weight rows by 32 lanes are summed up in a square of four tiles; each tile of operands that is loaded is used
 * twice. Weights are the first operand, as they lie; lanes are the second, whose rows are pairs: [k / 2][16][2]. */

#if !defined(__x86_64__)
#error "compile this file for x86-64 with -mamx-tile -mamx-bf16"
#endif

#include <immintrin.h>

#include "kernels.h"

enum { ROWS = 16, ROW_BYTES = 64, BLOCK = 2 * ROWS, STEP = 32 };

/* Tiles; the intrinsics want plain numbers. U: upper weight rows, L: lower; 0, 1: half of the lanes. */
#define SUM_U0 0
#define SUM_U1 1
#define SUM_L0 2
#define SUM_L1 3
#define WEIGHT_U 4
#define WEIGHT_L 5
#define LANE_0 6
#define LANE_1 7

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles for 1 to 32 weight rows: those beyond exist in no tile, and up to 16 leave the lower tiles out. */
static void configure(size_t rows) {
    const uint8_t upper = (uint8_t)(rows < ROWS ? rows : ROWS), lower = (uint8_t)(rows - upper);
    struct tile_config config = {
        .palette = 1,
        .rows = {upper, upper, lower, lower, upper, lower, ROWS, ROWS},
    };
    for (int i = 0; i < 8; i++) config.row_bytes[i] = config.rows[i] ? ROW_BYTES : 0;
    __asm__ volatile("" : : "r"(&config) : "memory"); /* GCC 12 thinks that 8 bytes are read, and drops other stores */
    _tile_loadconfig(&config);
}

static inline void load_sums(int lower, const float *c, int accumulate) {
    const size_t stride = GG_LANES * sizeof *c;
    if (accumulate) {
        _tile_loadd(SUM_U0, c, stride);
        _tile_loadd(SUM_U1, c + ROWS, stride);
        if (lower) {
            _tile_loadd(SUM_L0, c + ROWS * GG_LANES, stride);
            _tile_loadd(SUM_L1, c + ROWS * GG_LANES + ROWS, stride);
        }
    } else {
        _tile_zero(SUM_U0);
        _tile_zero(SUM_U1);
        if (lower) {
            _tile_zero(SUM_L0);
            _tile_zero(SUM_L1);
        }
    }
}

static inline void store_sums(int lower, float *c) {
    const size_t stride = GG_LANES * sizeof *c;
    _tile_stored(SUM_U0, c, stride);
    _tile_stored(SUM_U1, c + ROWS, stride);
    if (lower) {
        _tile_stored(SUM_L0, c + ROWS * GG_LANES, stride);
        _tile_stored(SUM_L1, c + ROWS * GG_LANES + ROWS, stride);
    }
}

/* One block of weight rows by one tile of lanes. */
static inline void multiply(int lower, size_t k, const uint16_t *a, size_t lda, const uint16_t *b, float *c,
                            int accumulate) {
    const size_t a_stride = lda * sizeof *a, b_stride = 2 * GG_LANES * sizeof *b;
    load_sums(lower, c, accumulate);
    for (size_t l = 0; l < k; l += STEP) {
        _tile_loadd(LANE_0, b + l * GG_LANES, b_stride);
        _tile_loadd(LANE_1, b + l * GG_LANES + 2 * ROWS, b_stride);
        _tile_loadd(WEIGHT_U, a + l, a_stride);
        _tile_dpbf16ps(SUM_U0, WEIGHT_U, LANE_0);
        _tile_dpbf16ps(SUM_U1, WEIGHT_U, LANE_1);
        if (lower) {
            _tile_loadd(WEIGHT_L, a + ROWS * lda + l, a_stride);
            _tile_dpbf16ps(SUM_L0, WEIGHT_L, LANE_0);
            _tile_dpbf16ps(SUM_L1, WEIGHT_L, LANE_1);
        }
    }
    store_sums(lower, c);
}

void gg_gemm_bf16_amx(size_t m, size_t k, const uint16_t *a, size_t lda, size_t n_tiles, const uint16_t *b,
                      size_t b_tile, float *c, size_t c_tile, int accumulate) {
    const size_t whole = m / BLOCK * BLOCK, rest = m - whole;
    if (whole) configure(BLOCK);
    for (size_t t = 0; t < n_tiles; t++) /* a tile of lanes stays in L1, weights come from L2 */
        for (size_t i = 0; i < whole; i += BLOCK)
            multiply(1, k, a + i * lda, lda, b + t * b_tile, c + t * c_tile + i * GG_LANES, accumulate);
    if (rest) configure(rest);
    for (size_t t = 0; rest && t < n_tiles; t++)
        multiply(rest > ROWS, k, a + whole * lda, lda, b + t * b_tile, c + t * c_tile + whole * GG_LANES, accumulate);
    _tile_release(); /* tiles in use make switches of threads slow */
}
