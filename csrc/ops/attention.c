/* The attention op: dst[0] = softmax(scale * q k^T) v of q = src[0] over the pages of the KV cache.
 *
 * A tile is some adjacent rows of a sequence; the query heads of its rows that share a KV head are the rows of two
 * products with that head's pages. Positions are taken in chunks of CHUNK: each has a softmax of its own, whose
 * maximum, sum and output, its state, are merged with those of the chunks before. So a chunk's state depends neither on
 * the tile nor on who computes it, and the work can be divided at will:
 *
 *   rows    piece of work                why
 *   many    a KV head of a tile          its pages stay in the cache for the tile's queries
 *   few     a chunk, all KV heads        memory is the limit, and fastest read page by page, as it lies
 *
 * and where that makes too few pieces, a chunk of a KV head. Chunks that are computed apart are merged afterwards. */

#include <math.h>
#include <string.h>

#include "run.h"

typedef struct {
    gg_cache cache;
    const float *sinks;         /* f32[query heads]: one more score each, without a value; or NULL */
    const float *slopes;        /* f32[query heads]: what each place of distance takes off the scores; or NULL */
    float scale, softcap;       /* softcap > 0: scores become softcap * tanh(score / softcap) */
    float temperature;          /* scores are also scaled by 1 + temperature * log(1 + (place + offset) / length) */
    int32_t temperature_length; /* > 0 */
    int32_t temperature_offset; /* >= 0 */
    int32_t chunk;              /* > 0: a row sees no places before the last multiple of chunk */
    int32_t causal;             /* 0: a row sees later ones of its sequence, too, as far as it looks back */
} gg_attention;

enum {
    CHUNK = 512,
    PAGES = CHUNK / GG_LANES,
    TILE_QUERIES = 48,
    SHARE = 4, /* pieces of work per thread, at least, where that is possible */
};

/* An attention op at work. tiles: of adjacent rows of a sequence, first row and number of rows. */
struct job {
    const struct gg_run *run;
    const gg_op *op;
    const gg_attention *args;
    size_t group; /* query heads per KV head */
    int32_t *tiles;
    size_t n_tiles;
    float *scratch;
};

/* KV heads head .. head + heads of an op, for the queries of one tile, ordered by KV head, row, head of the group.
 * Positions begin .. end are seen by some of its rows. */
struct tile {
    size_t row, rows, sequence, head, heads, begin, end, queries; /* queries: of a KV head, rows * group */
    float *q, *s;       /* f32[heads][queries][key_length], f32[heads][queries][CHUNK] */
    float *chunk, *all; /* states: f32[heads][queries][state_floats]: output, maximum, sum */
};

/* How an op's work is divided: into all chunks or none, and how many KV heads at a time. */
struct division {
    size_t chunks, heads;
};

/* ---- Shapes ---- */

static const gg_attention *args_of(const gg_op *op) { return op->args; }
static size_t width(const gg_op *op) { return gg_round_up((size_t)args_of(op)->cache.value_length, GG_LANES); }
static size_t state_floats(const gg_op *op) { return width(op) + 16; }
static float *max_of(const gg_op *op, float *state) { return state + width(op); }
static float *sum_of(const gg_op *op, float *state) { return state + width(op) + 1; }
static size_t n_chunks(size_t positions) { return gg_ceil_div(positions, CHUNK); }
static size_t group_of(const gg_op *op) { return (size_t)(op->src[0].heads / args_of(op)->cache.heads); }
static size_t tile_rows(const gg_op *op) { return gg_max(TILE_QUERIES / group_of(op), 1); }

/* Queries of a tile that is worked on for all KV heads together, at most. */
static size_t few_queries(const gg_op *op) { return gg_max((size_t)op->src[0].heads, TILE_QUERIES); }

/* Floats before those of a tile: two integers for each tile of a batch. */
static size_t tiles_floats(const gg_program *p) { return gg_round_up(2 * (size_t)p->max_rows, 16); }

static struct gg_need need(const gg_program *program, const gg_op *op) {
    const gg_cache *c = &args_of(op)->cache;
    const size_t queries = gg_max(tile_rows(op) * group_of(op), few_queries(op));
    const size_t chunks = n_chunks((size_t)c->n_pages * GG_LANES);
    return (struct gg_need){
        tiles_floats(program) + queries * ((size_t)c->key_length + CHUNK + 2 * state_floats(op)),
        (size_t)op->src[0].heads * chunks * state_floats(op) * sizeof(float), /* less than all only costs time */
    };
}

/* ---- Places ---- */

