/* The linear op on many rows, those of prompts: the limit is arithmetic. The rows of a list are packed once, in tiles of
 * GG_LANES; a panel of weight rows is expanded, slice by slice, to the operand that the CPU multiplies fastest, and
 * multiplied with all tiles of the list while it is in L2. */

#include <string.h>

#include "linear.h"

enum {
    PANEL = GG_WIDE_STEP,
    SLICE = 256,                     /* columns */
    BF16_SLICE = 512,                /* a tile's are 32 KB, as much as L1 holds beside the weights */
    BF16_STRIDE = BF16_SLICE + 32,   /* rows a power of two apart would share a few sets of L1 */
};

/* A panel as each operand has it; the results of all tiles, [tile][PANEL][GG_LANES], lie behind. */
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

/* ---- Tiles: list by list ---- */

static size_t n_tiles(size_t rows) { return gg_ceil_div(rows, GG_LANES); }

size_t gg_wide_most_tiles(const gg_program *p, const gg_op *op) {
    const gg_linear *a = op->args;
    const size_t lists = (size_t)a->weight[0].count, tiles = n_tiles((size_t)p->max_rows);
    if (!a->lists) return lists * tiles;
    return n_tiles((size_t)p->max_rows * (size_t)op->dst[0].heads) + lists; /* a list's last may be almost empty */
}

size_t gg_wide_pieces(const struct gg_linear_job *j) {
    size_t tiles = 0;
    for (size_t i = 0; i < j->lists; i++) tiles += n_tiles(gg_list_of(j, 1, i).n);
    return tiles;
}

/* The first tile of a list. */
static size_t first_tile(const struct gg_linear_job *j, const struct gg_list *list) {
    size_t tiles = 0;
    for (size_t i = 0; i < list->matrix; i++) tiles += n_tiles(gg_list_of(j, 1, i).n);
    return tiles;
}

/* Rows of a list, in one tile: `tile` counts from its first, `number` over all lists. */
struct tile {
    const struct gg_list *list;
    size_t number, first, rows;
};

static struct tile make_tile(const struct gg_list *list, size_t first_tile, size_t tile) {
    const size_t first = tile * GG_LANES;
    return (struct tile){list, first_tile + tile, first, gg_min(GG_LANES, list->n - first)};
}

/* ---- Operands: one of each kind that the op's weights need ---- */

enum { F32_BYTES = 4 * GG_LANES, BF16_BYTES = 2 * GG_LANES, I8_BYTES = sizeof(struct gg_tile_i8) / 32 }; /* per input */

struct gg_need gg_wide_need(const gg_program *p, const gg_op *op) {
    const gg_linear *a = op->args;
    const size_t width = padded((size_t)a->weight[0].n_in);
    const size_t multiply = sizeof(union panel) / sizeof(float) +
                            2 * PANEL * gg_round_up((size_t)p->max_rows, GG_LANES) + PANEL * GG_LANES;
    const size_t prepare = GG_LANES * (a->lists || a->per_head ? width : width / 2);
    return (struct gg_need){gg_max(multiply, prepare),
                            gg_wide_most_tiles(p, op) * width * (F32_BYTES + BF16_BYTES + I8_BYTES)};
}

static uint8_t *operand(const struct gg_linear_job *j, int kind, size_t tile) {
    const size_t width = padded(j->n_in), n = j->most_tiles * width;
    switch (kind) {
    case GG_F32: return j->packed + tile * width * F32_BYTES;
    case GG_BF16_PAIRS: return j->packed + n * F32_BYTES + tile * width * BF16_BYTES;
    default: return j->packed + n * (F32_BYTES + BF16_BYTES) + tile * width * I8_BYTES;
    }
}

static int operand_of(const struct gg_linear_job *j, int32_t type) {
    return j->run->program->precision == GG_EXACT ? GG_F32 : gg_wide_operand(type);
}

static int needs(const struct gg_linear_job *j, int kind) {
    for (int32_t k = 0; k < j->args->n_weights; k++)
        if (operand_of(j, j->args->weight[k].type) == kind) return 1;
    return 0;
}

