/* Checks of the matrix products; part of checkkern.c. */

static int check_gemm(gg_gemm_fn *ref, gg_gemm_fn *new, double *ns) {
    enum { M = 30, K = 70, LANES = GG_LANES };
    static float want[M * LANES];
    for (size_t m = 0; m <= M; m++)
        for (size_t k = 0; k <= K; k += k < 5 ? 1 : 13) {
            float *a = floats(0, m * k), *b = floats(1, k * LANES), *got = floats(2, m * LANES);
            fill(a, m * k, 1.0f), fill(b, k * LANES, 1.0f), fill(got, m * LANES, 1.0f);
            memcpy(want, got, m * LANES * sizeof *got);
            const int accumulate = (int)(m + k) % 2;
            ref(m, k, a, k, b, LANES, want, LANES, accumulate);
            new(m, k, a, k, b, LANES, got, LANES, accumulate);
            const float tolerance = 2.0f * (float)(k + 1) * FLT_EPSILON * (float)(k + 1);
            if (!all_close("gemm", m * LANES, want, got, 0.0f, tolerance)) return 0;
        }
    enum { BIG = 256 };
    float *a = floats(0, 64 * BIG), *b = floats(1, BIG * LANES), *c = floats(2, 64 * LANES);
    TIME(ns, new(64, BIG, a, BIG, b, LANES, c, LANES, 0));
    return 1;
}


/* k quantized inputs of `rows` rows, their arrays before guard pages 2 to 4. */
static int check_pack_i8(gg_pack_i8_fn *ref, gg_pack_i8_fn *new, double *ns) {
    enum { MAX = 256 };
    static struct gg_tile_i8 want[MAX / 32];
    struct gg_activation x[GG_LANES];
    for (size_t k = 0; k <= MAX; k += 32)
        for (size_t rows = 1; rows <= GG_LANES; rows++) {
            struct gg_tile_i8 *got = guarded(0, k / 32 * sizeof *got);
            fill_activations(rows, k, x);
            ref(k, rows, x, want);
            new(k, rows, x, got);
            if (memcmp(want, got, k / 32 * sizeof *got)) return close_to("pack_i8", rows, 0.0f, 1.0f, 0.0f);
        }
    TIME(ns, new(MAX, GG_LANES, x, want));
    return 1;
}

/* A panel of random weights, before guard pages 0 to 2. */
static struct gg_panel_i8 random_panel(size_t m, size_t k, int group, int low, int high) {
    uint8_t *q = guarded(0, m * k);
    float *scale = floats(1, m * k / 16), *min = floats(2, m * k / 16);
    const int extreme = (int)(random_u64() % 4); /* the largest sums there can be, now and then */
    for (size_t i = 0; i < m * k; i++)
        q[i] = (uint8_t)(extreme ? random_u64() % (uint64_t)(high - low + 1) : (uint64_t)(high - low));
    for (size_t g = 0; g < m * k / 16; g++) {
        scale[g] = group == 32 && g % 2 ? scale[g - 1] : random_f32();
        min[g] = group == 32 && g % 2 ? min[g - 1] : 10.0f * random_f32();
    }
    return (struct gg_panel_i8){q, scale, low < 0 ? NULL : min, k, group, low, high - low};
}

static int check_gemm_i8_of(gg_gemm_i8_fn *ref, gg_gemm_i8_fn *new, size_t m, size_t k, int group, int low, int high) {
    static float want[64 * GG_LANES];
    const struct gg_panel_i8 a = random_panel(m, k, group, low, high);
    struct gg_tile_i8 *b = guarded(3, k / 32 * sizeof *b);
    float *got = floats(4, m * GG_LANES), x[32], s[2];
    for (size_t t = 0; t < k / 32; t++) {
        memset(b + t, 0, sizeof *b);
        for (size_t lane = 0; lane < GG_LANES; lane++) {
            int8_t q[32];
            fill(x, 32, lane % 2 ? 1.0f : 0.01f);
            if (lane % 5 == 0) for (int i = 0; i < 32; i++) x[i] = lane % 2 ? 1.0f : -1.0f;
            gg_quantize_c(32, x, q, &b[t].d[lane], s);
            for (int i = 0; i < 32; i++) {
                b[t].q[i / 4][lane][i % 4] = q[i];
                b[t].sum[i / 16][lane] = (int16_t)(b[t].sum[i / 16][lane] + q[i]);
            }
        }
    }
    fill(got, m * GG_LANES, 1.0f);
    memcpy(want, got, m * GG_LANES * sizeof *got);
    const int accumulate = (int)(m + k / 32) % 2;
    ref(m, k, &a, b, want, accumulate);
    new(m, k, &a, b, got, accumulate);
    const float most = (float)k * ((float)(high > -low ? high : -low) + 10.0f); /* of sum |scale q x| + |min x| */
    return all_close("gemm_i8", m * GG_LANES, want, got, 0.0f, 4.0f * (float)(k / (size_t)group + 1) * FLT_EPSILON * most);
}

static int check_gemm_i8(gg_gemm_i8_fn *ref, gg_gemm_i8_fn *new, double *ns) {
    static const struct { int group, low, high; } kinds[] = {
#define GG_BLOCK_TYPE(name, id, weights, bytes, group, low, high) {group, low, high},
#include "types.inc"
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (size_t m = 0; m < 30; m += m < 14 ? 1 : 5)
            for (size_t k = 0; k <= 96; k += 32)
                if (!check_gemm_i8_of(ref, new, m, k, kinds[i].group, kinds[i].low, kinds[i].high)) return 0;
    enum { M = 64, BIG = 256 };
    static float c[M * GG_LANES];
    static struct gg_tile_i8 b[BIG / 32];
    const struct gg_panel_i8 a = random_panel(M, BIG, 32, -8, 7);
    TIME(ns, new(M, BIG, &a, b, c, 1));
    return 1;
}
