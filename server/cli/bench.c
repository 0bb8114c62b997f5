#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backend/cpu/calibrate.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/gguf/gguf.h"
#include "server/cli/cli.h"
#include "server/cli/profile.h"
#include "server/cli/random_model.h"
#include "server/cli/workload.h"

#define TOKENS_MAX    ((size_t)1 << 20)
#define SEQUENCES_MAX 256
#define RUNS_MAX      100
#define PAGE_TOKENS   64
#define TURN_LOOK_NS  20000
#define TURN_WAIT_NS  1000000000

/* What to measure, and with what. */
struct bench {
    struct arg_counts prefill, depths, sequences;
    size_t decode_tokens, runs;
    const char *random;
    bool json, profiled;
    struct profile profile; /* of the measurement in progress */
    struct cpu_calibration peak;
    struct workload work;
    struct phid_model *model;
    struct phid_engine *engine;
    struct rng rng;
    size_t vocab_size;
};

struct prefill_result {
    size_t tokens;
    double tok_s, gmac_s, fraction;
};

struct decode_result {
    size_t context, sequences;
    double tok_s, gb_s, fraction;
};

/* ------------------------------------------------------------- requests */

/* Counts wake-ups, so that the measuring thread sleeps between steps. */
struct bell {
    pthread_mutex_t mutex;
    pthread_cond_t rung;
    bool ringing; /* guarded by mutex */
};

static void ring(void *user) /* step thread */
{
    struct bell *bell = user;
    pthread_mutex_lock(&bell->mutex);
    bell->ringing = true;
    pthread_cond_signal(&bell->rung);
    pthread_mutex_unlock(&bell->mutex);
}

static void wait_for_ring(struct bell *bell)
{
    pthread_mutex_lock(&bell->mutex);
    while (!bell->ringing) {
        pthread_cond_wait(&bell->rung, &bell->mutex);
    }
    bell->ringing = false;
    pthread_mutex_unlock(&bell->mutex);
}