static void pack_f32(const struct gg_linear_job *j, const struct tile *t) {
    float *packed = (float *)(void *)operand(j, GG_F32, t->number);
    for (size_t lane = 0; lane < GG_LANES; lane++) {
        const float *x = lane < t->rows ? gg_item_input(j, t->list, t->first + lane) : NULL;
        for (size_t i = 0; i < j->n_in; i++) packed[i * GG_LANES + lane] = x ? x[i] : 0.0f;
    }
}

/* scratch: f32[GG_LANES][n_in], for rows that do not lie one after the other. */
static void pack_bf16(const struct gg_linear_job *j, const struct tile *t, float *scratch) {
    uint16_t *packed = (uint16_t *)(void *)operand(j, GG_BF16_PAIRS, t->number);
    const float *x = gg_item_input(j, t->list, t->first);
    size_t stride = gg_row_stride(j->run, &j->op->src[0]);
    const size_t even = gg_round_up(j->n_in, 2);
    if (t->list->item) {
        for (size_t lane = 0; lane < t->rows; lane++)
            memcpy(scratch + lane * j->n_in, gg_item_input(j, t->list, t->first + lane), j->n_in * sizeof *scratch);
        x = scratch, stride = j->n_in;
    }
    gg_k.pack_bf16(j->n_in, t->rows, x, stride, packed);
    memset(packed + even * GG_LANES, 0, (padded(j->n_in) - even) * BF16_BYTES);
}

/* scratch: of each row q, d and s; a row that several lists have is quantized for each. */
static void pack_i8(const struct gg_linear_job *j, const struct tile *t, float *scratch) {
    const size_t width = padded(j->n_in);
    float *d = scratch + GG_LANES * width / 4, *s = d + GG_LANES * width / 32;
    struct gg_activation x[GG_LANES];
    for (size_t lane = 0; lane < t->rows; lane++) {
        x[lane] = (struct gg_activation){gg_item_input(j, t->list, t->first + lane),
                                         (int8_t *)scratch + lane * width, d + lane * width / 32, s + lane * width / 16};
        gg_k.quantize(j->n_in, x[lane].x, (int8_t *)x[lane].q, (float *)x[lane].d, (float *)x[lane].s);
    }
    gg_k.pack_i8(j->n_in, t->rows, x, (struct gg_tile_i8 *)(void *)operand(j, GG_I8, t->number));
}

void gg_wide_prepare(const struct gg_linear_job *j, size_t piece, float *scratch) {
    size_t before = 0;
    for (size_t i = 0; i < j->lists; i++) {
        const struct gg_list list = gg_list_of(j, 1, i);
        if (piece < before + n_tiles(list.n)) {
            const struct tile t = make_tile(&list, before, piece - before);
            if (needs(j, GG_F32)) pack_f32(j, &t);
            if (needs(j, GG_BF16_PAIRS)) pack_bf16(j, &t, scratch);
            if (needs(j, GG_I8)) pack_i8(j, &t, scratch);
            return;
        }
        before += n_tiles(list.n);
    }
}

/* ---- Products: c (+)= rows first .. first + n of a weight, columns i .. i + width, times all tiles of a list ---- */

struct slice {
    const struct gg_linear_job *j;
    const gg_tensor *w;
    struct gg_type type;
    const uint8_t *rows; /* the first */
    size_t n, i, width, tile, tiles;
};

static const uint8_t *weights(const struct slice *s, size_t row) {
    return s->rows + row * s->w->stride + s->i / s->type.weights * s->type.bytes;
}