static size_t place(const struct job *j, size_t row) {
    return (size_t)j->run->batch->place[gg_batch_row(j->run, j->op, row)];
}
static size_t sequence(const struct job *j, size_t row) {
    return (size_t)j->run->batch->sequence[gg_batch_row(j->run, j->op, row)];
}

/* Positions begin .. end that a row sees. */
static size_t begin_of(const struct job *j, size_t row) {
    const size_t window = (size_t)j->run->batch->states[j->args->cache.state].window, end = place(j, row) + 1;
    if (j->args->chunk) return (end - 1) / (size_t)j->args->chunk * (size_t)j->args->chunk;
    return window && end > window ? end - window : 0;
}
static size_t end_of(const struct job *j, size_t row) {
    const gg_batch *b = j->run->batch;
    if (j->args->causal) return place(j, row) + 1;
    const size_t window = (size_t)b->states[j->args->cache.state].window;
    const size_t end = (size_t)b->place[b->first_row[sequence(j, row) + 1] - 1] + 1;
    return window ? gg_min(end, place(j, row) + window) : end;
}

/* Adjacent rows of one sequence, as many as a tile has, make a tile. */
static void make_tiles(struct job *j) {
    const size_t rows = gg_op_rows(j->run, j->op), most = tile_rows(j->op);
    for (size_t row = 0; row < rows; row++) {
        int32_t *last = j->n_tiles ? j->tiles + 2 * (j->n_tiles - 1) : NULL;
        if (last && sequence(j, (size_t)last[0]) == sequence(j, row) && (size_t)last[1] < most) {
            last[1]++;
        } else {
            j->tiles[2 * j->n_tiles] = (int32_t)row, j->tiles[2 * j->n_tiles + 1] = 1;
            j->n_tiles++;
        }
    }
}

/* Tile i, for KV heads head .. head + heads. */
static struct tile make_tile(const struct job *j, size_t i, size_t head, size_t heads) {
    const int32_t *of = j->tiles + 2 * i;
    struct tile t = {.row = (size_t)of[0], .rows = (size_t)of[1], .head = head, .heads = heads};
    t.sequence = sequence(j, t.row);
    t.queries = t.rows * j->group;
    t.begin = begin_of(j, t.row);
    t.end = end_of(j, t.row + t.rows - 1);
    t.q = j->scratch;
    t.s = t.q + heads * t.queries * (size_t)j->args->cache.key_length;
    t.chunk = t.s + heads * t.queries * CHUNK;
    t.all = t.chunk + heads * t.queries * state_floats(j->op);
    return t;
}

/* The chunk with the first position that the tile sees. */
static size_t first_chunk(const struct tile *t) { return t->begin / CHUNK; }

/* Row of the op and query head of query i of a tile. */
static size_t row_of(const struct job *j, const struct tile *t, size_t i) {
    return t->row + i % t->queries / j->group;
}
static size_t head_of(const struct job *j, const struct tile *t, size_t i) {
    return (t->head + i / t->queries) * j->group + i % j->group;
}

/* ---- One chunk ---- */

static float score_scale(const gg_attention *a, size_t place) {
    const size_t steps = (place + (size_t)a->temperature_offset) / (size_t)a->temperature_length;
    return a->scale * (1.0f + a->temperature * logf(1.0f + (float)steps));
}

static void load_queries(const struct job *j, const struct tile *t) {
    const size_t n = (size_t)j->args->cache.key_length;
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        const size_t row = row_of(j, t, i);
        memcpy(t->q + i * n, gg_head(j->run, &j->op->src[0], row, head_of(j, t, i)), n * sizeof *t->q);
        gg_k.scale(n, score_scale(j->args, place(j, row)), t->q + i * n);
    }
}

/* Scores s[from .. to) of positions first + from .. lose what their distance from `place` asks for. */
static void slope(float slope, size_t place, size_t first, size_t from, size_t to, float *s) {
    for (size_t k = from; k < to; k++) s[k] -= slope * fabsf((float)place - (float)(first + k));
}

