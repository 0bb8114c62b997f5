/* Random traffic against the real engine on the tiny model: arrivals from several threads, readers
 * that come late, requests that are cancelled, freed or abandoned with their engine, pools that are
 * too small, prompts that share their beginning.
 *
 *   trace_fuzz MODEL [ARRIVALS [SEED]]
 *
 * Whatever happens around it, an answer that comes to its end is byte for byte the one that the
 * same request gets alone; what an answer shows before it is cancelled is its beginning; in the end
 * no page is lost, and nothing takes for ever. Exit code 0, or 1 with the seed and what was wrong.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "tests/fuzz/trace_wish.h"

#if defined(__SANITIZE_THREAD__)
#define ARRIVALS_DEFAULT 500
#elif defined(__SANITIZE_ADDRESS__)
#define ARRIVALS_DEFAULT 1500
#else
#define ARRIVALS_DEFAULT 10000
#endif

enum {
    WISHES = 300,
    THREADS = 3,
    ROUND_ARRIVALS = 600,
    FLIGHTS_MAX = 24, /* requests of one thread at once */
    HANG_S = 120,     /* without any output */
    ALARM_S = 900,    /* in all */
};

enum manner {
    READ_AT_ONCE,
    READ_LATE,
    CANCEL_AT_ONCE,
    CANCEL_LATER,
    FREE_AT_ONCE,
    FREE_LATER,
    MANNERS
};

/* A request under way. */
struct flight {
    struct phid_request *request;
    const struct wish *wish;
    enum manner manner;
    unsigned idle;     /* passes until it is looked at again */
    unsigned patience; /* outputs until it is cancelled or freed */
    bool cancelled;
    bool hurried;      /* has a deadline, of its own or the engine's */
    size_t shown;      /* bytes of text so far, all of them right */
    uint64_t moved_ns; /* when it last had output */
};

struct round {
    const struct wishes *wishes;
    size_t kv_type;  /* index into trace_kv_types */
    bool short_wait; /* the engine ends requests that wait long */
    struct phid_engine *engine;
    atomic_bool closing; /* no more submits; the engine may go away */
    atomic_uint parked;  /* drivers that know it */
    atomic_size_t accepted, refused, survivors;
    atomic_bool wrong;
};

struct driver {
    struct round *round;
    struct rng rng;
    pthread_t thread;
    size_t arrivals; /* still to come */
    struct flight flights[FLIGHTS_MAX];
    size_t count;
};

static void complain(struct round *r, const struct flight *f, const char *what, long have,
                     long want)
{
    atomic_store(&r->wrong, true);
    fprintf(stderr, "trace: wish %td, manner %d: %s: %ld, alone %ld\n", f->wish - r->wishes->items,
            f->manner, what, have, want);
}

static bool submit(struct driver *d)
{
    struct round *r = d->round;
    struct flight *f = &d->flights[d->count];
    struct phid_error err = {0};
    static const char *const names[] = {NULL, "alice", "bob"};
    d->arrivals--;
    *f = (struct flight){
        .wish = &r->wishes->items[rng_below(&d->rng, r->wishes->count)],
        .manner =
            rng_below(&d->rng, 2) == 0 ? READ_AT_ONCE : (enum manner)rng_below(&d->rng, MANNERS),
        .patience = (unsigned)rng_below(&d->rng, 12),
        .moved_ns = clock_now_ns(),
    };
    struct phid_request_params params = f->wish->params;
    params.tenant = names[rng_below(&d->rng, 3)];
    params.cache_salt = rng_below(&d->rng, 4) == 0 ? "salt" : NULL;
    params.cache_salt_size = params.cache_salt != NULL ? 4 : 0;
    params.priority = (int32_t)rng_below(&d->rng, 3) - 1;
    params.timeout_ms = rng_below(&d->rng, 10) == 0 ? 1 + (uint32_t)rng_below(&d->rng, 300) : 0;
    f->hurried = params.timeout_ms > 0 || r->short_wait;
    enum phid_status status = phid_engine_submit(r->engine, &params, &f->request, &err);
    if (status == PHID_ERR_BUSY) {
        atomic_fetch_add(&r->refused, 1);
        d->arrivals += rng_below(&d->rng, 200) > 0; /* most come again */
        return false;
    }
    if (status != PHID_OK) {
        fprintf(stderr, "trace: refused: %s\n", err.message);
        atomic_store(&r->wrong, true);
        return false;
    }
    atomic_fetch_add(&r->accepted, 1);
    d->count++;
    if (f->manner == CANCEL_AT_ONCE) {
        f->cancelled = true;
        phid_request_cancel(f->request);
    }
    return true;
}

