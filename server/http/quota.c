#include "server/http/quota.h"

#include <math.h>
#include <stdlib.h>

#define MINUTE_MS 60000.0

void quotas_init(struct quotas *q, const struct quota_limits *limits)
{
    *q = (struct quotas){.limits = *limits};
}

void quotas_fini(struct quotas *q)
{
    while (q->list != NULL) {
        struct quota *quota = q->list;
        q->list = quota->next;
        free(quota);
    }
}

static bool has_limits(const struct quota_limits *l)
{
    return l->in_flight > 0 || l->requests_per_minute > 0 || l->tokens_per_minute > 0;
}

static void fill(const struct quotas *q, struct quota *quota, uint64_t now_ms)
{
    double minutes = (double)(now_ms - quota->filled_ms) / MINUTE_MS;
    double requests = q->limits.requests_per_minute, tokens = (double)q->limits.tokens_per_minute;
    quota->requests = fmin(quota->requests + minutes * requests, requests);
    quota->tokens = fmin(quota->tokens + minutes * tokens, tokens);
    quota->filled_ms = now_ms;
}

/* Keys that have gone (reloaded away) must not pile up. */
static void forget_idle(struct quotas *q, uint64_t now_ms)
{
    for (struct quota **at = &q->list; *at != NULL;) {
        struct quota *quota = *at;
        if (quota->in_flight == 0 && now_ms - quota->filled_ms >= 2 * (uint64_t)MINUTE_MS &&
            quota->tokens >= 0) {
            *at = quota->next;
            free(quota);
        } else {
            at = &quota->next;
        }
    }
}

static struct quota *find(struct quotas *q, uint64_t caller_id, uint64_t now_ms)
{
    struct quota *quota = q->list;
    while (quota != NULL && quota->caller_id != caller_id) {
        quota = quota->next;
    }
    if (quota == NULL) {
        forget_idle(q, now_ms);
        quota = calloc(1, sizeof *quota);
        if (quota != NULL) {
            *quota = (struct quota){.caller_id = caller_id,
                                    .requests = q->limits.requests_per_minute,
                                    .tokens = (double)q->limits.tokens_per_minute,
                                    .filled_ms = now_ms,
                                    .next = q->list};
            q->list = quota;
        }
    }
    return quota;
}

static enum api_fault refuse(struct api_error *err, double wait_ms, const char *what,
                             unsigned long long limit)
{
    double seconds = ceil(wait_ms / 1000 - 1e-6); /* not a whole one for a rounding error */
    api_fail(err, API_RATE_LIMITED, NULL, "Rate limit reached: %llu %s.", limit, what);
    err->retry_after = seconds < 1               ? 1
                       : seconds > API_RETRY_MAX ? API_RETRY_MAX
                                                 : (unsigned)seconds;
    return API_RATE_LIMITED;
}

enum api_fault quota_enter(struct quotas *q, const struct caller *caller, uint64_t now_ms,
                           struct quota **ret_quota, struct api_error *err)
{
    const struct quota_limits *l = &q->limits;
    *ret_quota = NULL;
    if (!has_limits(l)) {
        return API_OK;
    }
    struct quota *quota = find(q, caller->id, now_ms);
    if (quota == NULL) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    fill(q, quota, now_ms);
    if (l->in_flight > 0 && quota->in_flight >= l->in_flight) {
        return refuse(err, 0, "requests in flight", l->in_flight);
    }
    if (l->tokens_per_minute > 0 && quota->tokens <= 0) {
        return refuse(err, (1 - quota->tokens) / (double)l->tokens_per_minute * MINUTE_MS,
                      "tokens per minute", l->tokens_per_minute);
    }
    if (l->requests_per_minute > 0 && quota->requests < 1) {
        return refuse(err, (1 - quota->requests) / l->requests_per_minute * MINUTE_MS,
                      "requests per minute", l->requests_per_minute);
    }
    quota->requests -= 1;
    quota->in_flight++;
    *ret_quota = quota;
    return API_OK;
}

void quota_use(struct quota *quota, size_t tokens)
{
    if (quota != NULL) {
        quota->tokens -= (double)tokens;
    }
}

void quota_leave(struct quota *quota)
{
    if (quota != NULL) {
        quota->in_flight--;
    }
}