/* Scores of positions first .. first + n to weights; each query sees those from its begin to its end. */
static void weigh(const struct job *j, const struct tile *t, size_t first, size_t n, float *states) {
    const size_t size = gg_round_up(n, GG_LANES);
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        const size_t row = row_of(j, t, i), begin = begin_of(j, row), end = gg_min(end_of(j, row), first + n);
        const size_t unseen = begin > first ? gg_min(begin - first, size) : 0;
        float *s = t->s + i * CHUNK, *state = states + i * state_floats(j->op);
        memset(state, 0, width(j->op) * sizeof *state);
        if (end <= first || first + unseen >= end) {
            memset(s, 0, size * sizeof *s);
            *max_of(j->op, state) = -INFINITY, *sum_of(j->op, state) = 0.0f;
            continue;
        }
        if (j->args->softcap > 0.0f) {
            gg_k.scale(end - first - unseen, 1.0f / j->args->softcap, s + unseen);
            gg_k.activate(GG_TANH, end - first - unseen, s + unseen, NULL, s + unseen);
            gg_k.scale(end - first - unseen, j->args->softcap, s + unseen);
        }
        if (j->args->slopes) slope(j->args->slopes[head_of(j, t, i)], place(j, row), first, unseen, end - first, s);
        for (size_t k = 0; k < unseen; k++) s[k] = -INFINITY;
        gg_k.softmax(end - first, size, s, max_of(j->op, state), sum_of(j->op, state));
        memset(s, 0, unseen * sizeof *s); /* what was 1e-38 at most */
    }
}

/* States of all queries over the chunk that begins at `first`. Pages that no query sees are not read. */
static void attend_chunk(const struct job *j, const struct tile *t, size_t first, float *states) {
    const gg_cache *c = &j->args->cache;
    const struct gg_cache_type keys = gg_cache_type(c->k_type), values = gg_cache_type(c->v_type);
    const size_t n = gg_min(CHUNK, t->end - first), pages = gg_ceil_div(n, GG_LANES);
    const size_t skipped = t->begin > first ? (t->begin - first) / GG_LANES : 0;
    const size_t dim = (size_t)c->key_length, rows = t->queries, ldo = state_floats(j->op);
    size_t page[PAGES + 1] = {0};
    for (size_t i = skipped; i < pages; i++)
        page[i] = gg_page(j->run->batch, c->state, t->sequence, first + i * GG_LANES);
    page[pages] = page[skipped]; /* prefetched behind the last, in vain */
    for (size_t i = skipped; i < pages; i++)
        for (size_t h = 0; h < t->heads; h++)
            keys.scores(rows, dim, t->q + h * rows * dim, dim, gg_keys(c, page[i], t->head + h),
                        t->s + h * rows * CHUNK + i * GG_LANES, CHUNK,
                        h + 1 < t->heads ? gg_keys(c, page[i], t->head + h + 1) : gg_keys(c, page[i + 1], t->head));
    weigh(j, t, first, n, states);
    for (size_t i = skipped; i < pages; i++)
        for (size_t h = 0; h < t->heads; h++)
            values.values(rows, gg_min(GG_LANES, n - i * GG_LANES), t->s + h * rows * CHUNK + i * GG_LANES, CHUNK,
                          gg_values(c, page[i], t->head + h), width(j->op), states + h * rows * ldo, ldo,
                          h + 1 < t->heads ? gg_values(c, page[i], t->head + h + 1)
                                           : gg_values(c, page[i + 1], t->head));
}

/* ---- All chunks ---- */

static void clear(const struct job *j, const struct tile *t) {
    memset(t->all, 0, t->heads * t->queries * state_floats(j->op) * sizeof *t->all);
    for (size_t i = 0; i < t->heads * t->queries; i++) *max_of(j->op, t->all + i * state_floats(j->op)) = -INFINITY;
}

/* One more chunk enters the states of all queries. */
static void merge(const struct job *j, const struct tile *t, float *states) {
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        float *part = states + i * state_floats(j->op), *all = t->all + i * state_floats(j->op);
        if (*sum_of(j->op, part) == 0.0f) continue; /* the query sees nothing of it */
        const float max = fmaxf(*max_of(j->op, part), *max_of(j->op, all));
        const float a = expf(*max_of(j->op, part) - max), b = expf(*max_of(j->op, all) - max);
        gg_k.blend(width(j->op), a, part, b, all);
        *sum_of(j->op, all) = a * *sum_of(j->op, part) + b * *sum_of(j->op, all);
        *max_of(j->op, all) = max;
    }
}

/* What the values are divided by; a sink takes its share. */
static float divisor(const struct job *j, const struct tile *t, size_t i, float *state) {
    const float sum = *sum_of(j->op, state);
    if (!j->args->sinks) return sum;
    return sum + expf(j->args->sinks[head_of(j, t, i)] - *max_of(j->op, state));
}

static void finish(const struct job *j, const struct tile *t) {
    const size_t n = (size_t)j->op->dst[0].width;
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        float *out = t->all + i * state_floats(j->op);
        gg_k.scale(n, 1.0f / divisor(j, t, i, out), out);
        memcpy(gg_head(j->run, &j->op->dst[0], row_of(j, t, i), head_of(j, t, i)), out, n * sizeof *out);
    }
}