static void land(struct driver *d, size_t i)
{
    phid_request_free(d->flights[i].request);
    d->flights[i] = d->flights[--d->count];
}

/* The end of an answer that nobody disturbed. */
static void judge(struct round *r, const struct flight *f, const struct phid_output *out)
{
    const struct lone *w = &f->wish->lone[r->kv_type];
    if (out->finish != w->finish) {
        complain(r, f, "finish", out->finish, w->finish);
    } else if (f->shown != w->text.size) {
        complain(r, f, "bytes of text", (long)f->shown, (long)w->text.size);
    } else if (out->completion_tokens != w->completion_tokens) {
        complain(r, f, "tokens", (long)out->completion_tokens, (long)w->completion_tokens);
    } else {
        atomic_fetch_add(&r->survivors, 1);
    }
}

static bool is_expected(struct round *r, const struct flight *f, enum phid_status status)
{
    return (status == PHID_ERR_CLOSED && atomic_load(&r->closing)) ||
           (f->hurried && (status == PHID_ERR_TIMEOUT || status == PHID_ERR_BUSY));
}

static void take(struct driver *d, struct flight *f, const struct phid_output *out)
{
    const struct lone *w = &f->wish->lone[d->round->kv_type];
    f->moved_ns = clock_now_ns();
    if (f->shown + out->text_size > w->text.size ||
        (out->text_size > 0 && memcmp(w->text.data + f->shown, out->text, out->text_size) != 0)) {
        complain(d->round, f, "other text after byte", (long)f->shown, (long)w->text.size);
    }
    f->shown += out->text_size;
    if (out->finish == PHID_FINISH_STOP || out->finish == PHID_FINISH_LENGTH) {
        judge(d->round, f, out); /* a cancel may come too late */
    } else if (out->finish == PHID_FINISH_CANCELLED && !f->cancelled) {
        complain(d->round, f, "cancelled", 1, 0);
    } else if (out->finish == PHID_FINISH_ERROR && !is_expected(d->round, f, out->error.status)) {
        fprintf(stderr, "trace: %s\n", out->error.message);
        complain(d->round, f, "failed with status", out->error.status, 0);
    }
}

/* One look at flight i. True when something happened. */
static bool look(struct driver *d, size_t i)
{
    struct flight *f = &d->flights[i];
    struct phid_output out = {0};
    if (f->idle > 0) {
        f->idle--;
        return false;
    }
    if (f->manner == FREE_AT_ONCE || (f->manner == FREE_LATER && f->patience == 0)) {
        land(d, i);
        return true;
    }
    if (!phid_request_poll(f->request, &out)) {
        if (clock_seconds_since(f->moved_ns) > HANG_S) {
            complain(d->round, f, "seconds without output", HANG_S, 0);
            land(d, i);
        }
        return false;
    }
    take(d, f, &out);
    if (out.finish != PHID_FINISH_NONE) {
        land(d, i);
        return true;
    }
    if (f->manner == READ_LATE) {
        f->idle = (unsigned)rng_below(&d->rng, 200);
    } else if (f->manner == CANCEL_LATER && f->patience == 0 && !f->cancelled) {
        f->cancelled = true;
        phid_request_cancel(f->request);
    }
    f->patience -= f->patience > 0;
    return true;
}

