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

static inline vf silu_mul(vf gate, vf up) { return gate / (v_set1(1.0f) + v_exp(v_set1(0.0f) - gate)) * up; }

void GG_NAME(silu_mul)(size_t n, float *gate, const float *up) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(gate + i, silu_mul(v_load(gate + i), v_load(up + i)));
    if (i == n) return;
    float a[VL] = {0}, b[VL] = {0};
    memcpy(a, gate + i, (n - i) * sizeof *a);
    memcpy(b, up + i, (n - i) * sizeof *b);
    v_store(a, silu_mul(v_load(a), v_load(b)));
    memcpy(gate + i, a, (n - i) * sizeof *a);
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
