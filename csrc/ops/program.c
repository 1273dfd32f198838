/* Running programs. Contracts in gg_cdef.h and run.h. */

#include <string.h>

#include "os/os.h"
#include "run.h"

#define GG_OP(name) extern const struct gg_op_kind gg_op_##name;
#include "ops.inc"

static const struct {
    const char *name;
    const struct gg_op_kind *kind;
} kinds[] = {
#define GG_OP(name) {#name, &gg_op_##name},
#include "ops.inc"
};

enum {
    N_KINDS = sizeof kinds / sizeof kinds[0],
    SHARE = 8, /* pieces of work per thread, where there are rows enough */
};

int32_t gg_op_kind_of(const char *name) {
    for (int32_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) return i;
    return -1;
}

void gg_needs(const gg_program *program, size_t *scratch_floats, size_t *shared_bytes) {
    *scratch_floats = *shared_bytes = 0;
    for (int32_t i = 0; i < program->n_ops; i++) {
        const gg_op *op = &program->ops[i];
        if (!kinds[op->kind].kind->need) continue;
        const struct gg_need need = kinds[op->kind].kind->need(program, op);
        *scratch_floats = gg_max(*scratch_floats, gg_round_up(need.scratch_floats, 16));
        *shared_bytes = gg_max(*shared_bytes, gg_round_up(need.shared_bytes, 64));
    }
}

/* Whether an op is done to a single row. */
static int is_single(const struct gg_run *run, const gg_op *op) {
    return kinds[op->kind].kind->row && gg_op_rows(run, op) == 1;
}

/* Ops first .. end, of single rows, are one piece of work: threads meet once for all of them. */
static int run_singles(const struct gg_run *run, int32_t first, int32_t end, struct gg_worker *worker) {
    const gg_op *ops = run->program->ops;
    if (gg_take(worker) == 0)
        for (int32_t i = first; i < end; i++) kinds[ops[i].kind].kind->row(run, &ops[i], 0);
    return gg_barrier(worker);
}

static int run_op(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const struct gg_op_kind *kind = kinds[op->kind].kind;
    if (kind->run) return kind->run(run, op, worker, scratch);
    const size_t rows = gg_op_rows(run, op), some = gg_max(rows / (SHARE * (size_t)worker->n_threads), 1);
    for (size_t i; (i = gg_take(worker)) < gg_ceil_div(rows, some);)
        for (size_t row = i * some; row < gg_min((i + 1) * some, rows); row++) kind->row(run, op, row);
    return gg_barrier(worker);
}

static void run_ops(void *arg, struct gg_worker *worker) {
    const struct gg_run *run = arg;
    const gg_program *p = run->program;
    float *scratch = p->scratch + (size_t)worker->index * p->scratch_floats;
    for (int32_t i = 0, end; i < p->n_ops; i = end) {
        for (end = i; end < p->n_ops && is_single(run, &p->ops[end]); end++) continue;
        if (end == i ? run_op(run, &p->ops[end++], worker, scratch) : run_singles(run, i, end, worker)) return;
    }
}

/* ---- Nothing is taken on trust ---- */

int gg_tensor_is_whole(const gg_tensor *w) {
    const struct gg_type type = gg_type(w->type);
    if (type.weights == 0 || w->n_in < 1 || w->n_out < 1 || w->count < 1) return 0;
    if ((size_t)w->n_in % type.weights || w->stride != (size_t)w->n_in / type.weights * type.bytes) return 0;
    return w->bytes % w->stride == 0 && w->bytes / w->stride == (size_t)w->n_out * (size_t)w->count;
}

static int is_page(int32_t type, size_t heads, size_t n, size_t bytes) {
    const struct gg_cache_type t = gg_cache_type(type);
    return t.weights && n % t.weights == 0 && bytes == GG_LANES * heads * (n / t.weights * t.bytes);
}

static int has_state(const gg_batch *b, int32_t state, int32_t entries, int is_pages) {
    if (state < 0 || state >= b->n_states) return 0;
    return b->states[state].is_pages == is_pages && b->states[state].n_entries <= entries;
}

int gg_cache_is_whole(const gg_batch *b, const gg_cache *c) {
    if (c->heads < 1 || c->key_length < 1 || c->value_length < 1) return 0;
    const size_t heads = (size_t)c->heads, width = gg_round_up((size_t)c->value_length, GG_LANES);
    return has_state(b, c->state, c->n_pages, 1) && is_page(c->k_type, heads, (size_t)c->key_length, c->k_page_bytes) &&
           is_page(c->v_type, heads, width, c->v_page_bytes) &&
           (size_t)c->value_length % gg_cache_type(c->v_type).weights == 0;
}

int gg_slots_are_whole(const gg_batch *b, const gg_slots *s, size_t floats) {
    return has_state(b, s->state, s->n_slots, 0) && s->floats == floats;
}