static void *drive(void *user)
{
    struct driver *d = user;
    bool parked = false;
    while (d->arrivals > 0 || d->count > 0 || !parked) {
        bool busy = false;
        if (!parked && (d->arrivals == 0 || atomic_load(&d->round->closing))) {
            parked = true;
            d->arrivals = 0;
            atomic_fetch_add(&d->round->parked, 1);
        }
        /* Bursts and lulls: as many as there is room for, or none. */
        while (d->arrivals > 0 && d->count < FLIGHTS_MAX && rng_below(&d->rng, 6) > 0 &&
               submit(d)) {
            busy = true;
        }
        for (size_t i = d->count; i-- > 0;) {
            busy |= look(d, i);
        }
        if (!busy) {
            usleep((useconds_t)rng_below(&d->rng, 200));
        }
    }
    return NULL;
}

/* Somebody watches all the time, and it must cost nothing but numbers. */
static bool watch_until_parked(struct round *r, bool abrupt, uint64_t grace_ns)
{
    uint64_t start = clock_now_ns();
    while (atomic_load(&r->parked) < THREADS) {
        struct phid_engine_stats stats;
        struct phid_histogram h;
        phid_engine_stats(r->engine, &stats);
        phid_engine_histogram(r->engine, PHID_HISTOGRAM_INTER_TOKEN, &h);
        if (stats.pages_free > stats.pages_total) {
            fprintf(stderr, "trace: %zu pages of %zu free\n", stats.pages_free, stats.pages_total);
            return false;
        }
        if (abrupt && clock_now_ns() - start > grace_ns) {
            atomic_store(&r->closing, true);
        }
        usleep(1000);
    }
    return true;
}

/* Cancels take effect with the next step; then everything must be as in the beginning. */
static bool nothing_is_lost(struct round *r)
{
    struct phid_engine_stats s;
    for (int i = 0; i < 10000; i++) {
        phid_engine_stats(r->engine, &s);
        if (s.pages_free == s.pages_total && s.running == 0 && s.waiting == 0) {
            break;
        }
        usleep(1000);
    }
    if (s.pages_free != s.pages_total || s.running != 0 || s.waiting != 0) {
        fprintf(stderr, "trace: %zu pages of %zu free, %zu running, %zu waiting at the end\n",
                s.pages_free, s.pages_total, s.running, s.waiting);
        return false;
    }
    if (s.requests_finished + s.requests_cancelled != atomic_load(&r->accepted)) {
        fprintf(stderr, "trace: %llu finished and %llu cancelled of %zu requests\n",
                (unsigned long long)s.requests_finished, (unsigned long long)s.requests_cancelled,
                atomic_load(&r->accepted));
        return false;
    }
    return true;
}

