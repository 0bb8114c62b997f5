#include "server/metrics/metrics.h"

#include <stdio.h>
#include <sys/resource.h>

#include "server/metrics/exposition.h"

#define STATUS_CLIENT_GONE 499 /* as other servers log it; never sent */
#define LABELS_MAX         16384

void metrics_count_request(struct metrics *m, size_t path, unsigned status)
{
    size_t slot = 0;
    status = status > 0 ? status : STATUS_CLIENT_GONE;
    while (slot + 1 < METRICS_STATUSES && m->statuses[slot] != status && m->statuses[slot] != 0) {
        slot++;
    }
    m->statuses[slot] = status;
    m->requests[path < METRICS_PATHS ? path : 0][slot]++;
}

void metrics_count_fault(struct metrics *m, enum api_fault fault)
{
    if (fault > API_OK && fault < API_FAULT_COUNT) {
        m->faults[fault]++;
    }
}

static const uint64_t sizes[METRICS_SIZES] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

static void count_size(struct metrics_sizes *s, size_t value)
{
    size_t i = 0;
    while (i < METRICS_SIZES && value > sizes[i]) {
        i++;
    }
    s->counts[i]++;
    s->sum += value;
}

void metrics_count_answer(struct metrics *m, size_t candidates, size_t longest)
{
    count_size(&m->candidates, candidates);
    count_size(&m->longest, longest);
}

/* A name with a value, under both families of names where the other servers have it too. */
struct row {
    const char *name;   /* ours, after "phid_" */
    const char *common; /* the name that is usual elsewhere, after "vllm:"; NULL: none */
    const char *help;
};

/* Ours go without labels: one process serves one model, phid_info names it. */
static void put_row(struct buf *out, const struct row *row, const char *type, const char *labels,
                    double value)
{
    char name[96];
    snprintf(name, sizeof name, "phid_%s", row->name);
    exposition_family(out, name, type, row->help);
    exposition_real(out, name, "", value);
    if (row->common != NULL) {
        snprintf(name, sizeof name, "vllm:%s", row->common);
        exposition_family(out, name, type, row->help);
        exposition_real(out, name, labels, value);
    }
}

/* --------------------------------------------------------------- the engine */

static double usage_of(const struct phid_engine_stats *s)
{
    return s->pages_total > 0 ? 1 - (double)s->pages_free / (double)s->pages_total : 0;
}

static void put_gauges(struct buf *out, const struct phid_engine_stats *s, const char *labels)
{
    const struct {
        struct row row;
        double value;
    } gauges[] = {
        {{"requests_running", "num_requests_running", "Requests that take part in steps."},
         (double)s->running},
        {{"requests_waiting", "num_requests_waiting", "Requests that wait for a seat or pages."},
         (double)s->waiting},
        {{"kv_usage_ratio", "kv_cache_usage_perc", "Share of the KV pages in use, 0 to 1."},
         usage_of(s)},
        {{"kv_pages", NULL, "KV pages there are."}, (double)s->pages_total},
        {{"kv_pages_free", NULL, "KV pages that a request could have at once."},
         (double)s->pages_free},
        {{"kv_pages_cached", NULL, "Of these, pages kept for prompts that begin alike."},
         (double)s->pages_cached},
        {{"step_stalled_seconds", NULL, "For how long nothing has moved although there is work."},
         (double)s->stalled_ns * 1e-9},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        put_row(out, &gauges[i].row, "gauge", labels, gauges[i].value);
    }
}

static void put_counters(struct buf *out, const struct phid_engine_stats *s, const char *labels)
{
    const struct {
        struct row row;
        uint64_t value;
    } counters[] = {
        {{"prompt_tokens_total", "prompt_tokens_total", "Prompt tokens of requests answered."},
         s->prompt_tokens},
        {{"generation_tokens_total", "generation_tokens_total", "Tokens generated."},
         s->tokens_decoded},
        {{"prefill_tokens_total", NULL, "Prompt tokens computed, those computed again too."},
         s->tokens_prefilled},
        {{"steps_total", NULL, "Passes over the weights."}, s->steps},
        {{"preemptions_total", "num_preemptions_total",
          "Requests that gave their pages up and were computed again."},
         s->preemptions},
        {{"prefix_cache_queries_total", "prefix_cache_queries_total",
          "Prompt tokens looked up among the pages of other requests."},
         s->prefix_queries},
        {{"prefix_cache_hits_total", "prefix_cache_hits_total",
          "Of these, tokens that were found computed."},
         s->prefix_hits},
        {{"prefix_cache_evictions_total", NULL, "Cached pages that were used for something else."},
         s->prefix_evictions},
        {{"spec_decode_num_drafts_total", "spec_decode_num_drafts_total",
          "Times that tokens were guessed ahead."},
         s->drafts},
        {{"spec_decode_num_draft_tokens_total", "spec_decode_num_draft_tokens_total",
          "Tokens guessed ahead."},
         s->draft_tokens},
        {{"spec_decode_num_accepted_tokens_total", "spec_decode_num_accepted_tokens_total",
          "Of these, tokens that came true."},
         s->draft_accepted},
        {{"corrupted_requests_total", "corrupted_requests_total",
          "Requests ended because the model's logits were not numbers."},
         s->corrupted},
    };
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        put_row(out, &counters[i].row, "counter", labels, (double)counters[i].value);
    }
}

