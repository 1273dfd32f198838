/* Checks of the kernels on rows of floats; part of checkkern.c. */

static int check_quantize(gg_quantize_fn *ref, gg_quantize_fn *new, double *ns) {
    enum { MAX = 1024 };
    static int8_t q[MAX];
    static float d[MAX / 32], s[MAX / 16];
    for (size_t n = 0; n <= MAX; n += 32) {
        float *x = floats(0, n), *new_d = floats(2, n / 32), *new_s = floats(3, n / 16);
        int8_t *new_q = guarded(1, n);
        fill(x, n, n % 64 ? 1e-3f : 100.0f);
        if (n > 64) memset(x, 0, 32 * sizeof *x);
        ref(n, x, q, d, s);
        new(n, x, new_q, new_d, new_s);
        if (memcmp(q, new_q, n) || memcmp(d, new_d, n / 32 * sizeof *d) || memcmp(s, new_s, n / 16 * sizeof *s)) {
            fprintf(stderr, "  quantize, n=%zu: differs\n", n);
            return 0;
        }
        fill_senseless(x, n);
        new(n, x, new_q, new_d, new_s);
    }
    float *x = floats(0, MAX);
    TIME(ns, new(MAX, x, q, d, s));
    return 1;
}

static int check_dequantize(gg_dequantize_fn *ref, gg_dequantize_fn *new, double *ns) {
    enum { MAX = 1024 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n += 16) {
        int8_t *q = guarded(0, n);
        float *scale = floats(1, n / 16), *min = floats(2, n / 16), *got = floats(3, n);
        for (size_t i = 0; i < n; i++) q[i] = (int8_t)random_u64();
        fill(scale, n / 16, 1.0f), fill(min, n / 16, 1.0f);
        ref(n, q, scale, min, want);
        new(n, q, scale, min, got);
        if (!all_close("dequantize", n, want, got, 0.0f, 0.0f)) return 0;
    }
    int8_t *q = guarded(0, MAX);
    float *scale = floats(1, MAX / 16), *min = floats(2, MAX / 16), *y = floats(3, MAX);
    TIME(ns, new(MAX, q, scale, min, y));
    return 1;
}

static int check_rms_norm(gg_rms_norm_fn *ref, gg_rms_norm_fn *new, double *ns) {
    enum { MAX = 2048 };
    static float want[MAX];
    for (size_t n = 1; n <= MAX; n = next_size(n)) {
        float *x = floats(0, n), *w = floats(1, n), *got = floats(2, n);
        fill(x, n, 10.0f), fill(w, n, 1.0f);
        ref(n, x, w, 1e-5f, want);
        new(n, x, w, 1e-5f, got);
        if (!all_close("rms_norm", n, want, got, (float)n * FLT_EPSILON + 1e-6f, 0.0f)) return 0;
    }
    float *x = floats(0, MAX), *w = floats(1, MAX), *y = floats(2, MAX);
    TIME(ns, new(MAX, x, w, 1e-5f, y));
    return 1;
}