static void attend(const struct job *j, const struct tile *t) {
    load_queries(j, t);
    clear(j, t);
    for (size_t first = first_chunk(t) * CHUNK; first < t->end; first += CHUNK) {
        attend_chunk(j, t, first, t->chunk);
        merge(j, t, t->chunk);
    }
    finish(j, t);
}

/* ---- Chunks apart ---- */

/* Where chunk `chunk` leaves its states. */
static float *partial(const struct job *j, const struct tile *t, size_t chunk, size_t chunks) {
    const size_t n_head = (size_t)j->op->src[0].heads, before = (t->row * chunks + chunk * t->rows) * n_head;
    return (float *)(void *)j->run->program->shared + (before + t->head * t->queries) * state_floats(j->op);
}

static struct division divide(const struct job *j, const struct gg_worker *worker) {
    const size_t rows = gg_op_rows(j->run, j->op), n_head = (size_t)j->op->src[0].heads;
    const size_t heads = (size_t)j->args->cache.heads, least = SHARE * (size_t)worker->n_threads;
    size_t end = 0, longest = 0; /* positions of a sequence, rows of a tile */
    for (size_t row = 0; row < rows; row++) end = gg_max(end, end_of(j, row));
    for (size_t i = 0; i < j->n_tiles; i++) longest = gg_max(longest, (size_t)j->tiles[2 * i + 1]);
    const size_t chunks = n_chunks(end), bytes = rows * n_head * chunks * state_floats(j->op) * sizeof(float);
    if (bytes <= j->run->program->shared_bytes) {
        if (longest * n_head <= few_queries(j->op) && j->n_tiles * chunks >= least)
            return (struct division){chunks, heads};
        if (chunks > 1 && j->n_tiles * heads < least) return (struct division){chunks, 1};
    }
    return (struct division){1, 1};
}

static int attend_apart(const struct job *j, struct division by, struct gg_worker *worker) {
    const size_t heads = (size_t)j->args->cache.heads, parts = heads / by.heads;
    for (size_t i; (i = gg_take(worker)) < j->n_tiles * by.chunks * parts;) {
        const size_t chunk = i / parts % by.chunks, head = i % parts * by.heads;
        const struct tile t = make_tile(j, i / parts / by.chunks, head, by.heads);
        if (chunk < first_chunk(&t) || chunk * CHUNK >= t.end) continue;
        load_queries(j, &t);
        attend_chunk(j, &t, chunk * CHUNK, partial(j, &t, chunk, by.chunks));
    }
    if (gg_barrier(worker)) return 1;
    for (size_t i; (i = gg_take(worker)) < j->n_tiles * heads;) {
        const struct tile t = make_tile(j, i / heads, i % heads, 1);
        clear(j, &t);
        for (size_t chunk = first_chunk(&t); chunk * CHUNK < t.end; chunk++)
            merge(j, &t, partial(j, &t, chunk, by.chunks));
        finish(j, &t);
    }
    return gg_barrier(worker);
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    struct job j = {.run = run, .op = op, .args = op->args, .group = group_of(op)};
    j.tiles = (int32_t *)(void *)scratch, j.scratch = scratch + tiles_floats(run->program);
    make_tiles(&j);
    const struct division by = divide(&j, worker);
    if (by.chunks > 1) return attend_apart(&j, by, worker);
    const size_t heads = (size_t)j.args->cache.heads, items = j.n_tiles * heads;
    for (size_t i; (i = gg_take(worker)) < items;) { /* the longest first, so that all threads finish together */
        const struct tile t = make_tile(&j, (items - 1 - i) / heads, (items - 1 - i) % heads, 1);
        attend(&j, &t);
    }
    return gg_barrier(worker);
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p;
    const gg_attention *a = op->args;
    const gg_view *q = &op->src[0], *y = &op->dst[0];
    if (op->rows == GG_ROWS_TEXTS || !gg_is_view(q) || !gg_is_view(y) || !gg_cache_is_whole(b, &a->cache)) return 0;
    if (a->temperature_length < 1 || a->temperature_offset < 0 || a->chunk < 0) return 0;
    if (q->heads % a->cache.heads || q->width != a->cache.key_length) return 0;
    return y->heads == q->heads && y->width == a->cache.value_length;
}

const struct gg_op_kind gg_op_attention = {.run = run, .need = need, .is_sound = is_sound};