/* Where the time of all steps went. */
static void put_step_seconds(struct buf *out, const struct phid_engine_stats *s)
{
    static const char name[] = "phid_step_seconds_total";
    exposition_family(out, name, "counter",
                      "Time of all steps: planning, the device, choosing tokens and their text.");
    exposition_real(out, name, "part=\"host\"", (double)s->host_ns * 1e-9);
    exposition_real(out, name, "part=\"device\"", (double)s->device_ns * 1e-9);
    exposition_real(out, name, "part=\"sample\"", (double)s->sample_ns * 1e-9);
}

static void put_finishes(struct buf *out, const struct phid_engine_stats *s, const char *prefix,
                         const char *family, const char *key, const char *labels)
{
    static const struct {
        const char *reason;
        enum phid_finish finish;
    } finishes[] = {{"stop", PHID_FINISH_STOP},
                    {"length", PHID_FINISH_LENGTH},
                    {"abort", PHID_FINISH_CANCELLED},
                    {"error", PHID_FINISH_ERROR}};
    char name[96];
    snprintf(name, sizeof name, "%s%s", prefix, family);
    exposition_family(out, name, "counter", "Requests of the engine by how they ended.");
    for (size_t i = 0; i < sizeof finishes / sizeof finishes[0]; i++) {
        struct buf both;
        buf_init(&both, LABELS_MAX);
        buf_append_c(&both, labels);
        exposition_label(&both, key, str_of(finishes[i].reason));
        if (!both.failed) {
            exposition_sample(out, name, both.data, s->finished[finishes[i].finish]);
        }
        buf_fini(&both);
    }
}

/* Guesses that came true by their place; the first is 0. */
static void put_accepted(struct buf *out, const struct phid_engine_stats *s, const char *prefix,
                         const char *labels)
{
    char name[96];
    struct buf both;
    buf_init(&both, LABELS_MAX);
    snprintf(name, sizeof name, "%sspec_decode_num_accepted_tokens_per_pos_total", prefix);
    exposition_family(out, name, "counter", "Guesses that came true, by their place.");
    for (size_t i = 0; i < PHID_DRAFT_PLACES; i++) {
        char place[8];
        snprintf(place, sizeof place, "%zu", i);
        buf_clear(&both);
        buf_append_c(&both, labels);
        exposition_label(&both, "position", str_of(place));
        if (!both.failed) {
            exposition_sample(out, name, both.data, s->draft_accepted_at[i]);
        }
    }
    buf_fini(&both);
}

static const struct row histogram_rows[PHID_HISTOGRAMS] = {
    [PHID_HISTOGRAM_FIRST_TOKEN] = {"time_to_first_token_seconds", "time_to_first_token_seconds",
                                    "From a request's arrival to its first token."},
    [PHID_HISTOGRAM_INTER_TOKEN] = {"inter_token_latency_seconds", "inter_token_latency_seconds",
                                    "Between two steps that gave a request tokens."},
    [PHID_HISTOGRAM_PER_TOKEN] = {"request_time_per_output_token_seconds",
                                  "request_time_per_output_token_seconds",
                                  "Mean time per token of a request, after the first."},
    [PHID_HISTOGRAM_WHOLE] = {"e2e_request_latency_seconds", "e2e_request_latency_seconds",
                              "From a request's arrival to its end."},
    [PHID_HISTOGRAM_QUEUE] = {"request_queue_time_seconds", "request_queue_time_seconds",
                              "From the queue to the first seat in a step."},
    [PHID_HISTOGRAM_PREFILL] = {"request_prefill_time_seconds", "request_prefill_time_seconds",
                                "From the first seat to the first token."},
    [PHID_HISTOGRAM_DECODE] = {"request_decode_time_seconds", "request_decode_time_seconds",
                               "From the first token to the last."},
    [PHID_HISTOGRAM_INFERENCE] = {"request_inference_time_seconds",
                                  "request_inference_time_seconds",
                                  "From the first seat to the end."},
    [PHID_HISTOGRAM_PROMPT_TOKENS] = {"request_prompt_tokens", "request_prompt_tokens",
                                      "Tokens of a prompt."},
    [PHID_HISTOGRAM_COMPUTED_TOKENS] = {"request_prefill_kv_computed_tokens",
                                        "request_prefill_kv_computed_tokens",
                                        "Tokens of a prompt that were not found computed."},
    [PHID_HISTOGRAM_ANSWER_TOKENS] = {"request_generation_tokens", "request_generation_tokens",
                                      "Tokens of an answer."},
    [PHID_HISTOGRAM_MAX_TOKENS] = {"request_params_max_tokens", "request_params_max_tokens",
                                   "Tokens that an answer might have had."},
    [PHID_HISTOGRAM_STEP_ROWS] = {"iteration_tokens_total", "iteration_tokens_total",
                                  "Tokens computed in one step."},
};

