/* Kernels on rows of floats; contracts in kernels.h. */

#include <math.h>

#include "kernels.h"
#include "simd.h"

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

float GG_NAME(softmax)(size_t n, float *s, float *max, float *sum) {
    enum { N = GG_LANES / VL };
    for (size_t i = n; i < GG_LANES; i++) s[i] = -INFINITY;
    vf x[N], m_f32 = v_set1(*max);
    for (int j = 0; j < N; j++) m_f32 = v_max(m_f32, x[j] = v_load(s + j * VL));
    const float m = v_hmax(m_f32);
    float c = 1.0f;
    if (m != *max) { /* exp(-inf) on the first step, where *sum is 0 */
        float shift[VL] = {0};
        shift[0] = *max - m;
        v_store(shift, v_exp(v_load(shift)));
        c = *max == -INFINITY ? 0.0f : shift[0];
    }
    vf sum_f32 = v_set1(0.0f);
    for (int j = 0; j < N; j++) v_store(s + j * VL, v_exp(x[j] - v_set1(m)));
    for (size_t i = n; i < GG_LANES; i++) s[i] = 0.0f;
    for (int j = 0; j < N; j++) sum_f32 += v_load(s + j * VL);
    *max = m;
    *sum = *sum * c + v_sum(sum_f32);
    return c;
}

void GG_NAME(scale)(size_t n, float c, float *x) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(x + i, v_load(x + i) * v_set1(c));
    for (; i < n; i++) x[i] *= c;
}

void GG_NAME(rope)(size_t n, const float *t, float *x) {
    for (size_t i = 0; i < n; i += 2) {
        const float a = x[i], b = x[i + 1];
        x[i] = a * t[i] - b * t[i + 1];
        x[i + 1] = a * t[i + 1] + b * t[i];
    }
}

void GG_NAME(store_f16)(size_t n, const float *x, uint16_t *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store_f16(y + i, v_load(x + i));
    for (; i < n; i++) y[i] = gg_f32_to_f16(x[i]);
}

void GG_NAME(quantize)(size_t n, const float *x, int8_t *q, float *d, float *s) {
    for (size_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        vf max_f32 = v_set1(0.0f);
        for (int i = 0; i < 32; i += VL) {
            const vf v = v_load(x + i);
            max_f32 = v_max(max_f32, v_max(v, v_set1(0.0f) - v));
        }
        const float max = v_hmax(max_f32), inverse = max > 0.0f ? 127.0f / max : 0.0f;
        d[b] = max / 127.0f;
        float rounded[32];
        for (int i = 0; i < 32; i += VL) v_store(rounded + i, v_round(v_load(x + i) * v_set1(inverse)));
        for (int half = 0; half < 2; half++) {
            int sum = 0;
            for (int i = half * 16; i < half * 16 + 16; i++) sum += q[i] = (int8_t)rounded[i];
            s[2 * b + (size_t)half] = d[b] * (float)sum;
        }
    }
}
