/* Checks of the KV cache's kernels: a part of checkkern.c, which includes it. */

/* A head's page of random values; random bits would be infinities. */
static uint8_t *random_page(int32_t id, size_t rows, int buffer) {
    const struct gg_type type = gg_type(id);
    const size_t panel = 32 / type.weights * type.bytes * (type.weights == 1 ? rows : 32);
    const size_t bytes = type.weights == 1 ? panel : rows / 32 * panel;
    uint8_t *page = guarded(buffer, bytes);
    random_blocks(id, page, bytes, type.bytes);
    for (size_t i = 0; i < bytes && type.weights > 1; i += panel)
        for (size_t j = 0; j < 32; j++) {
            const gg_f16 d = gg_f32_to_f16(random_f32());
            memcpy(page + i + 2 * j, &d, sizeof d);
        }
    return page;
}

/* Against the reference; and the last row alone gives the same bits. */
static int check_scores(int32_t id, gg_scores_fn *ref, gg_scores_fn *new, double *ns) {
    enum { M = 27, K = 128, LANES = GG_LANES };
    static float want[M * LANES];
    const size_t block = gg_type(id).weights;
    for (size_t m = 1; m <= M; m++)
        for (size_t k = block; k <= K; k += block > 1 ? block : k < 5 ? 1 : 41) {
            float *q = floats(0, m * k), *got = floats(2, m * LANES), alone[LANES];
            const uint8_t *page = random_page(id, k, 1);
            fill(q, m * k, 1.0f);
            ref(m, k, q, k, page, want, LANES, page);
            new(m, k, q, k, page, got, LANES, page);
            const float largest = block > 1 ? 128.0f : 1.0f, tolerance = 2.0f * (float)(k * k) * FLT_EPSILON * largest;
            if (!all_close("scores", m * LANES, want, got, 0.0f, tolerance)) return 0;
            new(1, k, q + (m - 1) * k, k, page, alone, LANES, page);
            if (memcmp(alone, got + (m - 1) * LANES, sizeof alone)) return close_to("row", m, alone[0], got[0], -1.0f);
        }
    float *q = floats(0, 4 * 64), *s = floats(2, 4 * LANES);
    const uint8_t *page = random_page(id, 64, 1);
    fill(q, 4 * 64, 1.0f);
    TIME(ns, new(4, 64, q, 64, page, s, LANES, page));
    return 1;
}

static int check_values(int32_t id, gg_values_fn *ref, gg_values_fn *new, double *ns) {
    enum { M = 27, WIDTH = 96, LANES = GG_LANES };
    static float want[M * WIDTH];
    for (size_t m = 1; m <= M; m++)
        for (size_t n = 1; n <= LANES; n += n < 5 ? 1 : 9)
            for (size_t width = LANES; width <= WIDTH; width += LANES) {
                float *p = floats(0, m * LANES), *got = floats(2, m * width), alone[WIDTH];
                const uint8_t *page = random_page(id, width, 1);
                fill(p, m * LANES, 1.0f), fill(got, m * width, 1.0f);
                memcpy(want, got, m * width * sizeof *got);
                memcpy(alone, got + (m - 1) * width, width * sizeof *got);
                ref(m, n, p, LANES, page, width, want, width, page);
                new(m, n, p, LANES, page, width, got, width, page);
                const float largest = gg_type(id).weights > 1 ? 128.0f : 1.0f;
                const float tolerance = 2.0f * (float)(n * n) * FLT_EPSILON * largest;
                if (!all_close("values", m * width, want, got, 0.0f, tolerance)) return 0;
                new(1, n, p + (m - 1) * LANES, LANES, page, width, alone, width, page);
                if (memcmp(alone, got + (m - 1) * width, width * sizeof *got))
                    return close_to("row", m, alone[0], got[0], -1.0f);
            }
    float *p = floats(0, 4 * LANES), *out = floats(2, 4 * 64);
    const uint8_t *page = random_page(id, 64, 1);
    fill(p, 4 * LANES, 1.0f), fill(out, 4 * 64, 1.0f);
    TIME(ns, new(4, LANES, p, LANES, page, 64, out, 64, page));
    return 1;
}

static int check_store(int32_t id, gg_store_fn *ref, gg_store_fn *new, double *ns) {
    enum { MAX = 1024 };
    static uint8_t want[4 * MAX];
    static const float scales[] = {1.0f, 7e4f, 1e-7f, 1e-42f};
    const struct gg_type type = gg_type(id);
    for (size_t n = type.weights; n <= MAX; n = type.weights > 1 ? n + 32 : next_size(n)) {
        const size_t bytes = n / type.weights * type.bytes;
        float *x = floats(0, n);
        uint8_t *got = guarded(1, bytes);
        fill(x, n, scales[n / type.weights % 4]);
        if (n > 64) memset(x, 0, 32 * sizeof *x);
        ref(n, x, want);
        new(n, x, got);
        if (memcmp(want, got, bytes)) {
            fprintf(stderr, "  store, n=%zu: differs\n", n);
            return 0;
        }
        fill_senseless(x, n);
        new(n, x, got);
    }
    float *x = floats(0, MAX);
    TIME(ns, new(MAX, x, want));
    return 1;
}

#define GG_CACHE_TYPE(name, id)                                                                       \
    static int check_scores_##name(gg_scores_fn *ref, gg_scores_fn *new, double *ns) {                \
        return check_scores(id, ref, new, ns);                                                        \
    }                                                                                                 \
    static int check_values_##name(gg_values_fn *ref, gg_values_fn *new, double *ns) {                \
        return check_values(id, ref, new, ns);                                                        \
    }                                                                                                 \
    static int check_store_##name(gg_store_fn *ref, gg_store_fn *new, double *ns) {                   \
        return check_store(id, ref, new, ns);                                                         \
    }
#include "cache_types.inc"