static void multiply_f32(const struct slice *s, union panel *panel, float *c) {
    for (size_t r = 0; r < s->n; r++) gg_expand_weights(&s->type, s->width, weights(s, r), panel->f32 + r * SLICE);
    for (size_t t = 0; t < s->tiles; t++) {
        const float *b = (const float *)(const void *)operand(s->j, GG_F32, s->tile + t) + s->i * GG_LANES;
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
    const uint16_t *b = (const uint16_t *)(const void *)operand(s->j, GG_BF16_PAIRS, s->tile) + s->i * GG_LANES;
    gg_k.gemm_bf16(s->n, width, panel->bf16.w, BF16_STRIDE, s->tiles, b, padded(s->j->n_in) * GG_LANES, c,
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
    for (size_t t = 0; t < s->tiles; t++) {
        const struct gg_tile_i8 *b =
            (const struct gg_tile_i8 *)(const void *)operand(s->j, GG_I8, s->tile + t) + s->i / 32;
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

static void multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t tile, size_t k, size_t first,
                     size_t n, union panel *panel, float *c) {
    const gg_tensor *w = &j->args->weight[k];
    const int kind = operand_of(j, w->type);
    const size_t step = kind == GG_BF16_PAIRS ? BF16_SLICE : SLICE;
    struct slice s = {.j = j, .w = w, .type = gg_type(w->type), .n = n, .tile = tile, .tiles = n_tiles(list->n)};
    s.rows = gg_weight_row(w, list->matrix, first);
    for (; s.i < j->n_in; s.i += step) {
        s.width = gg_min(step, j->n_in - s.i);
        prefetch_next(&s);
        if (kind == GG_F32) multiply_f32(&s, panel, c);
        else if (kind == GG_BF16_PAIRS) multiply_bf16(&s, panel, c);
        else multiply_i8(&s, panel, c);
    }
}

/* ---- Results ---- */

/* c of one tile = gate(c + bias) * (second + bias). */
static void gate(const gg_linear *a, size_t matrix, size_t first, size_t n, float *c, float *second) {
    const float *bias[2] = {gg_bias(a, 0, matrix), gg_bias(a, 1, matrix)};
    for (size_t r = 0; r < n; r++)
        for (size_t lane = 0; lane < GG_LANES; lane++) {
            if (bias[0]) c[r * GG_LANES + lane] += bias[0][first + r];
            if (bias[1]) second[r * GG_LANES + lane] += bias[1][first + r];
        }
    gg_k.activate(a->gate, n * GG_LANES, c, second, c);
}

/* A tile's results go to the rows of its list. rows: f32[GG_LANES][PANEL], for those that do not lie one after the other. */
static void store(const struct gg_linear_job *j, const struct tile *t, size_t k, size_t first, size_t n, const float *c,
                  const float *bias, float *rows) {
    const gg_view *y = &j->op->dst[k], *more = &j->op->src[1];
    const size_t row = gg_item_row(j, t->list, t->first), slot = gg_item_slot(j, t->list, t->first);
    if (!t->list->item) {
        const float *add = gg_is_view(more) ? gg_head(j->run, more, row, slot) + first : NULL;
        gg_k.untile(n, t->rows, c, bias, add, add ? gg_row_stride(j->run, more) : 0,
                    gg_head(j->run, y, row, slot) + first, gg_row_stride(j->run, y));
        return;
    }
    gg_k.untile(n, t->rows, c, bias, NULL, 0, rows, PANEL);
    for (size_t i = 0; i < t->rows; i++) {
        const size_t to = gg_item_row(j, t->list, t->first + i), its = gg_item_slot(j, t->list, t->first + i);
        float *dst = gg_head(j->run, y, to, its) + first;
        const float *add = gg_is_view(more) ? gg_head(j->run, more, to, its) + first : NULL;
        for (size_t r = 0; r < n; r++) dst[r] = add ? rows[i * PANEL + r] + add[r] : rows[i * PANEL + r];
    }
}

void gg_wide_multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t k, size_t first, size_t n,
                      float *scratch) {
    const int gated = j->args->gate >= 0;
    const size_t tile = first_tile(j, list), tiles = n_tiles(list->n);
    union panel *panel = (union panel *)(void *)scratch;
    float *rows = scratch + sizeof *panel / sizeof *scratch, *c = rows + PANEL * GG_LANES;
    float *second = c + tiles * PANEL * GG_LANES;
    multiply(j, list, tile, k, first, n, panel, c);
    if (gated) multiply(j, list, tile, 1, first, n, panel, second);
    const float *bias = gated ? NULL : gg_bias(j->args, k, list->matrix);
    for (size_t i = 0; i < tiles; i++, c += PANEL * GG_LANES, second += PANEL * GG_LANES) {
        const struct tile t = make_tile(list, tile, i);
        if (gated) gate(j->args, list->matrix, first, n, c, second);
        store(j, &t, k, first, n, c, bias ? bias + first : NULL, rows);
    }
}