/* Submits a prompt of `count` random tokens. */
static enum phid_status submit(struct bench *b, size_t count, size_t max_tokens, struct bell *bell,
                               struct phid_request **ret, struct phid_error *err)
{
    int32_t *prompt = malloc(count * sizeof(*prompt));
    if (prompt == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        prompt[i] = (int32_t)rng_below(&b->rng, b->vocab_size);
    }
    const struct phid_request_params params = {
        .prompt = prompt,
        .prompt_count = count,
        .max_tokens = max_tokens,
        .ignore_eos = true,
        .sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
        .logprobs = -1,
        .id = "bench",
        .wake = bell != NULL ? ring : NULL,
        .wake_user = bell,
    };
    enum phid_status status = phid_engine_submit(b->engine, &params, ret, err);
    free(prompt);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* --------------------------------------------------------------- prefill */

/* The turn that produced a token goes on for a moment, and the engine's counters are complete at
 * its end. */
static void wait_for_turn(struct bench *b, uint64_t sample_ns_before)
{
    const struct timespec nap = {.tv_nsec = TURN_LOOK_NS};
    struct phid_engine_stats stats = {.sample_ns = sample_ns_before};
    for (uint64_t waited = 0; stats.sample_ns == sample_ns_before && waited < TURN_WAIT_NS;
         waited += TURN_LOOK_NS) {
        nanosleep(&nap, NULL);
        phid_engine_stats(b->engine, &stats);
    }
}

/* Seconds from the first step to the first token. */
static enum phid_status time_prefill(struct bench *b, size_t tokens, double *ret_seconds,
                                     struct phid_error *err)
{
    struct phid_request *request = NULL;
    struct phid_output output = {0};
    struct phid_engine_stats before;
    phid_engine_stats(b->engine, &before);
    profile_begin(&b->profile);
    uint64_t start = clock_now_ns();
    enum phid_status status = submit(b, tokens, 1, NULL, &request, err);
    while (status == PHID_OK && output.finish == PHID_FINISH_NONE) {
        phid_request_wait(request, -1);
        phid_request_poll(request, &output);
    }
    double wall = clock_seconds_since(start);
    if (status == PHID_OK && output.finish == PHID_FINISH_ERROR) {
        status = phid_fail(err, output.error.status, "%s", output.error.message);
    }
    if (status == PHID_OK) {
        double measured = (double)(output.first_token_ns - output.queue_ns) * 1e-9;
        *ret_seconds = output.first_token_ns > output.queue_ns ? measured : wall;
        wait_for_turn(b, before.sample_ns);
        profile_end(&b->profile, clock_seconds_since(start) - (double)output.queue_ns * 1e-9);
    }
    phid_request_free(request);
    return status;
}

static enum phid_status measure_prefill(struct bench *b, size_t tokens, struct prefill_result *ret,
                                        struct phid_error *err)
{
    double seconds[RUNS_MAX];
    profile_open(&b->profile, b->engine);
    for (size_t i = 0; i < b->runs; i++) {
        enum phid_status status = time_prefill(b, tokens, &seconds[i], err);
        if (status != PHID_OK) {
            return status;
        }
    }
    double typical = median(seconds, b->runs);
    double gmac_s = workload_prefill_macs(&b->work, tokens) / typical * 1e-9;
    *ret = (struct prefill_result){
        .tokens = tokens,
        .tok_s = (double)tokens / typical,
        .gmac_s = gmac_s,
        .fraction = b->peak.int8_gmac_s > 0 ? gmac_s / b->peak.int8_gmac_s : 0,
    };
    return PHID_OK;
}

/* ---------------------------------------------------------------- decode */

/* Sequences that decode side by side. */
struct flock {
    struct phid_request *requests[SEQUENCES_MAX];
    size_t produced[SEQUENCES_MAX]; /* tokens of each answer */
    size_t count;
    size_t total; /* tokens of all answers */
    bool started; /* each has one */
    struct bell bell;
};

/* Waits for tokens and takes what is there. */
static enum phid_status take_tokens(struct flock *f, struct phid_error *err)
{
    struct phid_output output;
    wait_for_ring(&f->bell);
    f->total = 0;
    f->started = true;
    for (size_t i = 0; i < f->count; i++) {
        while (phid_request_poll(f->requests[i], &output)) {
            f->produced[i] = output.completion_tokens;
            if (output.finish == PHID_FINISH_ERROR) {
                return phid_fail(err, output.error.status, "%s", output.error.message);
            }
            if (output.finish != PHID_FINISH_NONE) {
                return phid_fail(err, PHID_ERR_INTERNAL, "an answer ended before it was measured");
            }
        }
        f->total += f->produced[i];
        f->started = f->started && f->produced[i] > 0;
    }
    return PHID_OK;
}

/* Until each has its first token. */
static enum phid_status start_flock(struct bench *b, struct flock *f, size_t context,
                                    size_t sequences, struct phid_error *err)
{
    size_t prompt = context > 0 ? context : 1;
    enum phid_status status = PHID_OK;
    while (status == PHID_OK && f->count < sequences) {
        status = submit(b, prompt, phid_engine_info(b->engine)->context - prompt, &f->bell,
                        &f->requests[f->count], err);
        f->count += status == PHID_OK ? 1 : 0;
    }
    while (status == PHID_OK && !f->started) {
        status = take_tokens(f, err);
    }
    return status;
}

/* Tokens a second of all sequences together while each gets decode_tokens more. */
static enum phid_status time_decode(struct bench *b, struct flock *f, double *ret_tok_s,
                                    struct phid_error *err)
{
    enum phid_status status = PHID_OK;
    const size_t before = f->total;
    profile_begin(&b->profile);
    uint64_t start = clock_now_ns();
    while (status == PHID_OK && f->total - before < b->decode_tokens * f->count) {
        status = take_tokens(f, err);
    }
    double seconds = clock_seconds_since(start);
    *ret_tok_s = (double)(f->total - before) / seconds;
    profile_end(&b->profile, seconds);
    return status;
}

/* The runs follow each other: a long context is computed once. */
static enum phid_status measure_decode(struct bench *b, size_t context, size_t sequences,
                                       struct decode_result *ret, struct phid_error *err)
{
    double rates[RUNS_MAX];
    struct flock f = {
        .bell = {.mutex = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER}};
    profile_open(&b->profile, b->engine);
    enum phid_status status = start_flock(b, &f, context, sequences, err);
    for (size_t i = 0; i < b->runs && status == PHID_OK; i++) {
        status = time_decode(b, &f, &rates[i], err);
    }
    for (size_t i = 0; i < f.count; i++) {
        phid_request_free(f.requests[i]);
    }
    if (status != PHID_OK) {
        return status;
    }
    double typical = median(rates, b->runs);
    double mean_context = (double)context + (double)(b->runs * b->decode_tokens) / 2;
    double steps_s = typical / (double)sequences;
    double gb_s = steps_s * workload_step_bytes(&b->work, sequences, mean_context) * 1e-9;
    *ret = (struct decode_result){
        .context = context,
        .sequences = sequences,
        .tok_s = typical,
        .gb_s = gb_s,
        .fraction = b->peak.read_gb_s > 0 ? gb_s / b->peak.read_gb_s : 0,
    };
    return PHID_OK;
}

/* ---------------------------------------------------------------- output */

static void print_calibration(const struct bench *b)
{
    const struct cpu_calibration *p = &b->peak;
    if (b->json) {
        printf("{\"calibration\":{\"threads\":%zu,\"isa\":\"%s\",\"read_gb_s\":%.3f,\"int8_gmac_"
               "s\":%.3f,\"f32_gfma_s\":%.3f}",
               p->threads, p->isa, p->read_gb_s, p->int8_gmac_s, p->f32_gfma_s);
    } else {
        printf("peaks of this machine, %zu threads, %s: %.1f GB/s read, %.1f GMAC/s int8, %.1f "
               "GFMA/s f32\n\n",
               p->threads, p->isa, p->read_gb_s, p->int8_gmac_s, p->f32_gfma_s);
        printf("%-8s %8s %10s %10s %12s %9s\n", "", "tokens", "sequences", "tok/s", "", "of peak");
        fflush(stdout);
    }
}

static void print_prefill(const struct bench *b, const struct prefill_result *r, bool first)
{
    if (b->json) {
        printf("%s{\"tokens\":%zu,\"tok_s\":%.3f,\"gmac_s\":%.3f,\"fraction\":%.4f",
               first ? "" : ",", r->tokens, r->tok_s, r->gmac_s, r->fraction);
    } else {
        printf("%-8s %8zu %10s %10.1f %5.1f GMAC/s %8.1f%%\n", "prefill", r->tokens, "", r->tok_s,
               r->gmac_s, 100 * r->fraction);
        fflush(stdout);
    }
}

static void print_decode(const struct bench *b, const struct decode_result *r, bool first)
{
    if (b->json) {
        printf(
            "%s{\"context\":%zu,\"sequences\":%zu,\"tok_s\":%.3f,\"gb_s\":%.3f,\"fraction\":%.4f",
            first ? "" : ",", r->context, r->sequences, r->tok_s, r->gb_s, r->fraction);
    } else {
        printf("%-8s %8zu %10zu %10.1f %7.1f GB/s %8.1f%%\n", "decode", r->context, r->sequences,
               r->tok_s, r->gb_s, 100 * r->fraction);
        fflush(stdout);
    }
}

/* --------------------------------------------------------------- command */

static void print_profile(const struct bench *b)
{
    if (b->profiled) {
        profile_print(&b->profile, b->json);
    }
    if (b->json) {
        printf("}");
    }
    fflush(stdout);
}

static enum phid_status measure_all(struct bench *b, struct phid_error *err)
{
    enum phid_status status = PHID_OK;
    bool first = true;
    print_calibration(b);
    if (b->json) {
        printf(",\"prefill\":[");
    }
    for (size_t i = 0; i < b->prefill.count && status == PHID_OK; i++) {
        struct prefill_result result = {0};
        if (b->prefill.items[i] > 0 &&
            (status = measure_prefill(b, b->prefill.items[i], &result, err)) == PHID_OK) {
            print_prefill(b, &result, first);
            print_profile(b);
            first = false;
        }
    }
    first = true;
    if (b->json) {
        printf("],\"decode\":[");
    }
    for (size_t i = 0;
         b->decode_tokens > 0 && i < b->depths.count * b->sequences.count && status == PHID_OK;
         i++) {
        struct decode_result result = {0};
        status = measure_decode(b, b->depths.items[i / b->sequences.count],
                                b->sequences.items[i % b->sequences.count], &result, err);
        if (status == PHID_OK) {
            print_decode(b, &result, first);
            print_profile(b);
            first = false;
        }
    }
    if (b->json) {
        printf("]}\n");
    }
    return status;
}

static size_t largest(const struct arg_counts *counts)
{
    size_t most = 0;
    for (size_t i = 0; i < counts->count; i++) {
        most = counts->items[i] > most ? counts->items[i] : most;
    }
    return most;
}

/* Tokens a sequence must hold: its context, the tokens of all runs, and those that the sequences
 * started first produce until the last one has started. */
static size_t decode_room(const struct bench *b, size_t sequences, size_t step_tokens)
{
    size_t prompts = sequences * (largest(&b->depths) + 1);
    return largest(&b->depths) + b->runs * b->decode_tokens +
           2 * (prompts / (step_tokens > sequences ? step_tokens - sequences : 1)) + 2 * sequences +
           16;
}

/* Small models are fast, and this thread may come late to its measurement: more tokens, as far as
 * the model and 64 MiB of KV memory go. */
static size_t spare_room(const struct bench *b, size_t sequences, size_t context)
{
    size_t trained = phid_model_info(b->model)->context_length;
    uint64_t spare = ((uint64_t)64 << 20) / (sequences * b->work.kv_token_bytes + 1);
    size_t left = trained > context ? trained - context : 0;
    return spare < left ? (size_t)spare : left;
}

static enum phid_status start_engine(struct bench *b, const struct config *config,
                                     struct phid_error *err)
{
    struct phid_engine_options options;
    cli_engine_options(config, &options);
    size_t sequences = largest(&b->sequences);
    size_t room = decode_room(b, sequences, options.step_tokens);
    size_t context = largest(&b->prefill) + 16 > room ? largest(&b->prefill) + 16 : room;
    context = (context + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS;
    if (context > phid_model_info(b->model)->context_length) {
        return phid_fail(err, PHID_ERR_CONTEXT,
                         "this needs a context of %zu tokens, but the model has %zu", context,
                         phid_model_info(b->model)->context_length);
    }
    size_t spare = spare_room(b, sequences, context) / PAGE_TOKENS * PAGE_TOKENS;
    context += spare;
    room += spare;
    options.context = context;
    options.max_running = sequences;
    options.queue_tokens = 0;
    options.max_wait_ms = 0;
    options.profile = b->profiled;
    options.itl_target_ms = 3600 * 1000; /* whole steps: nobody waits for an answer here */
    if (options.longrope == PHID_LONGROPE_HF) {
        options.longrope = PHID_LONGROPE_LONG; /* nothing is computed again in the middle */
    }
    options.prefix_cache_off = true;
    options.speculation = PHID_SPECULATION_OFF; /* random weights repeat themselves */
    if (options.kv_memory_bytes == 0) {
        uint64_t kv_tokens = (uint64_t)sequences * (room + PAGE_TOKENS);
        kv_tokens = kv_tokens > context + PAGE_TOKENS ? kv_tokens : context + PAGE_TOKENS;
        options.kv_memory_bytes = kv_tokens * b->work.kv_token_bytes;
    }
    enum phid_status status = phid_engine_new(b->model, &options, &b->engine, err);
    if (status == PHID_OK) {
        /* Some types take more memory than in the file. */
        b->work.step_bytes = phid_engine_info(b->engine)->step_bytes;
    }
    return status;
}

static enum phid_status open_model(struct bench *b, const struct config *config,
                                   struct random_model *random, struct phid_error *err)
{
    struct gguf_file *file = NULL;
    char *path = NULL;
    enum phid_status status;
    if (b->random != NULL) {
        status = random_model_make(b->random, random, err);
        path = status == PHID_OK ? str_dup(str_of(random->path)) : NULL;
    } else {
        status = cli_model_path(config, &path, err);
    }
    if (status == PHID_OK && path == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    if (status == PHID_OK) {
        status = gguf_open(path, &file, err);
    }
    if (status == PHID_OK) {
        status = workload_of(file, config->engine.kv_type, &b->work, err);
    }
    gguf_close(file);
    if (status == PHID_OK) {
        struct phid_model_options options = {.template_name = "none"};
        status = phid_model_open(path, &options, &b->model, err);
    }
    free(path);
    return status;
}

static enum phid_status bench(struct bench *b, const struct config *config, struct phid_error *err)
{
    struct random_model random = {.fd = -1};
    /* The peaks are measured before anything else runs or takes memory, which random weights do and
     * a file that is only mapped does not; a bad file is known at once. */
    enum phid_status status = b->random == NULL ? open_model(b, config, &random, err) : PHID_OK;
    if (status == PHID_OK) {
        status = cpu_calibrate((size_t)config->engine.threads, config_isas[config->engine.isa],
                               &b->peak, err);
    }
    if (status == PHID_OK && b->random != NULL) {
        status = open_model(b, config, &random, err);
    }
    if (status == PHID_OK) {
        b->vocab_size = phid_model_info(b->model)->vocab_size;
        rng_init(&b->rng, 1);
        status = start_engine(b, config, err);
    }
    if (status == PHID_OK) {
        status = measure_all(b, err);
    }
    phid_engine_free(b->engine);
    phid_model_close(b->model);
    random_model_free(&random);
    return status;
}

static int check_usage(const struct bench *b, const struct args *args)
{
    if ((b->random != NULL) == (args->config.model.path != NULL)) {
        return cli_usage("bench: expected one of -m and --random");
    }
    for (size_t i = 0; i < b->sequences.count; i++) {
        if (b->sequences.items[i] == 0) {
            return cli_usage("-b: expected at least 1");
        }
    }
    if (b->runs == 0) {
        return cli_usage("-r: expected at least 1");
    }
    return -1;
}

int cli_bench(int argc, char **argv)
{
    struct bench b = {
        .prefill = {.items = {512}, .count = 1},
        .depths = {.items = {0}, .count = 1},
        .sequences = {.items = {1}, .count = 1},
        .decode_tokens = 64,
        .runs = 3,
    };
    const struct arg table[] = {
        {.name = "--random",
         .kind = ARG_TEXT,
         .dest = &b.random,
         .metavar = "SHAPE:TYPE",
         .help = "random weights in place of -m, e.g. phi-3.5-mini:q4_k_m"},
        {.name = "--prefill",
         .letter = 'p',
         .kind = ARG_COUNTS,
         .dest = &b.prefill,
         .max = TOKENS_MAX,
         .metavar = "N,...",
         .help = "prompt lengths to measure (512); 0 is none"},
        {.name = "--decode",
         .letter = 'n',
         .kind = ARG_COUNT,
         .dest = &b.decode_tokens,
         .max = TOKENS_MAX,
         .metavar = "N",
         .help = "tokens to decode a sequence (64); 0 is no decode"},
        {.name = "--depth",
         .letter = 'd',
         .kind = ARG_COUNTS,
         .dest = &b.depths,
         .max = TOKENS_MAX,
         .metavar = "N,...",
         .help = "tokens in the context before decoding (0)"},
        {.name = "--sequences",
         .letter = 'b',
         .kind = ARG_COUNTS,
         .dest = &b.sequences,
         .max = SEQUENCES_MAX,
         .metavar = "N,...",
         .help = "sequences decoded at once (1)"},
        {.name = "--runs",
         .letter = 'r',
         .kind = ARG_COUNT,
         .dest = &b.runs,
         .max = RUNS_MAX,
         .metavar = "N",
         .help = "runs of each, of which the median counts (3)"},
        {.name = "--profile",
         .kind = ARG_SWITCH,
         .dest = &b.profiled,
         .help = "time, bytes, multiply-adds and waiting of each operation"},
        {.name = "--json", .kind = ARG_SWITCH, .dest = &b.json, .help = "one JSON object"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("bench"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    code = check_usage(&b, &args);
    if (code < 0) {
        code = bench(&b, &args.config, &err) == PHID_OK ? CLI_OK : cli_fail(&err);
    }
    args_fini(&args);
    return code;
}