static void put_histogram(struct buf *out, const struct row *row, const struct phid_histogram *h,
                          const char *labels)
{
    char name[96];
    snprintf(name, sizeof name, "phid_%s", row->name);
    exposition_family(out, name, "histogram", row->help);
    exposition_histogram(out, name, "", h);
    snprintf(name, sizeof name, "vllm:%s", row->common);
    exposition_family(out, name, "histogram", row->help);
    exposition_histogram(out, name, labels, h);
}

static void put_histograms(struct buf *out, struct phid_engine *engine, const char *labels)
{
    for (size_t i = 0; i < PHID_HISTOGRAMS; i++) {
        struct phid_histogram h;
        phid_engine_histogram(engine, (enum phid_histogram_id)i, &h);
        put_histogram(out, &histogram_rows[i], &h, labels);
    }
}

static void put_info(struct buf *out, const struct metrics_now *now, const char *labels)
{
    const struct phid_engine_info *info = phid_engine_info(now->engine);
    struct phid_engine_stats s;
    struct buf more;
    phid_engine_stats(now->engine, &s);
    size_t page = s.pages_total > 0 ? info->kv_tokens / s.pages_total : 0;
    buf_init(&more, LABELS_MAX);
    exposition_label(&more, "version", str_of(phid_version()));
    exposition_label(&more, "commit", str_of(phid_commit()));
    exposition_label(&more, "model", str_of(now->model));
    exposition_label(&more, "isa", str_of(info->isa != NULL ? info->isa : ""));
    exposition_family(out, "phid_info", "gauge", "What serves: always 1.");
    exposition_sample(out, "phid_info", more.failed ? "" : more.data, 1);
    buf_clear(&more);
    buf_printf(&more, "%s,block_size=\"%zu\",num_gpu_blocks=\"%zu\"", labels, page, s.pages_total);
    exposition_family(out, "vllm:cache_config_info", "gauge",
                      "Tokens of a KV page and number of pages: always 1.");
    exposition_sample(out, "vllm:cache_config_info", more.failed ? labels : more.data, 1);
    buf_fini(&more);
}

static void put_engine(struct buf *out, const struct metrics_now *now, const char *labels)
{
    struct phid_engine_stats s;
    phid_engine_stats(now->engine, &s);
    put_info(out, now, labels);
    put_gauges(out, &s, labels);
    put_counters(out, &s, labels);
    put_step_seconds(out, &s);
    put_accepted(out, &s, "phid_", "");
    put_accepted(out, &s, "vllm:", labels);
    put_finishes(out, &s, "phid_", "requests_finished_total", "reason", "");
    put_finishes(out, &s, "vllm:", "request_success_total", "finished_reason", labels);
    put_histograms(out, now->engine, labels);
}

/* --------------------------------------------------------------- the server */

static void put_requests(const struct metrics *m, const struct metrics_now *now, struct buf *out)
{
    struct buf labels;
    buf_init(&labels, LABELS_MAX);
    exposition_family(out, "phid_http_requests_total", "counter",
                      "Requests answered; status 499 is a client that left before its answer.");
    for (size_t path = 0; path < METRICS_PATHS && now->path_name(path) != NULL; path++) {
        for (size_t i = 0; i < METRICS_STATUSES; i++) {
            if (m->requests[path][i] == 0) {
                continue;
            }
            char status[16];
            snprintf(status, sizeof status, "%u", m->statuses[i]);
            buf_clear(&labels);
            exposition_label(&labels, "path", str_of(now->path_name(path)));
            exposition_label(&labels, "status", str_of(status));
            if (!labels.failed) {
                exposition_sample(out, "phid_http_requests_total", labels.data,
                                  m->requests[path][i]);
            }
        }
    }
    buf_fini(&labels);
}

