/* Check and benchmark every kernel against its C reference, in the manner of dav1d's checkasm.
 *
 *   checkkern [--bench] [SEED]
 *
 * Inputs are random and end at a page the process may not touch, so a read past the end is a crash, not luck. */

#include "checkkern.h"

#include "check_wide.h"
#include "portable/convert.h"
#include "gg.h"
#include "kernels.h"

/* ---- Block types ---- */

enum { IQ1_M = 29, MXFP4 = 39 };

/* Where the f16 scales of a block are; random bits there would be infinities. */
static void set_scales(int32_t type, uint8_t *block) {
    static const struct { int32_t type, at[2]; } fields[] = {
        {1, {0, -1}},    {2, {0, -1}},  {3, {0, 2}},   {6, {0, -1}},  {7, {0, 2}},   {8, {0, -1}},  {10, {80, 82}},
        {11, {108, -1}}, {12, {0, 2}},  {13, {0, 2}},  {14, {208, -1}}, {16, {0, -1}}, {17, {0, -1}}, {18, {0, -1}},
        {19, {0, -1}},   {20, {0, -1}}, {21, {0, -1}}, {22, {0, -1}}, {23, {0, -1}}, {34, {52, -1}}, {35, {64, -1}},
        {41, {0, -1}},   {42, {0, -1}},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (int k = 0; k < 2; k++)
            if (fields[i].type == type && fields[i].at[k] >= 0) {
                const gg_f16 d = gg_f32_to_f16(random_f32());
                memcpy(block + fields[i].at[k], &d, sizeof d);
            }
}

static void random_blocks(int32_t type, uint8_t *w, size_t bytes, size_t block) {
    for (size_t i = 0; i < bytes; i++) w[i] = (uint8_t)random_u64();
    for (size_t i = 0; i < bytes; i += block) {
        const float x = random_f32();
        if (type == 0) memcpy(w + i, &x, 4);
        else if (type == 30) memcpy(w + i, (const uint8_t *)&x + 2, 2);
        else if (type == IQ1_M) w[i + 55] = (uint8_t)(w[i + 55] & 0xbf); /* the top bit of the scale's exponent */
        else if (type == MXFP4) w[i] = (uint8_t)(w[i] < 4 ? w[i] : 120 + w[i] % 16); /* subnormal scales, too */
        else set_scales(type, w + i);
    }
}

/* n_x rows of n activations, each array of all rows before a guard page. */
static void fill_activations(size_t n_x, size_t n, struct gg_activation *x) {
    float *values = floats(1, n_x * n), *d = floats(3, n_x * n / 32), *s = floats(4, n_x * n / 16);
    int8_t *q = guarded(2, n_x * n);
    fill(values, n_x * n, 1.0f);
    for (size_t c = 0; c < n_x; c++) {
        x[c] = (struct gg_activation){values + c * n, q + c * n, d + c * n / 32, s + c * n / 16};
        if (n % 32 == 0) gg_quantize_c(n, x[c].x, q + c * n, d + c * n / 32, s + c * n / 16);
    }
}

/* Any bytes as weights, senseless numbers as activations. */
static void dot_senselessly(size_t n, size_t rows, uint8_t *w, size_t stride, const struct gg_activation *x,
                            gg_dot_fn *new, float *y) {
    fill_bytes(w, rows * stride);
    fill_senseless((float *)x->x, n), fill_senseless((float *)x->d, n / 32), fill_senseless((float *)x->s, n / 16);
    fill_bytes((int8_t *)x->q, n);
    new(n, rows, w, stride, 1, x, y, rows);
}

static int check_dot(int32_t id, size_t block, size_t bytes, gg_dot_fn *ref, gg_dot_fn *new, double *ns) {
    enum { ROWS = 19, COLUMNS = 9, MAX = 4096 };
    static float expanded[MAX];
    const struct gg_type type = gg_type(id);
    for (size_t blocks = 0; blocks * block <= MAX; blocks = next_size(blocks)) {
        const size_t n = blocks * block, stride = blocks * bytes, rows = blocks % 8 == 3 ? ROWS : 5;
        uint8_t *w = guarded(0, rows * stride);
        struct gg_activation x[COLUMNS];
        float want[ROWS * COLUMNS], *got = floats(5, rows * COLUMNS), some[ROWS * COLUMNS];
        random_blocks(id, w, rows * stride, bytes);
        fill_activations(COLUMNS, n, x);
        ref(n, rows, w, stride, COLUMNS, x, want, rows);
        new(n, rows, w, stride, COLUMNS, x, got, rows);
        for (size_t r = 0; r < rows; r++) {
            float scale = 0.0f;
            gg_expand_weights(&type, n, w + r * stride, expanded);
            for (size_t i = 0; i < n; i++) scale += fabsf(expanded[i]);
            /* K-quants add scale * q and min apart: each is at most 63 times the result in our data */
            const float tolerance = (block > 1 ? 64.0f : 1.0f) * 2.0f * (float)n * FLT_EPSILON * scale;
            for (size_t c = 0; c < COLUMNS; c++)
                if (!close_to("dot", n, want[c * rows + r], got[c * rows + r], tolerance)) return 0;
        }
        for (size_t c = 0, n_x; c < COLUMNS; c += n_x) { /* a column does not depend on the others, or on the rows */
            const size_t first = c % rows;
            n_x = 1 + (blocks + c) % 8;
            if (n_x > COLUMNS - c) n_x = COLUMNS - c;
            new(n, rows - first, w + first * stride, stride, n_x, x + c, some, rows);
            for (size_t k = 0; k < n_x; k++)
                if (memcmp(some + k * rows, got + (c + k) * rows + first, (rows - first) * sizeof *some))
                    return close_to("column", c + k, some[k * rows], got[(c + k) * rows + first], -1.0f);
        }
        if (n == 0) continue;
        memset(w + stride, 0xff, (rows - 1) * stride); /* NaN, in most types: a row does not depend on those behind it */
        new(n, rows, w, stride, 1, x, some, rows);
        if (memcmp(some, got, sizeof *some)) return close_to("row", n, some[0], got[0], -1.0f);
        dot_senselessly(n, rows, w, stride, x, new, some);
    }
    enum { TIMED_ROWS = 4 };
    const size_t stride = MAX / block * bytes;
    uint8_t *w = guarded(0, TIMED_ROWS * stride);
    struct gg_activation x[COLUMNS];
    float y[TIMED_ROWS];
    fill_activations(1, MAX, x);
    TIME(ns, new(MAX, TIMED_ROWS, w, stride, 1, x, y, TIMED_ROWS));
    *ns /= TIMED_ROWS;
    return 1;
}

static int check_expand(int32_t id, size_t bytes, gg_expand_fn *ref, gg_expand_fn *new, double *ns) {
    enum { MAX = 4096 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n = next_size(n)) {
        uint8_t *w = guarded(0, n * bytes);
        float *got = floats(1, n);
        random_blocks(id, w, n * bytes, bytes);
        ref(n, w, want);
        new(n, w, got);
        if (memcmp(want, got, n * sizeof *got)) return all_close("expand", n, want, got, 0.0f, 0.0f);
        fill_bytes(w, n * bytes);
        new(n, w, got);
    }
    uint8_t *w = guarded(0, MAX * bytes);
    float *y = floats(1, MAX);
    TIME(ns, new(MAX, w, y));
    return 1;
}

/* What the type promises: q in range, scales in pairs if they are for 32, no minima where q may be negative. */
static int keeps_promises(const struct gg_type *type, int low, size_t n, const int8_t *q, const float *scale,
                          const float *min) {
    for (size_t i = 0; i < n; i++)
        if ((int8_t)(q[i] + low) < type->low || (int8_t)(q[i] + low) > type->high)
            return close_to("q out of range", i, 0.0f, q[i], 0.0f);
    for (size_t g = 0; g < n / 16; g++) {
        if (type->low < 0 && min[g] != 0.0f) return close_to("minimum", g, 0.0f, min[g], 0.0f);
        if (type->group == 32 && (scale[g] != scale[g & ~(size_t)1] || min[g] != min[g & ~(size_t)1]))
            return close_to("second half", g, scale[g & ~(size_t)1], scale[g], 0.0f);
    }
    return 1;
}

static int check_unpack(int32_t id, size_t block, size_t bytes, gg_unpack_fn *ref, gg_unpack_fn *new, double *ns) {
    enum { MAX = 4096 };
    static int8_t q[MAX];
    static float scale[MAX / 16], min[MAX / 16];
    const struct gg_type type = gg_type(id);
    for (size_t blocks = 0; blocks * block <= MAX; blocks = next_size(blocks)) {
        const size_t n = blocks * block, groups = n / 16;
        uint8_t *w = guarded(0, blocks * bytes);
        int8_t *new_q = guarded(1, n);
        float *new_scale = floats(2, groups), *new_min = floats(3, groups);
        random_blocks(id, w, blocks * bytes, bytes);
        const int low = blocks % 2 ? type.low : 0;
        ref(n, w, low, q, scale, min);
        new(n, w, low, new_q, new_scale, new_min);
        if (memcmp(q, new_q, n) || !all_close("scale", groups, scale, new_scale, 0.0f, 0.0f) ||
            !all_close("min", groups, min, new_min, 0.0f, 0.0f) || !keeps_promises(&type, low, n, q, scale, min))
            return close_to("unpack", n, 0.0f, 1.0f, 0.0f);
        fill_bytes(w, blocks * bytes);
        new(n, w, low, new_q, new_scale, new_min);
    }
    uint8_t *w = guarded(0, MAX / block * bytes);
    TIME(ns, new(MAX, w, type.low, q, scale, min));
    return 1;
}

#define GG_FLOAT_TYPE(name, id, bytes)                                                       \
    static int check_dot_##name(gg_dot_fn *ref, gg_dot_fn *new, double *ns) {                \
        return check_dot(id, 1, bytes, ref, new, ns);                                        \
    }                                                                                        \
    static int check_expand_##name(gg_expand_fn *ref, gg_expand_fn *new, double *ns) {       \
        return check_expand(id, bytes, ref, new, ns);                                        \
    }
