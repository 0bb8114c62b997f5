#include "tests/unit/engine/fake_backend.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/engine/fake_model.h"

struct fake_backend_control fake_backend;

static pthread_mutex_t gate_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opens = PTHREAD_COND_INITIALIZER;
static int gate_steps; /* guarded by gate_mu */

struct slot {
    bool written;
    bool poisoned; /* the sequence so far holds nan_token */
    int32_t token, position;
    enum block_rope_set set;
    uint64_t hash;
};

/* A row's hidden state. */
struct hidden {
    uint32_t hash_low, hash_high;
    int32_t position;
    int32_t poisoned;
};

struct backend {
    size_t max_rows;
    size_t n_pages;
    struct slot *slots;    /* [n_pages][BACKEND_PAGE_TOKENS] */
    struct hidden *states; /* [max_rows] */
    size_t warm_tokens;    /* whose memory was brought in */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t extend_hash(uint64_t hash, int32_t token, enum block_rope_set set)
{
    return mix(hash * 31 + (uint64_t)(uint32_t)token * 2 + (set == BLOCK_ROPE_LONG) + 1);
}

uint64_t fake_hash(const int32_t *tokens, size_t count, enum block_rope_set set)
{
    uint64_t hash = 7;
    for (size_t i = 0; i < count; i++) {
        hash = extend_hash(hash, tokens[i], set);
    }
    return hash;
}

static void logits_at(uint64_t hash, int32_t position, float *logits)
{
    bool repeats = fake_backend.period > 0 && hash % 8 != 0;
    uint64_t source = repeats ? mix((uint64_t)position % fake_backend.period) : hash;
    for (size_t i = 0; i < FAKE_VOCAB; i++) {
        logits[i] = (float)(mix(source + i) >> 40) * 0x1p-24f * 8.0f;
    }
    if (fake_backend.script != NULL) {
        size_t at = (size_t)position;
        logits[at < fake_backend.script_count ? fake_backend.script[at] : FAKE_END] = 20.0f;
    } else {
        bool ends = fake_backend.end_odds > 0 && hash % fake_backend.end_odds == 0;
        logits[FAKE_END] = ends ? 20.0f : -20.0f;
    }
}

void fake_logits(uint64_t hash, const int32_t *tokens, size_t count, float *logits)
{
    (void)tokens;
    logits_at(hash, (int32_t)count - 1, logits);
}

size_t fake_answer(const int32_t *prompt, size_t prompt_count, size_t max, size_t original_context,
                   bool ignore_end, int32_t *ids, bool *ret_ended)
{
    int32_t *all = calloc(prompt_count + max + 1, sizeof(*all));
    float logits[FAKE_VOCAB];
    memcpy(all, prompt, prompt_count * sizeof(*all));
    size_t count = 0;
    *ret_ended = false;
    while (count < max && !*ret_ended) {
        size_t length = prompt_count + count;
        bool is_long = original_context > 0 && length > original_context;
        logits_at(fake_hash(all, length, is_long ? BLOCK_ROPE_LONG : BLOCK_ROPE_SHORT),
                  (int32_t)length - 1, logits);
        if (ignore_end) {
            logits[FAKE_END] = -INFINITY;
        }
        int32_t best = 0;
        for (int32_t i = 1; i < FAKE_VOCAB; i++) {
            best = logits[i] > logits[best] ? i : best;
        }
        *ret_ended = best == FAKE_END;
        if (!*ret_ended) {
            all[length] = best;
            ids[count++] = best;
        }
    }
    free(all);
    return count;
}

static bool fake_probe(const char **ret_description)
{
    *ret_description = "fake";
    return true;
}

static enum phid_status fake_open(const struct backend_options *options, struct backend **ret,
                                  struct phid_error *err)
{
    struct backend *b = calloc(1, sizeof(*b));
    struct hidden *states = calloc(options->max_rows, sizeof(*states));
    if (b == NULL || states == NULL) {
        free(b);
        free(states);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a backend");
    }
    b->max_rows = options->max_rows;
    b->states = states;
    *ret = b;
    return PHID_OK;
}

static void fake_close(struct backend *b)
{
    free(b->slots);
    free(b->states);
    free(b);
}

static enum phid_status fake_load(struct backend *b, const struct block_model *model, size_t first,
                                  size_t last, bool embedding, bool head,
                                  void (*release)(void *user, const struct block_matrix *matrix),
                                  void *user, struct phid_error *err)
{
    return PHID_OK;
}

static size_t fake_page_bytes(const struct backend *b, enum backend_kv_type type)
{
    return fake_backend.page_bytes;
}

static enum phid_status fake_kv_create(struct backend *b, enum backend_kv_type type, size_t n_pages,
                                       struct phid_error *err)
{
    b->slots = calloc(n_pages * BACKEND_PAGE_TOKENS, sizeof(*b->slots));
    b->n_pages = n_pages;
    return b->slots != NULL ? PHID_OK : phid_fail(err, PHID_ERR_MEMORY, "no memory for pages");
}

static enum phid_status fake_kv_copy(struct backend *b, uint32_t from, uint32_t to,
                                     struct phid_error *err)
{
    if (fake_backend.fail_copies) {
        return phid_fail(err, PHID_ERR_INTERNAL, "the test wants copies to fail");
    }
    atomic_fetch_add(&fake_backend.copies, 1);
    memcpy(b->slots + (size_t)to * BACKEND_PAGE_TOKENS,
           b->slots + (size_t)from * BACKEND_PAGE_TOKENS, BACKEND_PAGE_TOKENS * sizeof(*b->slots));
    return PHID_OK;
}

static bool fake_kv_warm(struct backend *b, size_t first, size_t last, size_t tokens)
{
    size_t all = last < b->n_pages ? last : b->n_pages;
    size_t from =
        b->warm_tokens > first * BACKEND_PAGE_TOKENS ? b->warm_tokens : first * BACKEND_PAGE_TOKENS;
    size_t to = from + tokens;
    b->warm_tokens = to < all * BACKEND_PAGE_TOKENS ? to : all * BACKEND_PAGE_TOKENS;
    atomic_store(&fake_backend.warm, to >= all * BACKEND_PAGE_TOKENS);
    return to < all * BACKEND_PAGE_TOKENS;
}

static void check(bool good)
{
    if (!good) {
        atomic_fetch_add(&fake_backend.faults, 1);
    }
}

static struct slot *find_slot(struct backend *b, const struct backend_sequence *part,
                              size_t position)
{
    uint32_t page = part->pages[position / BACKEND_PAGE_TOKENS];
    check(page < b->n_pages);
    return &b->slots[(size_t)(page % b->n_pages) * BACKEND_PAGE_TOKENS +
                     position % BACKEND_PAGE_TOKENS];
}

static enum phid_status fake_embed(struct backend *b, const struct backend_batch *batch,
                                   float *hidden, struct phid_error *err)
{
    check(batch->rows > 0 && batch->rows <= b->max_rows);
    memset(hidden, 0, batch->rows * sizeof(struct hidden));
    return PHID_OK;
}

/* All that the pages hold of the sequence must be one chain from its first token on. */
static void check_past(struct backend *b, const struct backend_sequence *part)
{
    uint64_t hash = 7;
    for (int32_t p = 0; p < part->start; p++) {
        const struct slot *slot = find_slot(b, part, (size_t)p);
        hash = extend_hash(hash, slot->token, part->rope_set);
        check(slot->written && slot->position == p && slot->set == part->rope_set &&
              slot->hash == hash);
    }
}

static void count_cold(struct backend *b, const struct backend_sequence *part)
{
    size_t last = ((size_t)part->start + part->rows - 1) / BACKEND_PAGE_TOKENS;
    for (size_t i = (size_t)part->start / BACKEND_PAGE_TOKENS; i <= last; i++) {
        const struct slot *page = &b->slots[(size_t)part->pages[i] * BACKEND_PAGE_TOKENS];
        bool fresh = !page->written;
        atomic_fetch_add(&fake_backend.cold,
                         fresh &&
                             ((size_t)part->pages[i] + 1) * BACKEND_PAGE_TOKENS > b->warm_tokens);
    }
}

static void run_part(struct backend *b, const struct backend_batch *batch,
                     const struct backend_sequence *part, struct hidden *hidden)
{
    check_past(b, part);
    count_cold(b, part);
    uint64_t hash = 7;
    bool poisoned = false;
    if (part->start > 0) {
        const struct slot *last = find_slot(b, part, (size_t)part->start - 1);
        hash = last->hash;
        poisoned = last->poisoned;
    }
    for (size_t i = 0; i < part->rows; i++) {
        int32_t token = batch->tokens[part->first_row + i];
        check(token >= 0 && token < FAKE_VOCAB);
        int32_t position = part->start + (int32_t)i;
        hash = extend_hash(hash, token, part->rope_set);
        poisoned = poisoned || token == fake_backend.nan_token;
        *find_slot(b, part, (size_t)position) = (struct slot){.written = true,
                                                              .poisoned = poisoned,
                                                              .token = token,
                                                              .position = position,
                                                              .set = part->rope_set,
                                                              .hash = hash};
        hidden[part->first_row + i] = (struct hidden){.hash_low = (uint32_t)hash,
                                                      .hash_high = (uint32_t)(hash >> 32),
                                                      .position = position,
                                                      .poisoned = poisoned};
        atomic_fetch_add(&fake_backend.long_rows, part->rope_set == BLOCK_ROPE_LONG);
    }
}

static void wait_at_gate(void)
{
    if (fake_backend.step_us > 0) {
        struct timespec pause = {.tv_nsec = (long)fake_backend.step_us * 1000};
        nanosleep(&pause, NULL);
    }
    if (!fake_backend.gated) {
        return;
    }
    pthread_mutex_lock(&gate_mu);
    while (gate_steps == 0) {
        pthread_cond_wait(&gate_opens, &gate_mu);
    }
    gate_steps -= gate_steps > 0;
    pthread_mutex_unlock(&gate_mu);
}

void fake_backend_let(int steps)
{
    pthread_mutex_lock(&gate_mu);
    gate_steps = steps < 0 || gate_steps < 0 ? -1 : gate_steps + steps;
    pthread_cond_broadcast(&gate_opens);
    pthread_mutex_unlock(&gate_mu);
}

static enum phid_status fake_step(struct backend *b, const struct backend_batch *batch,
                                  size_t first, size_t last, float *hidden, struct phid_error *err)
{
    wait_at_gate();
    int number = atomic_fetch_add(&fake_backend.steps, 1);
    atomic_fetch_add(&fake_backend.rows, batch->rows);
    if (batch->rows > atomic_load(&fake_backend.max_rows)) {
        atomic_store(&fake_backend.max_rows, batch->rows);
    }
    if (number == atomic_load(&fake_backend.fail_step)) {
        return phid_fail(err, fake_backend.failure, "the test wants this step to fail");
    }
    size_t row = 0;
    for (size_t i = 0; i < batch->sequence_count; i++) {
        check(batch->sequences[i].first_row == row && batch->sequences[i].rows > 0);
        row += batch->sequences[i].rows;
    }
    check(row == batch->rows);
    for (size_t i = 0; i < batch->sequence_count; i++) {
        run_part(b, batch, &batch->sequences[i], b->states);
    }
    memcpy(hidden, b->states, batch->rows * sizeof(*b->states));
    return PHID_OK;
}

static enum phid_status fake_head(struct backend *b, const float *hidden, const size_t *rows,
                                  size_t count, float *logits, struct phid_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct hidden state;
        memcpy(&state, hidden + rows[i] * 4, sizeof(state));
        float *row = logits + i * FAKE_VOCAB;
        logits_at((uint64_t)state.hash_high << 32 | state.hash_low, state.position, row);
        if (state.poisoned) {
            row[5] = NAN;
        }
    }
    return PHID_OK;
}

