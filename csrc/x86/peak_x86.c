/* Peaks of the instructions that multiply small types; contract in kernels.h. One per library's instruction set. */

#include <immintrin.h>

#include "kernels.h"
#include "portable/peak.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* GCC, Clang */

/* Sums are tiles 0 to 3: four chains of 16 cycles cover a latency of 52. The caller's tiles are lost. */
uint64_t gg_peak_bf16_amx(size_t rounds) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 6; i++) config.row_bytes[i] = 64, config.rows[i] = 16;
    __asm__ volatile("" : : "r"(&config) : "memory"); /* GCC 12 thinks that 8 bytes are read, and drops other stores */
    _tile_loadconfig(&config); /* makes zeros of them */
    for (size_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_release();
    return rounds * 4 * (16 * 16 * 32);
}

#elif defined(__AVX512BF16__)

#define STEP(k)          \
    PEAK_HIDE(x_bf16x32); \
    sum##k = _mm512_dpbf16_ps(sum##k, (__m512bh)x_bf16x32, (__m512bh)x_bf16x32);

uint64_t gg_peak_bf16_bf16(size_t rounds) {
    __m512i x_bf16x32 = _mm512_set1_epi16(0x3f00); /* 0.5 */
    PEAK_SUMS(__m512, _mm512_setzero_ps())
    for (size_t i = 0; i < rounds; i++) { PEAK_EACH(STEP) }
    PEAK_EACH(PEAK_KEEP)
    return rounds * PEAK_CHAINS * 32;
}

#elif defined(__AVX512VNNI__)

#define STEP(k)       \
    PEAK_HIDE(x_i8x64); \
    sum##k = _mm512_dpbusd_epi32(sum##k, x_i8x64, x_i8x64);

uint64_t gg_peak_i8_avx512(size_t rounds) {
    __m512i x_i8x64 = _mm512_set1_epi8(3);
    PEAK_SUMS(__m512i, _mm512_setzero_si512())
    for (size_t i = 0; i < rounds; i++) { PEAK_EACH(STEP) }
    PEAK_EACH(PEAK_KEEP)
    return rounds * PEAK_CHAINS * 64;
}

#else

#define STEP(k) sum##k = _mm256_add_epi32(sum##k, _mm256_madd_epi16(products(x_i8x32), ones_i16x16));

enum { SUMMED = 4 }; /* in 16 bits, as weights of 5 bits or fewer allow */

static inline __m256i products(__m256i x_i8x32) {
    __m256i sum_i16x16 = _mm256_setzero_si256();
    for (int i = 0; i < SUMMED; i++) {
        PEAK_HIDE(x_i8x32);
        const __m256i product_i16x16 = _mm256_maddubs_epi16(x_i8x32, x_i8x32);
        sum_i16x16 = i == 0 ? product_i16x16 : _mm256_add_epi16(sum_i16x16, product_i16x16);
        PEAK_HIDE(sum_i16x16); /* in this order, or there are too few registers */
    }
    return sum_i16x16;
}

uint64_t gg_peak_i8_avx2(size_t rounds) {
    __m256i x_i8x32 = _mm256_set1_epi8(3);
    const __m256i ones_i16x16 = _mm256_set1_epi16(1);
    PEAK_SUMS(__m256i, _mm256_setzero_si256())
    for (size_t i = 0; i < rounds; i++) { PEAK_EACH(STEP) }
    PEAK_EACH(PEAK_KEEP)
    return rounds * PEAK_CHAINS * SUMMED * 32;
}

#endif