/* Without differences of near numbers. */
static double function_of(int function, double x) {
    switch (function) {
    case GG_SILU: return x / (1.0 + exp(-x));
    case GG_GELU: return x / (1.0 + exp(-2.0 * sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case GG_GELU_ERF: return 0.5 * x * erfc(-x / sqrt(2.0));
    case GG_GELU_QUICK: return x / (1.0 + exp(-1.702 * x));
    case GG_RELU: return fmax(x, 0.0);
    case GG_RELU2: return fmax(x, 0.0) * fmax(x, 0.0);
    case GG_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case GG_SOFTPLUS: return x > 20.0 ? x : log1p(exp(x));
    default: return tanh(x);
    }
}

/* What the contract allows beside a part of the result. */
static float tolerance(int function, float most) {
    return function == GG_GELU_ERF ? 4e-7f * most : function == GG_TANH ? 1e-6f : 1e-30f;
}

static int check_activate(gg_activate_fn *ref, gg_activate_fn *new, double *ns) {
    enum { MAX = 2048 };
    static float exact[MAX];
    for (int function = 0; function < GG_FUNCTIONS; function++)
        for (size_t n = 0; n <= MAX; n = next_size(n)) {
            const float most = n % 2 ? 8.0f : 80.0f, slack = function == GG_GELU || function == GG_GELU_QUICK ? 2e-5f : 1.2e-6f;
            float *x = floats(0, n), *times = floats(1, n), *y = floats(2, n);
            fill(x, n, most), fill(times, n, 2.0f);
            for (size_t i = 0; i < n; i++) exact[i] = (float)(function_of(function, (double)x[i]) * (double)times[i]);
            new(function, n, x, times, y);
            if (!all_close("activate", n, exact, y, slack, 2.0f * tolerance(function, most))) return 0;
            for (size_t i = 0; i < n; i++) exact[i] = (float)function_of(function, (double)x[i]);
            new(function, n, x, NULL, x);
            if (!all_close("activate alone", n, exact, x, slack, tolerance(function, most))) return 0;
            fill_senseless(x, n);
            new(function, n, x, NULL, x);
        }
    (void)ref; /* the reference itself is held against libm too */
    float *gate = floats(0, MAX), *up = floats(1, MAX), *y = floats(2, MAX);
    TIME(ns, new(GG_SILU, MAX, gate, up, y));
    return 1;
}

static int check_softmax(gg_softmax_fn *ref, gg_softmax_fn *new, double *ns) {
    enum { MAX = 256 };
    static float want[MAX];
    for (size_t n = 1; n <= MAX; n = next_size(n))
        for (size_t size = (n + 31) / 32 * 32; size <= MAX; size *= 2) {
            float *got = floats(0, size), max[2], sum[2];
            fill(got, size, 30.0f);
            memcpy(want, got, size * sizeof *got);
            ref(n, size, want, &max[0], &sum[0]);
            new(n, size, got, &max[1], &sum[1]);
            if (!all_close("softmax", size, want, got, 1e-5f, 1e-30f) || !close_to("max", n, max[0], max[1], 0.0f) ||
                !close_to("sum", n, sum[0], sum[1], 1e-5f * sum[0]))
                return 0;
            for (size_t i = n; i < size; i++)
                if (got[i] != 0.0f) return close_to("hidden score", i, 0.0f, got[i], 0.0f);
            fill_senseless(got, size);
            new(n, size, got, &max[1], &sum[1]);
        }
    float *s = floats(0, MAX), max, sum;
    TIME(ns, new(MAX, MAX, s, &max, &sum));
    return 1;
}

static int check_scale(gg_scale_fn *ref, gg_scale_fn *new, double *ns) {
    enum { MAX = 256 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n = next_size(n)) {
        float *got = floats(0, n);
        fill(got, n, 1.0f);
        memcpy(want, got, n * sizeof *got);
        ref(n, 0.3f, want);
        new(n, 0.3f, got);
        if (!all_close("scale", n, want, got, 0.0f, 0.0f)) return 0;
    }
    float *x = floats(0, MAX);
    TIME(ns, new(MAX, 1.0f, x));
    return 1;
}

static int check_rope(gg_rope_fn *ref, gg_rope_fn *new, double *ns) {
    enum { MAX = 256 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n += 2) {
        float *t = floats(0, n), *got = floats(1, n);
        fill(t, n, 1.0f), fill(got, n, 1.0f);
        memcpy(want, got, n * sizeof *got);
        ref(n, t, want);
        new(n, t, got);
        if (!all_close("rope", n, want, got, 0.0f, 4.0f * FLT_EPSILON)) return 0;
    }
    float *t = floats(0, MAX), *x = floats(1, MAX);
    TIME(ns, new(MAX, t, x));
    return 1;
}

static int check_rope_halves(gg_rope_halves_fn *ref, gg_rope_halves_fn *new, double *ns) {
    enum { MAX = 256 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n += 2) {
        float *t = floats(0, n), *got = floats(1, n);
        fill(t, n, 1.0f), fill(got, n, 1.0f);
        memcpy(want, got, n * sizeof *got);
        ref(n, t, want);
        new(n, t, got);
        if (!all_close("rope_halves", n, want, got, 0.0f, 4.0f * FLT_EPSILON)) return 0;
    }
    float *t = floats(0, MAX), *x = floats(1, MAX);
    TIME(ns, new(MAX, t, x));
    return 1;
}

static int check_blend(gg_blend_fn *ref, gg_blend_fn *new, double *ns) {
    enum { MAX = 256 };
    static float want[MAX];
    for (size_t n = 0; n <= MAX; n = next_size(n)) {
        float *x = floats(0, n), *got = floats(1, n);
        fill(x, n, 1.0f), fill(got, n, 1.0f);
        memcpy(want, got, n * sizeof *got);
        ref(n, 0.3f, x, 0.7f, want);
        new(n, 0.3f, x, 0.7f, got);
        if (!all_close("blend", n, want, got, 0.0f, 0.0f)) return 0;
    }
    float *x = floats(0, MAX), *y = floats(1, MAX);
    TIME(ns, new(MAX, 0.5f, x, 0.5f, y));
    return 1;
}


/* The multiply-adds said to be done are in proportion to the rounds. Timed: a million of them. */
static int check_peak(gg_peak_fn *ref, gg_peak_fn *new, double *ns) {
    enum { ROUNDS = 1000 };
    (void)ref; /* does another number of them */
    const uint64_t each = new(1), all = new(ROUNDS);
    if (new(0) != 0 || all != ROUNDS * each) {
        fprintf(stderr, "  peak: %llu a round, %llu in %d\n", (unsigned long long)each, (unsigned long long)all, ROUNDS);
        return 0;
    }
    if (all == 0) return 1;
    TIME(ns, new(ROUNDS));
    *ns *= 1e6 / (double)all;
    return 1;
}
static int check_peak_f32(gg_peak_fn *ref, gg_peak_fn *new, double *ns) { return check_peak(ref, new, ns); }
static int check_peak_i8(gg_peak_fn *ref, gg_peak_fn *new, double *ns) { return check_peak(ref, new, ns); }
static int check_peak_bf16(gg_peak_fn *ref, gg_peak_fn *new, double *ns) { return check_peak(ref, new, ns); }