/* Adds the requests that were accepted to *done. */
static bool run_round(const struct wishes *wishes, struct phid_model *model, size_t arrivals,
                      uint64_t seed, size_t *done)
{
    struct rng rng;
    rng_init(&rng, seed);
    size_t kv_type = rng_below(&rng, TRACE_KV_TYPES);
    uint64_t page_bytes = wishes->page_bytes[kv_type];
    bool few_rows = rng_below(&rng, 8) == 0;
    bool few_pages = rng_below(&rng, 2) == 0;
    size_t pages = TRACE_CONTEXT / 64 + rng_below(&rng, few_pages ? 6 : 60);
    const struct phid_engine_options options = {
        .kv_type = trace_kv_types[kv_type],
        .speculation = (enum phid_speculation)rng_below(&rng, 3),
        .prefix_cache_off = rng_below(&rng, 5) == 0,
        .context = TRACE_CONTEXT,
        .max_running = 1 + rng_below(&rng, rng_below(&rng, 8) == 0 ? 4 : 48),
        .step_tokens = few_rows ? 1 + rng_below(&rng, 16) : 16 + rng_below(&rng, 496),
        .queue_tokens = rng_below(&rng, 3) == 0 ? 500 + rng_below(&rng, 3000) : 0,
        .max_wait_ms = rng_below(&rng, 3) == 0 ? 50 + (uint32_t)rng_below(&rng, 2000) : 0,
        .max_overtake_ms = rng_below(&rng, 2) == 0 ? 1 + (uint32_t)rng_below(&rng, 100) : 0,
        .itl_target_ms = rng_below(&rng, 2) == 0 ? 1 + (uint32_t)rng_below(&rng, 50) : 0,
        .queue = 1 + rng_below(&rng, 120),
        .kv_memory_bytes = page_bytes * pages,
    };
    bool abrupt = rng_below(&rng, 6) == 0;
    struct round r = {.wishes = wishes, .kv_type = kv_type, .short_wait = options.max_wait_ms > 0};
    struct phid_error err = {0};
    uint64_t start = clock_now_ns();
    if (phid_engine_new(model, &options, &r.engine, &err) != PHID_OK) {
        fprintf(stderr, "trace: %s\n", err.message);
        return false;
    }
    static struct driver drivers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        drivers[i] = (struct driver){.round = &r, .arrivals = arrivals / THREADS};
        rng_init(&drivers[i].rng, seed * 100 + i);
        if (pthread_create(&drivers[i].thread, NULL, drive, &drivers[i]) != 0) {
            abort();
        }
    }
    uint64_t grace_ns = (100 + rng_below(&rng, 1000)) * (uint64_t)CLOCK_NS_PER_MS;
    bool good = watch_until_parked(&r, abrupt, grace_ns);
    if (abrupt) { /* the engine goes away under the requests */
        atomic_store(&r.closing, true);
        phid_engine_free(r.engine);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(drivers[i].thread, NULL);
    }
    *done += atomic_load(&r.accepted);
    good = good && (abrupt || nothing_is_lost(&r)) && !atomic_load(&r.wrong);
    struct phid_engine_stats s = {0};
    if (!abrupt) {
        phid_engine_stats(r.engine, &s);
        phid_engine_free(r.engine);
    }
    printf("seed %llu%s: %s, %zu seats, %zu rows, %zu pages, speculation %d%s: %zu accepted, "
           "%zu refused, %zu answered to the end, %llu preemptions, %llu tokens found, %llu "
           "guessed, %.1f s%s\n",
           (unsigned long long)seed, abrupt ? " (abrupt)" : "", kv_type == 0 ? "f16" : "int8",
           options.max_running, options.step_tokens, pages, options.speculation,
           options.prefix_cache_off ? ", no prefix cache" : "", atomic_load(&r.accepted),
           atomic_load(&r.refused), atomic_load(&r.survivors), (unsigned long long)s.preemptions,
           (unsigned long long)s.prefix_hits, (unsigned long long)s.draft_accepted,
           clock_seconds_since(start), good ? "" : ": WRONG");
    return good;
}

static void on_alarm(int signal)
{
    static const char message[] = "trace: it hangs\n";
    (void)signal;
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(1);
}

int main(int argc, char **argv)
{
    size_t arrivals = argc > 2 ? strtoull(argv[2], NULL, 10) : ARRIVALS_DEFAULT;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    const struct phid_model_options model_options = {0};
    struct phid_model *model = NULL;
    struct phid_error err = {0};
    struct wishes wishes = {0};
    struct rng rng;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, on_alarm);
    alarm(ALARM_S);
    if (argc < 2 || phid_model_open(argv[1], &model_options, &model, &err) != PHID_OK) {
        fprintf(stderr, "trace_fuzz MODEL [ARRIVALS [SEED]]: %s\n", err.message);
        return 2;
    }
    rng_init(&rng, seed);
    bool good = wishes_make(&wishes, WISHES, model, &rng) && wishes_answer(&wishes, model);
    size_t done = 0;
    for (uint64_t i = 0; done < arrivals && good; i++) {
        size_t left = arrivals - done;
        good = run_round(&wishes, model, left < ROUND_ARRIVALS ? left + THREADS : ROUND_ARRIVALS,
                         seed * 1000 + i, &done);
    }
    wishes_free(&wishes);
    phid_model_close(model);
    return good ? 0 : 1;
}
