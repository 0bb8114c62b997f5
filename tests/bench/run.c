#include "tests/bench/run.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/clock.h"

#define EVENTS_MAX 1024
#define WAIT_MS    100 /* how late a stop may be noticed */

bool run_init(struct run *r, const struct options *o, const struct target *target,
              struct traffic *traffic)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    *r = (struct run){.options = o, .target = target, .traffic = traffic};
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    r->scratch = malloc(CLIENT_SCRATCH);
    r->trace = o->trace != NULL ? fopen(o->trace, "we") : NULL;
    tally_init(&r->tally, &o->goals);
    return r->epoll_fd >= 0 && r->timer_fd >= 0 && r->scratch != NULL &&
           (o->trace == NULL || r->trace != NULL) &&
           epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->timer_fd, &event) == 0;
}

void run_fini(struct run *r)
{
    for (size_t i = 0; i < r->client_count; i++) {
        client_fini(r->clients[i]);
        free(r->clients[i]);
    }
    free(r->clients);
    free(r->scratch);
    tally_fini(&r->tally);
    if (r->trace != NULL) {
        fclose(r->trace);
    }
    close(r->epoll_fd);
    close(r->timer_fd);
}

static struct client *new_client(struct run *r)
{
    if (r->client_count == r->client_capacity) {
        size_t capacity = r->client_capacity > 0 ? r->client_capacity * 2 : 16;
        struct client **clients = realloc(r->clients, capacity * sizeof(*clients));
        if (clients == NULL) {
            return NULL;
        }
        r->clients = clients;
        r->client_capacity = capacity;
    }
    struct client *c = malloc(sizeof *c);
    if (c != NULL) {
        client_init(c, r->epoll_fd);
        r->clients[r->client_count++] = c;
    }
    return c;
}

static struct client *take_client(struct run *r)
{
    struct client *c = r->free;
    if (c == NULL) {
        return new_client(r);
    }
    r->free = c->next_free;
    return c;
}

/* ------------------------------------------------------------------ results */

static void write_trace(FILE *out, const struct client *c)
{
    static const char *const names[] = {"none", "good", "refused", "failed", "cut"};
    const struct client_result *r = &c->result;
    fprintf(out,
            "{\"start_s\":%.6f,\"outcome\":\"%s\",\"status\":%u,\"ttft_ms\":%.3f,\"e2el_ms\":%.3f,"
            "\"prompt_tokens\":%u,\"cached_tokens\":%u,\"output_tokens\":%u,\"gaps_ms\":[",
            (double)r->start_ns * 1e-9, names[r->outcome], r->status, r->ttft_ms, r->e2el_ms,
            r->usage.prompt_tokens, r->usage.cached_tokens, r->usage.completion_tokens);
    for (size_t i = 0; i < c->gaps.count; i++) {
        fprintf(out, "%s%.3f", i > 0 ? "," : "", (double)c->gaps.values[i]);
    }
    fputs("]}\n", out);
}

static bool may_start(const struct run *r)
{
    return r->started < r->limit && (r->stop_ns == 0 || clock_now_ns() < r->stop_ns);
}

static void take_result(struct run *r, struct client *c)
{
    r->in_flight--;
    tally_add(&r->tally, &c->result, &c->gaps);
    if (r->trace != NULL) {
        write_trace(r->trace, c);
    }
    c->next_free = r->free;
    r->free = c;
}

/* A connection that cannot be made is a result too. */
static void start(struct run *r, struct client *c)
{
    r->started++;
    r->in_flight++;
    if (r->in_flight > r->tally.most_in_flight) {
        r->tally.most_in_flight = r->in_flight;
    }
    if (!client_ask(c, r->target, r->traffic)) {
        take_result(r, c);
    }
}

/* What a client does once its answer is there. */
static void go_on(struct run *r, struct client *c)
{
    bool talking = c->result.outcome == OUTCOME_GOOD && traffic_continues(r->traffic, &c->talk);
    take_result(r, c);
    if (!talking) {
        c->talk.turn = 0;
        buf_clear(&c->talk.history);
    }
    if (!may_start(r)) {
        return;
    }
    if (!r->open || talking || r->late > 0) {
        r->late -= r->open && !talking ? 1 : 0;
        r->free = c->next_free;
        start(r, c);
    }
}

