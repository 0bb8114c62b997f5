/* A sequence's logits for somebody who waits for them, computed by the step thread between two
 * steps. */
#include "engine/sample/softmax.h"
#include "engine/sched/loop_state.h"

/* Rows [first, first + rows) of the sequence, and the logits that are wanted of them. */
static enum phid_status evaluate_chunk(struct loop *l, const struct evaluation *e,
                                       const struct backend_sequence *part, struct phid_error *err)
{
    const struct loop_options *o = &l->options;
    size_t first = (size_t)part->start;
    struct backend_batch batch = {.tokens = e->ids + first,
                                  .rows = part->rows,
                                  .prompt_rows = part->rows,
                                  .sequences = part,
                                  .sequence_count = 1,
                                  .progress = l->batch.view.progress,
                                  .progress_user = l->batch.view.progress_user};
    enum phid_status status = o->api->embed(o->backend, &batch, l->hidden, err);
    if (status != PHID_OK) {
        return status;
    }
    status = o->api->step(o->backend, &batch, 0, o->block->n_layers, l->hidden, err);
    if (status != PHID_OK) {
        return status;
    }
    if (!e->all) {
        size_t last = part->rows - 1;
        return first + part->rows == e->count
                   ? o->api->head(o->backend, l->hidden, &last, 1, e->logits, err)
                   : PHID_OK;
    }
    for (size_t row = 0; row < part->rows && status == PHID_OK; row += l->logit_rows) {
        size_t count = part->rows - row < l->logit_rows ? part->rows - row : l->logit_rows;
        for (size_t i = 0; i < count; i++) {
            l->batch.head_rows[i] = row + i;
        }
        status = o->api->head(o->backend, l->hidden, l->batch.head_rows, count,
                              e->logits + (first + row) * o->block->n_vocab, err);
    }
    return status;
}

static enum phid_status check_numbers(const struct loop *l, const struct evaluation *e,
                                      struct phid_error *err)
{
    size_t n_vocab = l->options.block->n_vocab, rows = e->all ? e->count : 1;
    for (size_t row = 0; row < rows; row++) {
        if (softmax_scan(e->logits + row * n_vocab, n_vocab).nan) {
            return phid_fail(err, PHID_ERR_INTERNAL, "the model produced NaN after token %zu",
                             e->all ? row : e->count - 1);
        }
    }
    return PHID_OK;
}

static enum phid_status evaluate(struct loop *l, const struct evaluation *e, struct phid_error *err)
{
    const struct loop_options *o = &l->options;
    struct page_table pages;
    enum phid_status status = page_table_init(&pages, e->count, err);
    if (status != PHID_OK) {
        return status;
    }
    while (!page_table_grow(&pages, &l->pool, e->count) && l->running_count > 0) {
        loop_park(l, l->running[l->running_count - 1]);
    }
    if (pages.count < page_table_pages(e->count)) {
        page_table_fini(&pages);
        return phid_fail(err, PHID_ERR_CONTEXT, "%zu tokens do not fit into the KV memory",
                         e->count);
    }
    for (size_t first = 0; first < e->count && status == PHID_OK; first += o->step_tokens) {
        size_t left = e->count - first;
        struct backend_sequence part = {
            .rows = left < o->step_tokens ? left : o->step_tokens,
            .start = (int32_t)first,
            .pages = pages.ids,
            .rope_set = sequence_rope_set(o->terms, e->count),
        };
        status = evaluate_chunk(l, e, &part, err);
    }
    page_table_clear(&pages, &l->pool);
    page_table_fini(&pages);
    return status == PHID_OK ? check_numbers(l, e, err) : status;
}

static struct evaluation_job *current_job(struct loop *l)
{
    pthread_mutex_lock(&l->mu);
    struct evaluation_job *job = l->job;
    pthread_mutex_unlock(&l->mu);
    return job;
}

static void answer_job(struct loop *l, struct evaluation_job *job, enum phid_status status,
                       const struct phid_error *error)
{
    pthread_mutex_lock(&l->mu);
    job->status = status;
    job->error = *error;
    job->done = true;
    l->job = NULL;
    pthread_cond_broadcast(&l->evaluated);
    pthread_mutex_unlock(&l->mu);
}

bool loop_run_job(struct loop *l)
{
    struct evaluation_job *job = current_job(l);
    if (job == NULL) {
        return false;
    }
    struct phid_error error = {0};
    enum phid_status status = evaluate(l, job->wanted, &error);
    if (status == PHID_ERR_DEVICE) {
        loop_lose_device(l, status, &error);
    }
    answer_job(l, job, status, &error);
    return true;
}

void loop_refuse_job(struct loop *l)
{
    struct evaluation_job *job = current_job(l);
    if (job == NULL) {
        return;
    }
    struct phid_error error = {0};
    phid_fail(&error, PHID_ERR_CLOSED, "the engine was stopped");
    answer_job(l, job, PHID_ERR_CLOSED, &error);
}

enum phid_status loop_evaluate(struct loop *l, const struct evaluation *evaluation,
                               struct phid_error *err)
{
    struct evaluation_job job = {.wanted = evaluation};
    pthread_mutex_lock(&l->mu);
    while (l->job != NULL && !l->stopping) { /* somebody else's */
        pthread_cond_wait(&l->evaluated, &l->mu);
    }
    if (l->stopping || l->failed != PHID_OK) {
        enum phid_status status = l->stopping ? PHID_ERR_CLOSED : l->failed;
        phid_fail(err, status, "%s", l->stopping ? "the engine was stopped" : l->failure.message);
        pthread_mutex_unlock(&l->mu);
        return status;
    }
    l->job = &job;
    pthread_mutex_unlock(&l->mu);
    doorbell_ring(l->bell);
    pthread_mutex_lock(&l->mu);
    while (!job.done) {
        pthread_cond_wait(&l->evaluated, &l->mu);
    }
    pthread_mutex_unlock(&l->mu);
    if (job.status != PHID_OK && err != NULL) {
        *err = job.error;
    }
    return job.status;
}
