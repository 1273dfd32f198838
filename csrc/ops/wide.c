/* The linear op on many rows, those of prompts: the limit is arithmetic. Rows are packed once, in tiles of GG_LANES; a
 * panel of weight rows is expanded, slice by slice, to the operand that the CPU multiplies fastest, and multiplied with
 * all tiles while it is in L2. */

#include <string.h>

#include "ops/linear.h"

enum {
    PANEL = GG_WIDE_STEP,
    SLICE = 256,                     /* columns */
    BF16_SLICE = 512,                /* a tile's are 32 KB, as much as L1 holds beside the weights */
    BF16_STRIDE = BF16_SLICE + 32,   /* rows a power of two apart would share a few sets of L1 */
};

/* A panel as each regime has it; the results of all tiles, [tile][PANEL][GG_LANES], lie behind. */
union panel {
    float f32[PANEL * SLICE];
    struct {
        int8_t q[PANEL * SLICE];
        float scale[PANEL * SLICE / 16], min[PANEL * SLICE / 16];
    } i8;
    struct {
        uint16_t w[PANEL * BF16_STRIDE];
        float row[BF16_SLICE];
    } bf16;
};

static size_t padded(size_t n_in) { return gg_round_up(n_in, 32); }

size_t gg_wide_scratch(const gg_program *program) {
    return sizeof(union panel) / sizeof(float) + 2 * PANEL * gg_round_up((size_t)program->max_rows, GG_LANES);
}

/* ---- Operands: one of each kind that the op's weights need ---- */

enum { F32_BYTES = 4 * GG_LANES, BF16_BYTES = 2 * GG_LANES, I8_BYTES = sizeof(struct gg_tile_i8) / 32 }; /* per input */

size_t gg_packed_bytes(const gg_program *program) {
    const size_t tiles = gg_round_up((size_t)program->max_rows, GG_LANES) / GG_LANES;
    return tiles * (size_t)program->max_in * (F32_BYTES + BF16_BYTES + I8_BYTES);
}

static uint8_t *operand(const struct gg_linear *j, int kind, size_t tile) {
    const gg_program *p = j->run->program;
    const size_t tiles = gg_round_up((size_t)p->max_rows, GG_LANES) / GG_LANES, n = tiles * (size_t)p->max_in;
    switch (kind) {
    case GG_F32: return p->packed + tile * padded(j->n_in) * F32_BYTES;
    case GG_BF16_PAIRS: return p->packed + n * F32_BYTES + tile * padded(j->n_in) * BF16_BYTES;
    default: return p->packed + n * (F32_BYTES + BF16_BYTES) + tile * padded(j->n_in) * I8_BYTES;
    }
}

static int operand_of(const struct gg_linear *j, int32_t type) {
    return j->run->program->precision == GG_EXACT ? GG_F32 : gg_wide_operand(type);
}

static int needs(const struct gg_linear *j, int kind) {
    for (int32_t k = 0; k < j->op->n_weights; k++)
        if (operand_of(j, j->op->weight[k].type) == kind) return 1;
    return 0;
}

static size_t tile_row(const struct gg_linear *j, size_t tile) { return j->wide.first + tile * GG_LANES; }
static size_t tile_rows(const struct gg_linear *j, size_t tile) {
    return gg_min(GG_LANES, j->wide.last - tile_row(j, tile));
}

static void pack_f32(const struct gg_linear *j, size_t tile) {
    float *packed = (float *)(void *)operand(j, GG_F32, tile);
    for (size_t lane = 0; lane < GG_LANES; lane++) {
        const float *x = lane < tile_rows(j, tile) ? gg_row(j->run, j->op->src[0], tile_row(j, tile) + lane) : NULL;
        for (size_t i = 0; i < j->n_in; i++) packed[i * GG_LANES + lane] = x ? x[i] : 0.0f;
    }
}

static void pack_bf16(const struct gg_linear *j, size_t tile) {
    uint16_t *packed = (uint16_t *)(void *)operand(j, GG_BF16_PAIRS, tile);
    const float *x = gg_row(j->run, j->op->src[0], tile_row(j, tile));
    const size_t width = (size_t)j->run->program->buffers[j->op->src[0]].width, even = gg_round_up(j->n_in, 2);
    gg_k.pack_bf16(j->n_in, tile_rows(j, tile), x, width, packed);
    memset(packed + even * GG_LANES, 0, (padded(j->n_in) - even) * BF16_BYTES);
}

static void pack_i8(const struct gg_linear *j, size_t tile) {
    struct gg_activation x[GG_LANES];
    for (size_t lane = 0; lane < tile_rows(j, tile); lane++) {
        x[lane] = gg_activation_row(j, tile_row(j, tile) + lane);
        gg_quantize_activation(j, x[lane]);
    }
    gg_k.pack_i8(j->n_in, tile_rows(j, tile), x, (struct gg_tile_i8 *)(void *)operand(j, GG_I8, tile));
}

void gg_wide_prepare(const struct gg_linear *j, size_t tile) {
    if (needs(j, GG_F32)) pack_f32(j, tile);
    if (needs(j, GG_BF16_PAIRS)) pack_bf16(j, tile);
    if (needs(j, GG_I8)) pack_i8(j, tile);
}

/* ---- Products: c (+)= rows first .. first + n of a weight, columns i .. i + width, times all tiles ---- */

struct slice {
    const struct gg_linear *j;
    const gg_tensor *w;
    struct gg_type type;
    size_t first, n, i, width;
};

