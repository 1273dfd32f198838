/* Kernels on rows of floats; contracts in kernels.h. */

#include <math.h>

#include "kernels.h"
#include "portable/simd.h"

void GG_NAME(rms_norm)(size_t n, const float *x, const float *w, float eps, float *y) {
    vf sum_f32 = v_set1(0.0f);
    size_t i = 0;
    for (; i + VL <= n; i += VL) sum_f32 = v_fma(v_load(x + i), v_load(x + i), sum_f32);
    float sum = v_sum(sum_f32);
    for (; i < n; i++) sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + VL <= n; i += VL) v_store(y + i, v_load(x + i) * v_set1(scale) * v_load(w + i));
    for (; i < n; i++) y[i] = x[i] * scale * w[i];
}

/* ---- Functions of one number ---- */

static inline vf sigmoid(vf x) { return v_set1(1.0f) / (v_set1(1.0f) + v_exp(v_set1(0.0f) - x)); }
static inline vf silu(vf x) { return x / (v_set1(1.0f) + v_exp(v_set1(0.0f) - x)); }
static inline vf gelu_quick(vf x) { return x / (v_set1(1.0f) + v_exp(v_set1(-1.702f) * x)); }
static inline vf relu(vf x) { return v_max(x, v_set1(0.0f)); }
static inline vf relu2(vf x) { return relu(x) * relu(x); }
static inline vf tanh_of(vf x) { return v_set1(1.0f) - v_set1(2.0f) / (v_set1(1.0f) + v_exp(v_set1(2.0f) * x)); }

/* 0.5 x (1 + tanh(z)) = x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3). */
static inline vf gelu(vf x) {
    const vf z = v_set1(-1.5957691216f) * x * v_fma(v_set1(0.044715f) * x, x, v_set1(1.0f));
    return x / (v_set1(1.0f) + v_exp(z));
}

/* 0.5 (x + |x| erf(|x| / sqrt(2))); erf to 1.5e-7 by Abramowitz and Stegun 7.1.26. */
static inline vf gelu_erf(vf x) {
    const vf u = v_abs(x) * v_set1(0.70710678f);
    const vf t = v_set1(1.0f) / v_fma(v_set1(0.3275911f), u, v_set1(1.0f));
    vf p = v_set1(1.061405429f);
    p = v_fma(p, t, v_set1(-1.453152027f));
    p = v_fma(p, t, v_set1(1.421413741f));
    p = v_fma(p, t, v_set1(-0.284496736f));
    p = v_fma(p, t, v_set1(0.254829592f));
    const vf erf = v_set1(1.0f) - p * t * v_exp(v_set1(0.0f) - u * u);
    return v_set1(0.5f) * v_fma(v_abs(x), erf, x);
}

static inline vf softplus(vf x) { /* as x from 20 on, as in ggml */
    float y[VL];
    v_store(y, x);
    for (int i = 0; i < VL; i++) y[i] = y[i] > 20.0f ? y[i] : log1pf(expf(y[i]));
    return v_load(y);
}

static inline __attribute__((always_inline)) void map(size_t n, const float *x, const float *times, float *y,
                                                      vf (*f)(vf)) {
    size_t i = 0;
    if (times)
        for (; i + VL <= n; i += VL) v_store(y + i, f(v_load(x + i)) * v_load(times + i));
    else
        for (; i + VL <= n; i += VL) v_store(y + i, f(v_load(x + i)));
    if (i == n) return;
    float a[VL] = {0}, b[VL];
    v_store(b, v_set1(1.0f));
    memcpy(a, x + i, (n - i) * sizeof *a);
    if (times) memcpy(b, times + i, (n - i) * sizeof *b);
    v_store(a, f(v_load(a)) * v_load(b));
    memcpy(y + i, a, (n - i) * sizeof *a);
}

void GG_NAME(activate)(int function, size_t n, const float *x, const float *times, float *y) {
    switch (function) {
    case GG_SILU: map(n, x, times, y, silu); break;
    case GG_GELU: map(n, x, times, y, gelu); break;
    case GG_GELU_ERF: map(n, x, times, y, gelu_erf); break;
    case GG_GELU_QUICK: map(n, x, times, y, gelu_quick); break;
    case GG_RELU: map(n, x, times, y, relu); break;
    case GG_RELU2: map(n, x, times, y, relu2); break;
    case GG_SIGMOID: map(n, x, times, y, sigmoid); break;
    case GG_SOFTPLUS: map(n, x, times, y, softplus); break;
    default: map(n, x, times, y, tanh_of); break; /* GG_TANH */
    }
}

void GG_NAME(softmax)(size_t n, size_t size, float *s, float *max, float *sum) {
    const size_t end = (n + GG_LANES - 1) / GG_LANES * GG_LANES;
    for (size_t i = n; i < end; i++) s[i] = -INFINITY;
    vf max_f32 = v_set1(-INFINITY), sum_f32 = v_set1(0.0f);
    for (size_t i = 0; i < end; i += VL) max_f32 = v_max(max_f32, v_load(s + i));
    *max = v_hmax(max_f32);
    for (size_t i = 0; i < end; i += VL) { /* what is behind n adds less than 1e-36 */
        const vf e = v_exp(v_load(s + i) - v_set1(*max));
        v_store(s + i, e);
        sum_f32 += e;
    }
    for (size_t i = n; i < size; i++) s[i] = 0.0f;
    *sum = v_sum(sum_f32);
}

void GG_NAME(scale)(size_t n, float c, float *x) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(x + i, v_load(x + i) * v_set1(c));
    for (; i < n; i++) x[i] *= c;
}

void GG_NAME(blend)(size_t n, float a, const float *x, float b, float *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_load(x + i) * v_set1(a) + v_load(y + i) * v_set1(b));
    for (; i < n; i++) y[i] = x[i] * a + y[i] * b;
}

void GG_NAME(rope)(size_t n, const float *t, float *x) {
    for (size_t i = 0; i < n; i += 2) {
        const float a = x[i], b = x[i + 1];
        x[i] = a * t[i] - b * t[i + 1];
        x[i + 1] = a * t[i + 1] + b * t[i];
    }
}

void GG_NAME(rope_halves)(size_t n, const float *t, float *x) {
    const size_t half = n / 2;
    for (size_t i = 0; i < half; i++) {
        const float a = x[i], b = x[half + i];
        x[i] = a * t[i] - b * t[half + i];
        x[half + i] = a * t[half + i] + b * t[i];
    }
}

void GG_NAME(quantize)(size_t n, const float *x, int8_t *q, float *d, float *s) {
    for (size_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        vf max_f32 = v_set1(0.0f);
        for (int i = 0; i < 32; i += VL) max_f32 = v_max(max_f32, v_abs(v_load(x + i)));
        const float max = v_hmax(max_f32), inverse = max > 0.0f ? 127.0f / max : 0.0f;
        d[b] = max / 127.0f;
        for (int half = 0; half < 2; half++) {
            vf sum_f32 = v_set1(0.0f); /* of whole numbers: exact */
            for (int i = 16 * half; i < 16 * half + 16; i += VL) {
                const vf rounded = v_round(v_load(x + i) * v_set1(inverse));
                v_store_i8(q + i, rounded);
                sum_f32 += rounded;
            }
            s[2 * b + (size_t)half] = d[b] * v_sum(sum_f32);
        }
    }
}