static enum phid_status fake_fence(struct backend *b, uint64_t *ret_fence, struct phid_error *err)
{
    *ret_fence = 0;
    return PHID_OK;
}

static enum phid_status fake_wait(struct backend *b, uint64_t fence, struct phid_error *err)
{
    return PHID_OK;
}

static const char *fake_describe(const struct backend *b)
{
    return "fake";
}

static void fake_costs(const struct backend *b, struct backend_costs *ret)
{
    (void)b;
    *ret = (struct backend_costs){.layer_weight_bytes = 3000, .head_weight_bytes = 500};
}

static size_t fake_memory_bytes(const struct backend *b)
{
    return 1000;
}

const struct backend_api *fake_backend_api(void)
{
    static const struct backend_api api = {
        .name = "fake",
        .probe = fake_probe,
        .open = fake_open,
        .close = fake_close,
        .load = fake_load,
        .kv_create = fake_kv_create,
        .kv_page_bytes = fake_page_bytes,
        .kv_copy = fake_kv_copy,
        .kv_warm = fake_kv_warm,
        .embed = fake_embed,
        .step = fake_step,
        .head = fake_head,
        .fence = fake_fence,
        .wait = fake_wait,
        .describe = fake_describe,
        .memory_bytes = fake_memory_bytes,
        .costs = fake_costs,
    };
    return &api;
}

void fake_backend_reset(void)
{
    fake_backend.script = NULL;
    fake_backend.script_count = 0;
    fake_backend.nan_token = -1;
    fake_backend.end_odds = 0;
    fake_backend.step_us = 0;
    atomic_store(&fake_backend.fail_step, -1);
    fake_backend.failure = PHID_ERR_INTERNAL;
    fake_backend.gated = false;
    fake_backend.fail_copies = false;
    fake_backend.page_bytes = 1024;
    atomic_store(&fake_backend.copies, 0);
    atomic_store(&fake_backend.cold, 0);
    atomic_store(&fake_backend.warm, false);
    atomic_store(&fake_backend.faults, 0);
    atomic_store(&fake_backend.steps, 0);
    atomic_store(&fake_backend.rows, 0);
    atomic_store(&fake_backend.max_rows, 0);
    atomic_store(&fake_backend.long_rows, 0);
    pthread_mutex_lock(&gate_mu);
    gate_steps = 0;
    pthread_mutex_unlock(&gate_mu);
}