static const uint8_t *weights(const struct slice *s, size_t row) {
    return s->w->data + (s->first + row) * s->w->stride + s->i / s->type.weights * s->type.bytes;
}

static void multiply_f32(const struct slice *s, union panel *panel, float *c) {
    for (size_t r = 0; r < s->n; r++) gg_expand_weights(&s->type, s->width, weights(s, r), panel->f32 + r * SLICE);
    for (size_t t = 0; t < gg_n_tiles(s->j); t++) {
        const float *b = (const float *)(const void *)operand(s->j, GG_F32, t) + s->i * GG_LANES;
        gg_k.gemm(s->n, s->width, panel->f32, SLICE, b, GG_LANES, c + t * PANEL * GG_LANES, GG_LANES, s->i > 0);
    }
}

static void multiply_bf16(const struct slice *s, union panel *panel, float *c) {
    const size_t width = padded(s->width);
    float *row = panel->bf16.row;
    memset(row + s->width, 0, (width - s->width) * sizeof *row);
    for (size_t r = 0; r < s->n; r++) {
        gg_expand_weights(&s->type, s->width, weights(s, r), row);
        gg_k.store_bf16(width, row, (uint8_t *)(panel->bf16.w + r * BF16_STRIDE));
    }
    const uint16_t *b = (const uint16_t *)(const void *)operand(s->j, GG_BF16_PAIRS, 0) + s->i * GG_LANES;
    gg_k.gemm_bf16(s->n, width, panel->bf16.w, BF16_STRIDE, gg_n_tiles(s->j), b, padded(s->j->n_in) * GG_LANES, c,
                   PANEL * GG_LANES, s->i > 0);
}

static void multiply_i8(const struct slice *s, union panel *panel, float *c) {
    for (size_t r = 0; r < s->n; r++)
        s->type.unpack(s->width, weights(s, r), s->type.low, panel->i8.q + r * SLICE, panel->i8.scale + r * SLICE / 16,
                       panel->i8.min + r * SLICE / 16);
    const struct gg_panel_i8 a = {
        (const uint8_t *)panel->i8.q, panel->i8.scale, s->type.low == 0 ? panel->i8.min : NULL, SLICE, s->type.group,
        s->type.low,
        s->type.high - s->type.low,
    };
    for (size_t t = 0; t < gg_n_tiles(s->j); t++) {
        const struct gg_tile_i8 *b = (const struct gg_tile_i8 *)(const void *)operand(s->j, GG_I8, t) + s->i / 32;
        gg_k.gemm_i8(s->n, s->width, &a, b, c + t * PANEL * GG_LANES, s->i > 0);
    }
}

/* The rows of a slice are short and far apart: the CPU's own prefetching does not see the next one coming. */
static void prefetch_next(const struct slice *s) {
    const size_t bytes = s->width / s->type.weights * s->type.bytes;
    if (s->i + s->width >= s->j->n_in) return;
    for (size_t r = 0; r < s->n; r++)
        for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(weights(s, r) + bytes + line);
}

static void multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, union panel *panel, float *c) {
    const gg_tensor *w = &j->op->weight[k];
    const int kind = operand_of(j, w->type);
    const size_t step = kind == GG_BF16_PAIRS ? BF16_SLICE : SLICE;
    for (size_t i = 0; i < j->n_in; i += step) {
        const struct slice s = {j, w, gg_type(w->type), first, n, i, gg_min(step, j->n_in - i)};
        prefetch_next(&s);
        if (kind == GG_F32) multiply_f32(&s, panel, c);
        else if (kind == GG_BF16_PAIRS) multiply_bf16(&s, panel, c);
        else multiply_i8(&s, panel, c);
    }
}

/* c of one tile = silu(c + bias) * (up + bias). */
static void gate(const struct gg_linear *j, size_t first, size_t n, float *c, float *up) {
    for (size_t r = 0; r < n; r++)
        for (size_t lane = 0; lane < GG_LANES; lane++) {
            if (j->op->bias[0]) c[r * GG_LANES + lane] += j->op->bias[0][first + r];
            if (j->op->bias[1]) up[r * GG_LANES + lane] += j->op->bias[1][first + r];
        }
    gg_k.silu_mul(n * GG_LANES, c, up);
}

void gg_wide_multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, float *scratch) {
    const gg_op *op = j->op;
    const gg_buffer *buffers = j->run->program->buffers;
    union panel *panel = (union panel *)(void *)scratch;
    float *c = scratch + sizeof *panel / sizeof *scratch, *up = c + gg_n_tiles(j) * PANEL * GG_LANES;
    multiply(j, k, first, n, panel, c);
    if (op->gated) multiply(j, 1, first, n, panel, up);
    const float *bias = op->bias[k] && !op->gated ? op->bias[k] + first : NULL;
    for (size_t t = 0; t < gg_n_tiles(j); t++, c += PANEL * GG_LANES, up += PANEL * GG_LANES) {
        if (op->gated) gate(j, first, n, c, up);
        const float *add = op->add >= 0 ? gg_row(j->run, op->add, tile_row(j, t)) + first : NULL;
        gg_k.untile(n, tile_rows(j, t), c, bias, add, add ? (size_t)buffers[op->add].width : 0,
                    gg_row(j->run, op->dst[k], tile_row(j, t)) + first, (size_t)buffers[op->dst[k]].width);
    }
}
