/* The GEMM for AMX on any x86: its source, compiled against the tile instructions in plain C, as Intel's manual
 * (Software Developer's Manual, volume 2) describes them. What the CPU refuses ends the program. */

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portable/convert.h"
#include "kernels.h"

static struct tile {
    unsigned rows, row_bytes;
    unsigned char bytes[16][64];
} tiles[8];

static void fault(const char *what) {
    fprintf(stderr, "emulated AMX: %s\n", what);
    abort();
}

static struct tile *configured(int i) {
    if (tiles[i].rows == 0) fault("a tile that is not configured");
    return &tiles[i];
}

static void load_config(const void *from) {
    unsigned char config[64];
    memcpy(config, from, sizeof config);
    memset(tiles, 0, sizeof tiles);
    if (config[0] != 1) fault("palette");
    for (int i = 1; i < 16; i++)
        if (config[i]) fault("reserved bytes of the configuration");
    for (int i = 0; i < 16; i++) {
        const unsigned row_bytes = gg_load_u16(config + 16 + 2 * i), rows = config[48 + i];
        if (row_bytes > 64 || rows > 16 || !rows != !row_bytes || (i >= 8 && rows)) fault("shape of a tile");
        if (i < 8) tiles[i].rows = rows, tiles[i].row_bytes = row_bytes;
    }
}

static void release(void) { memset(tiles, 0, sizeof tiles); }

static void zero(int i) { memset(configured(i)->bytes, 0, sizeof tiles[i].bytes); }

static void load(int i, const void *from, size_t stride) {
    zero(i);
    for (unsigned r = 0; r < tiles[i].rows; r++)
        memcpy(tiles[i].bytes[r], (const char *)from + r * stride, tiles[i].row_bytes);
}

static void store(int i, void *to, size_t stride) {
    const struct tile *t = configured(i);
    for (unsigned r = 0; r < t->rows; r++) memcpy((char *)to + r * stride, t->bytes[r], t->row_bytes);
}

static float bf16(const struct tile *t, unsigned row, unsigned i) {
    return gg_bf16_to_f32(gg_load_u16(t->bytes[row] + 2 * i));
}

/* Sums of even and odd products apart; subnormals are not flushed. */
static void multiply_bf16(int sum, int weights, int lanes) {
    struct tile *c = configured(sum);
    const struct tile *a = configured(weights), *b = configured(lanes);
    if (c->rows != a->rows || c->row_bytes != b->row_bytes || a->row_bytes % 4 || b->row_bytes % 4 ||
        a->row_bytes / 4 != b->rows || sum == weights || sum == lanes || weights == lanes)
        fault("shapes of a product");
    for (unsigned m = 0; m < c->rows; m++)
        for (unsigned n = 0; n < c->row_bytes / 4; n++) {
            float even = 0.0f, odd = 0.0f, result;
            for (unsigned k = 0; k < b->rows; k++) {
                even += bf16(a, m, 2 * k) * bf16(b, k, 2 * n);
                odd += bf16(a, m, 2 * k + 1) * bf16(b, k, 2 * n + 1);
            }
            memcpy(&result, c->bytes[m] + 4 * n, sizeof result);
            result += even + odd;
            memcpy(c->bytes[m] + 4 * n, &result, sizeof result);
        }
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig load_config
#define _tile_release release
#define _tile_loadd load
#define _tile_stored store
#define _tile_zero zero
#define _tile_dpbf16ps multiply_bf16
#define gg_gemm_bf16_amx gemm_bf16_amx
static gg_gemm_bf16_fn gg_gemm_bf16_amx;
#include "x86/gemm_bf16_amx.c"

gg_gemm_bf16_fn gg_gemm_bf16_emulated;

void gg_gemm_bf16_emulated(size_t m, size_t k, const uint16_t *a, size_t lda, size_t n_tiles, const uint16_t *b,
                           size_t b_tile, float *c, size_t c_tile, int accumulate) {
    gg_gemm_bf16_amx(m, k, a, lda, n_tiles, b, b_tile, c, c_tile, accumulate);
    for (int i = 0; i < 8; i++)
        if (tiles[i].rows) fault("tiles were not released");
}
