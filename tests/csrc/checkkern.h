/* What the checks of checkkern.c stand on: random numbers, guarded memory, timing, comparing. */

#ifndef CHECKKERN_H
#define CHECKKERN_H

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed = 1;
static int bench, failed;

static uint64_t random_u64(void) { /* splitmix64 */
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float random_f32(void) { return (float)(random_u64() >> 40) / (float)(1 << 23) - 1.0f; } /* [-1, 1) */

static void fill(float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) x[i] = scale * random_f32();
}

/* What nobody should compute with, but files and overflows bring: UBSan must find nothing to say. */
static void fill_senseless(float *x, size_t n) {
    static const float senseless[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e10f, -300.0f, 1e-45f, 0.0f, -0.0f};
    for (size_t i = 0; i < n; i++)
        x[i] = random_u64() % 2 ? random_f32() : senseless[random_u64() % (sizeof senseless / sizeof *senseless)];
}
static void fill_bytes(void *p, size_t n) {
    const int all = (int)(random_u64() % 4);
    for (size_t i = 0; i < n; i++) ((uint8_t *)p)[i] = (uint8_t)(all == 0 ? 0xff : all == 1 ? 0x80 : random_u64());
}

/* ---- Guarded memory: a fixed set of buffers, each ending at an inaccessible page ---- */

enum { BUFFERS = 6, BUFFER_BYTES = 1 << 20 };
static char *buffer_end[BUFFERS];

static void make_buffers(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < BUFFERS; i++) {
        char *p = mmap(NULL, BUFFER_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + BUFFER_BYTES, page, PROT_NONE)) {
            perror("make_buffers");
            exit(2);
        }
        buffer_end[i] = p + BUFFER_BYTES;
    }
}

/* The last `bytes` bytes of buffer i. */
static void *guarded(int i, size_t bytes) {
    if (bytes > BUFFER_BYTES) abort();
    return buffer_end[i] - bytes;
}
static float *floats(int i, size_t n) { return guarded(i, n * sizeof(float)); }

/* ---- Timing ---- */

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#define TIME(ns, call)                                              \
    if (bench) {                                                    \
        double best = 1e30;                                         \
        for (int round = 0; round < 20; round++) {                  \
            const double start = now_ns();                          \
            for (int i = 0; i < 100; i++) { call; }                 \
            const double each = (now_ns() - start) / 100;           \
            if (each < best) best = each;                           \
        }                                                           \
        *(ns) = best;                                               \
    }

/* ---- Comparing ---- */

static int close_to(const char *what, size_t n, float want, float got, float tolerance) {
    if (fabsf(want - got) <= tolerance || want == got) return 1;
    fprintf(stderr, "  %s, n=%zu: want %.9g, got %.9g, tolerance %.3g\n", what, n, (double)want, (double)got,
            (double)tolerance);
    return 0;
}

static int all_close(const char *what, size_t n, const float *want, const float *got, float relative, float absolute) {
    for (size_t i = 0; i < n; i++)
        if (!close_to(what, i, want[i], got[i], relative * fabsf(want[i]) + absolute)) return 0;
    return 1;
}

/* Sizes to try: all small ones, then steps up. */
static size_t next_size(size_t n) { return n < 70 ? n + 1 : n * 3 / 2; }

#endif