#define GG_BLOCK_TYPE(name, id, weights, bytes, ...)                                         \
    static int check_dot_##name(gg_dot_fn *ref, gg_dot_fn *new, double *ns) {                \
        return check_dot(id, weights, bytes, ref, new, ns);                                  \
    }                                                                                        \
    static int check_unpack_##name(gg_unpack_fn *ref, gg_unpack_fn *new, double *ns) {       \
        return check_unpack(id, weights, bytes, ref, new, ns);                               \
    }
#include "types.inc"

#include "check_gemm.h"

#include "check_rows.h"
#include "check_cache.h"

/* ---- All of them ---- */

gg_gemm_bf16_fn gg_gemm_bf16_emulated; /* amx_emulated.c */

/* Prints the kernel's name; returns 0 if this CPU cannot run it. */
static int begin(const char *name, unsigned needs) {
    const int can = (needs & ~gg_cpu_flags()) == 0;
    printf("%-24s %s", name, can ? "" : "skipped\n"), fflush(stdout);
    return can;
}

/* The rows without needs are the references of their families. */
static void finish(const char *family, unsigned needs, int ok, double ns) {
    static struct { const char *family; double ns; } reference[128];
    static int n_references = 0;
    double first_ns = 0.0;
    failed += !ok;
    if (needs == 0) reference[n_references].family = family, reference[n_references++].ns = ns;
    for (int i = 0; i < n_references; i++)
        if (!strcmp(reference[i].family, family)) first_ns = reference[i].ns;
    if (bench && ok && first_ns > 0.0) printf("ok %10.1f ns %6.2fx\n", ns, first_ns / ns);
    else if (bench && ok && ns > 0.0) printf("ok %10.1f ns\n", ns);
    else puts(ok ? "ok" : "FAILED");
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--bench")) bench = 1;
        else seed = strtoull(argv[i], NULL, 0);
    printf("checkkern: seed %llu, cpu flags %#x\n", (unsigned long long)seed, gg_cpu_flags());
    make_buffers();

#define GG_KERNEL(family, isa, needs)                                                                \
    if (begin(#family "_" #isa, needs)) {                                                            \
        double ns = 0.0;                                                                             \
        const int ok = check_##family(gg_##family##_c, gg_##family##_##isa, &ns);                    \
        finish(#family, needs, ok, ns);                                                              \
    }
#include "kernels.inc"
#undef GG_KERNEL
#if GG_X86_64
    if (!bench && begin("gemm_bf16_emulated", 0)) /* the one for AMX */
        finish("gemm_bf16", GG_AMX, check_gemm_bf16(gg_gemm_bf16_c, gg_gemm_bf16_emulated, NULL), 0.0);
#endif
    return failed != 0;
}