/* All errors with the code of `fault`, which several faults may share. False when an earlier one
 * has it: then they are counted there. */
static bool sum_of_code(const struct metrics *m, size_t fault, uint64_t *ret)
{
    const char *code = api_error_code((enum api_fault)fault);
    uint64_t sum = 0;
    for (size_t i = API_OK + 1; i < API_FAULT_COUNT; i++) {
        if (strcmp(api_error_code((enum api_fault)i), code) == 0) {
            if (i < fault) {
                return false;
            }
            sum += m->faults[i];
        }
    }
    *ret = sum;
    return true;
}

static void put_sizes(struct buf *out, const struct metrics_sizes *s, size_t bounds,
                      const struct row *row, const char *labels)
{
    struct phid_histogram h = {.bounds = sizes, .bound_count = bounds, .sum = s->sum};
    for (size_t i = 0; i <= METRICS_SIZES; i++) {
        h.counts[i < bounds ? i : bounds] += s->counts[i];
    }
    put_histogram(out, row, &h, labels);
}

/* Of requests as clients count them: the engine has one for each candidate. */
static void put_answers(const struct metrics *m, struct buf *out, const char *labels)
{
    put_sizes(out, &m->candidates, 8,
              &(struct row){"request_params_n", "request_params_n",
                            "Candidates that a request asked for."},
              labels);
    put_sizes(out, &m->longest, METRICS_SIZES,
              &(struct row){"request_max_num_generation_tokens",
                            "request_max_num_generation_tokens",
                            "Tokens of the longest candidate of a request."},
              labels);
}

static bool is_refusal(size_t fault)
{
    unsigned status = api_error_status((enum api_fault)fault);
    return status == 429 || status == 503;
}

static void put_faults(const struct metrics *m, const char *name, const char *help,
                       const char *common, const char *key, bool refusals, struct buf *out)
{
    struct buf labels;
    buf_init(&labels, LABELS_MAX);
    exposition_family(out, name, "counter", help);
    for (size_t i = API_OK + 1; i < API_FAULT_COUNT; i++) {
        uint64_t count = 0;
        if ((refusals && !is_refusal(i)) || !sum_of_code(m, i, &count) ||
            (!refusals && count == 0)) {
            continue;
        }
        buf_clear(&labels);
        buf_append_c(&labels, common);
        exposition_label(&labels, key, str_of(api_error_code((enum api_fault)i)));
        if (!labels.failed) {
            exposition_sample(out, name, labels.data, count);
        }
    }
    buf_fini(&labels);
}

static void put_server(const struct metrics *m, const struct metrics_now *now, struct buf *out)
{
    const struct {
        struct row row;
        double value;
        bool counts;
    } rows[] = {
        {{"ready", NULL, "1 when new requests are taken, as /ready says."}, now->ready, false},
        {{"draining", NULL, "1 from the signal to stop on."}, now->draining, false},
        {{"connections_open", NULL, "Connections open."}, (double)now->connections, false},
        {{"http_requests_active", NULL, "Requests being answered."}, (double)now->requests, false},
        {{"requests_preparing", NULL, "Requests being parsed and tokenized."},
         (double)now->preparing,
         false},
        {{"request_body_bytes", NULL, "Bytes of request bodies held."},
         (double)now->body_bytes,
         false},
        {{"connections_total", NULL, "Connections accepted."}, (double)m->connections, true},
        {{"clients_gone_total", NULL, "Clients that left before the end of their answer."},
         (double)m->clients_gone,
         true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_row(out, &rows[i].row, rows[i].counts ? "counter" : "gauge", "", rows[i].value);
    }
    put_requests(m, now, out);
    put_faults(m, "phid_errors_total", "Errors answered, by their code.", "", "code", false, out);
}

static void put_process(struct buf *out)
{
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        double seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
        exposition_family(out, "process_cpu_seconds_total", "counter",
                          "Processor time of all threads.");
        exposition_real(out, "process_cpu_seconds_total", "", seconds);
    }
}

void metrics_write(const struct metrics *m, const struct metrics_now *now, struct buf *out)
{
    put_server(m, now, out);
    put_process(out);
    if (now->engine == NULL) {
        return;
    }
    struct buf labels;
    buf_init(&labels, LABELS_MAX);
    exposition_label(&labels, "model_name", str_of(now->model));
    exposition_label(&labels, "engine", STR("0"));
    if (labels.failed) {
        out->failed = true; /* no memory: the reply says so */
    } else {
        put_engine(out, now, labels.data);
        put_answers(m, out, labels.data);
        put_faults(m, "vllm:admission_rejections_total", "Requests refused, by the reason.",
                   labels.data, "reason", true, out);
    }
    buf_fini(&labels);
}