/* ----------------------------------------------------------------- arrivals */

static bool start_another(struct run *r)
{
    struct client *c = take_client(r);
    if (c != NULL) {
        start(r, c);
    }
    return c != NULL;
}

static void set_timer(const struct run *r)
{
    const struct itimerspec when = {.it_value.tv_sec = (time_t)(r->next_ns / CLOCK_NS_PER_S),
                                    .it_value.tv_nsec = (long)(r->next_ns % CLOCK_NS_PER_S)};
    /* Cannot fail: the descriptor and the time are good. */
    (void)timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Everything that has arrived by now. */
static bool arrive(struct run *r)
{
    uint64_t now = clock_now_ns();
    while (r->open && may_start(r) && r->next_ns <= now) {
        r->next_ns += (uint64_t)(traffic_pause(r->traffic) * CLOCK_NS_PER_S);
        if (r->concurrency > 0 && r->in_flight >= r->concurrency) {
            r->late++;
        } else if (!start_another(r)) {
            return false;
        }
    }
    if (r->open) {
        set_timer(r);
    }
    return true;
}

/* -------------------------------------------------------------------- phases */

static void on_timer(const struct run *r)
{
    uint64_t count;
    ssize_t ignored = read(r->timer_fd, &count, sizeof count);
    (void)ignored;
}

static bool loop(struct run *r, const volatile int *stop)
{
    struct epoll_event events[EVENTS_MAX];
    while (!*stop && (r->in_flight > 0 || may_start(r))) {
        int count = epoll_wait(r->epoll_fd, events, EVENTS_MAX, WAIT_MS);
        if (count < 0 && errno != EINTR) {
            return false;
        }
        for (int i = 0; i < count; i++) {
            struct client *c = events[i].data.ptr;
            if (c == NULL) {
                on_timer(r);
            } else if (client_on_event(c, r->target, r->traffic, events[i].events, r->scratch)) {
                go_on(r, c);
            }
        }
        if (!arrive(r)) {
            return false;
        }
        /* A client that could not connect tries again, but not at once. */
        for (size_t i = r->in_flight; !r->open && i < r->concurrency && may_start(r); i++) {
            if (!start_another(r)) {
                return false;
            }
        }
    }
    return true;
}

static bool phase(struct run *r, size_t limit, bool open, size_t concurrency, double duration_s,
                  const volatile int *stop)
{
    r->limit = limit;
    r->open = open;
    r->concurrency = concurrency;
    r->started = r->late = 0;
    r->begin_ns = r->next_ns = clock_now_ns();
    r->stop_ns = duration_s > 0 ? r->begin_ns + (uint64_t)(duration_s * CLOCK_NS_PER_S) : 0;
    for (size_t i = 0; !open && i < concurrency && may_start(r); i++) {
        if (!start_another(r)) {
            return false;
        }
    }
    bool good = loop(r, stop);
    r->tally.seconds = clock_seconds_since(r->begin_ns);
    for (size_t i = 0; i < r->client_count; i++) {
        if (r->clients[i]->busy) {
            client_cut(r->clients[i]);
            take_result(r, r->clients[i]);
        }
    }
    return good;
}

bool run_all(struct run *r, volatile int *stop)
{
    const struct options *o = r->options;
    if (o->warmup > 0) {
        FILE *trace = r->trace;
        size_t most = o->concurrency > 0 ? o->concurrency : 8;
        r->trace = NULL;
        bool good = phase(r, o->warmup, false, o->warmup < most ? o->warmup : most, 0, stop);
        r->trace = trace;
        tally_fini(&r->tally);
        tally_init(&r->tally, &o->goals);
        if (!good) {
            return false;
        }
    }
    size_t limit = o->requests > 0 ? o->requests : SIZE_MAX;
    return phase(r, limit, o->rate > 0, o->concurrency, o->duration_s, stop);
}
