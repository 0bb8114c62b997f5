#include "tests/bench/report.h"

#include <inttypes.h>
#include <jansson.h>

static double per_second(const struct tally *t, double count)
{
    return t->seconds > 0 ? count / t->seconds : 0;
}

/* The times that are reported, by the names of their fields. */
struct times {
    const char *name, *title;
    struct samples *values;
};

enum { TIMES_COUNT = 5 };

static void list_times(struct tally *t, struct times *out)
{
    const struct times all[TIMES_COUNT] = {{"ttft", "Time to first token", &t->ttft},
                                           {"tpot", "Time per output token", &t->tpot},
                                           {"itl", "Inter-token gap", &t->itl},
                                           {"e2el", "Whole request", &t->e2el},
                                           {"refusal", "Refusal", &t->refusal}};
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        out[i] = all[i];
        samples_sort(out[i].values);
    }
}

void report_text(const struct options *o, struct tally *t, FILE *out)
{
    struct times times[TIMES_COUNT];
    double tokens = (double)t->output_tokens;
    list_times(t, times);
    fprintf(out, "requests   good %zu  refused %zu  failed %zu  cut %zu  in flight at most %zu\n",
            t->good, t->refused, t->failed, t->cut, t->most_in_flight);
    for (size_t i = 0; i < t->reason_count; i++) {
        fprintf(out, "           %zu times: %s\n", t->reasons[i].count, t->reasons[i].text);
    }
    fprintf(out, "duration   %.2f s, seed %" PRIu64 "\n", t->seconds, o->seed);
    fprintf(out,
            "tokens     prompt %" PRIu64 " (%" PRIu64 " cached)  output %" PRIu64 " in %" PRIu64
            " pieces\n",
            t->prompt_tokens, t->cached_tokens, t->output_tokens, t->pieces);
    fprintf(out, "per second requests %.3f  goodput %.3f  output tokens %.1f  all tokens %.1f\n",
            per_second(t, (double)t->good), per_second(t, (double)t->within_goals),
            per_second(t, tokens), per_second(t, tokens + (double)t->prompt_tokens));
    fprintf(out, "%-24s %10s %10s %10s %10s %10s\n", "milliseconds", "mean", "median", "p90", "p99",
            "max");
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        const struct samples *s = times[i].values;
        if (s->count > 0) {
            fprintf(out, "%-24s %10.2f %10.2f %10.2f %10.2f %10.2f\n", times[i].title,
                    samples_mean(s), samples_percentile(s, 50), samples_percentile(s, 90),
                    samples_percentile(s, 99), samples_percentile(s, 100));
        }
    }
}

/* -------------------------------------------------------------------- json */

static int put_count(json_t *to, const char *name, uint64_t value)
{
    return json_object_set_new(to, name, json_integer((json_int_t)value));
}

static int put_real(json_t *to, const char *name, double value)
{
    return json_object_set_new(to, name, json_real(value));
}

static int put_text(json_t *to, const char *name, const char *text)
{
    return json_object_set_new(to, name, json_string(text));
}

static int put_settings(json_t *to, const struct options *o, const char *model)
{
    static const char *const workloads[] = {"fixed", "shared-prefix", "multi-turn"};
    int bad = put_text(to, "model_id", model);
    bad |= put_text(to, "endpoint_type", o->chat ? "openai-chat" : "openai");
    bad |= put_text(to, "workload", workloads[o->workload]);
    bad |= put_count(to, "seed", o->seed);
    bad |=
        o->rate > 0 ? put_real(to, "request_rate", o->rate) : put_text(to, "request_rate", "inf");
    bad |= json_object_set_new(to, "max_concurrency",
                               o->concurrency > 0 ? json_integer((json_int_t)o->concurrency)
                                                  : json_null());
    return bad;
}

static int put_counts(json_t *to, const struct tally *t)
{
    int bad = put_real(to, "duration", t->seconds);
    bad |= put_count(to, "num_prompts", t->good + t->refused + t->failed + t->cut);
    bad |= put_count(to, "completed", t->good);
    bad |= put_count(to, "failed", t->failed + t->refused);
    bad |= put_count(to, "refused", t->refused);
    bad |= put_count(to, "cut", t->cut);
    bad |= put_count(to, "malformed_errors", t->malformed);
    bad |= put_count(to, "refused_without_retry_after", t->without_retry_after);
    bad |= put_count(to, "max_concurrent_requests", t->most_in_flight);
    bad |= put_count(to, "total_input_tokens", t->prompt_tokens);
    bad |= put_count(to, "total_cached_tokens", t->cached_tokens);
    bad |= put_count(to, "total_output_tokens", t->output_tokens);
    bad |= put_count(to, "total_pieces", t->pieces);
    json_t *reasons = json_object();
    for (size_t i = 0; i < t->reason_count; i++) {
        bad |= put_count(reasons, t->reasons[i].text, t->reasons[i].count);
    }
    return bad | json_object_set_new(to, "errors", reasons);
}

static int put_rates(json_t *to, const struct options *o, const struct tally *t)
{
    double tokens = (double)t->output_tokens;
    bool limited = o->goals.ttft_ms > 0 || o->goals.tpot_ms > 0 || o->goals.e2el_ms > 0;
    int bad = put_real(to, "request_throughput", per_second(t, (double)t->good));
    bad |= json_object_set_new(to, "request_goodput",
                               limited ? json_real(per_second(t, (double)t->within_goals))
                                       : json_null());
    bad |= put_real(to, "output_throughput", per_second(t, tokens));
    return bad |
           put_real(to, "total_token_throughput", per_second(t, tokens + (double)t->prompt_tokens));
}

static int put_times(json_t *to, const struct times *times)
{
    static const unsigned percents[] = {50, 90, 95, 99};
    char name[40];
    int bad = 0;
    const struct samples *s = times->values;
    snprintf(name, sizeof name, "mean_%s_ms", times->name);
    bad |= put_real(to, name, samples_mean(s));
    snprintf(name, sizeof name, "median_%s_ms", times->name);
    bad |= put_real(to, name, samples_percentile(s, 50));
    snprintf(name, sizeof name, "std_%s_ms", times->name);
    bad |= put_real(to, name, samples_std(s));
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        snprintf(name, sizeof name, "p%u_%s_ms", percents[i], times->name);
        bad |= put_real(to, name, samples_percentile(s, percents[i]));
    }
    snprintf(name, sizeof name, "max_%s_ms", times->name);
    return bad | put_real(to, name, samples_percentile(s, 100));
}

bool report_json(const struct options *o, const char *model, struct tally *t, FILE *out)
{
    struct times times[TIMES_COUNT];
    json_t *root = json_object();
    list_times(t, times);
    int bad = put_settings(root, o, model) | put_counts(root, t) | put_rates(root, o, t);
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        bad |= put_times(root, &times[i]);
    }
    bad |= json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', out);
    json_decref(root);
    return bad == 0;
}