static int is_within(const gg_program *p, const gg_view *v) {
    if (v->buffer < 0) return v->buffer == -1;
    if (v->buffer >= p->n_buffers || v->first < 0 || v->heads < 1 || v->width < 1) return 0;
    if (v->heads > 1 && v->stride < v->width) return 0;
    const size_t end = (size_t)v->first + (size_t)(v->heads - 1) * (size_t)v->stride + (size_t)v->width;
    return end <= (size_t)p->buffers[v->buffer].width;
}

static int is_whole(const gg_program *p) {
    for (int32_t i = 0; i < p->n_buffers; i++)
        if (p->buffers[i].width < 1 || p->buffers[i].offset > p->arena_floats ||
            (p->arena_floats - p->buffers[i].offset) / (size_t)p->buffers[i].width < (size_t)p->max_rows)
            return 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const gg_op *op = &p->ops[i];
        if (op->kind < 0 || op->kind >= N_KINDS || op->rows < GG_ROWS_ALL || op->rows > GG_ROWS_TEXTS) return 0;
        for (int k = 0; k < 5; k++)
            if (!is_within(p, &op->src[k])) return 0;
        for (int k = 0; k < 3; k++)
            if (!is_within(p, &op->dst[k])) return 0;
    }
    return 1;
}

/* Only what is sound can say what it needs. */
static int has_memory(const gg_program *p) {
    size_t scratch_floats, shared_bytes;
    gg_needs(p, &scratch_floats, &shared_bytes);
    return scratch_floats <= p->scratch_floats && shared_bytes <= p->shared_bytes;
}

static int rows_fit(const gg_batch *b) {
    for (int32_t s = 0; s < b->n_sequences; s++) {
        const int32_t first = b->first_row[s], end = b->first_row[s + 1];
        if (first < 0 || end <= first || end > b->n_rows) return 0;
        for (int32_t row = first; row < end; row++)
            if (b->sequence[row] != s || b->place[row] < 0 || b->place[row] != b->place[first] + row - first) return 0;
    }
    for (int32_t i = 0; i < b->n_out; i++)
        if (b->out_row[i] < (i ? b->out_row[i - 1] + 1 : 0) || b->out_row[i] >= b->n_rows) return 0;
    return b->first_row[0] == 0 && b->first_row[b->n_sequences] == b->n_rows;
}

/* Entries that a sequence of the batch may read or write: those from the earliest place that its first row sees. */
static int state_fits(const gg_batch *b, const gg_state *state) {
    for (int32_t s = 0; s < b->n_sequences; s++) {
        const size_t n = (size_t)(state->first[s + 1] - state->first[s]);
        const size_t place = (size_t)b->place[b->first_row[s]], end = (size_t)b->place[b->first_row[s + 1] - 1] + 1;
        if (state->first[s] < 0 || state->first[s + 1] < state->first[s]) return 0;
        if (n < (state->is_pages ? gg_ceil_div(end, GG_LANES) : 2)) return 0;
        if (!state->is_pages && state->entry[state->first[s]] == state->entry[state->first[s] + 1]) return 0;
        const size_t window = (size_t)state->window, seen = window && place + 1 > window ? place + 1 - window : 0;
        for (size_t i = state->is_pages ? seen / GG_LANES : 0; i < n; i++) {
            const int32_t entry = state->entry[(size_t)state->first[s] + i];
            if (entry < 0 || entry >= state->n_entries) return 0;
        }
    }
    return 1;
}

static int is_sound(const gg_program *p, const gg_batch *b) {
    if (b->n_rows < 1 || b->n_rows > p->max_rows || b->n_sequences < 1 || b->n_sequences > b->n_rows) return 0;
    if (b->n_prompt < 0 || b->n_prompt > b->n_rows || b->n_out < 0 || b->n_out > b->n_rows) return 0;
    if (b->n_out_wide < 0 || b->n_out_wide > b->n_out || b->n_states != p->n_states) return 0;
    if (!is_whole(p) || !rows_fit(b)) return 0;
    for (int32_t i = 0; i < b->n_states; i++)
        if (!state_fits(b, &b->states[i])) return 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (!kinds[p->ops[i].kind].kind->is_sound(p, b, &p->ops[i])) return 0;
    return has_memory(p);
}

enum { TO_BEGIN, AT_WORK, ENDED, GIVEN_UP };

static int change_state(gg_call *call, uint32_t from, uint32_t to) {
    return __atomic_compare_exchange_n(&call->state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void gg_run(const gg_program *program, const gg_batch *batch, int n_threads, gg_call *call) {
    if (!change_state(call, TO_BEGIN, AT_WORK)) return;
    struct gg_run run = {.program = program, .batch = batch};
    call->status = is_sound(program, batch) ? gg_pool_run(n_threads, run_ops, &run, &call->abort) : -1;
    __atomic_store_n(&call->state, ENDED, __ATOMIC_SEQ_CST);
    gg_os_wake(&call->state);
}

void gg_end(gg_call *call) {
    __atomic_store_n(&call->abort, 1, __ATOMIC_SEQ_CST);
    if (change_state(call, TO_BEGIN, GIVEN_UP)) call->status = 1;
    while (__atomic_load_n(&call->state, __ATOMIC_SEQ_CST) == AT_WORK) gg_os_wait(&call->state, AT_WORK);
}
