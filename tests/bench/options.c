#include "tests/bench/options.h"

#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/clock.h"

#define EXTRA_MAX ((size_t)1 << 20)
#define COUNT_MAX 100000000.0

static const char usage[] =
    "usage: load --url http://HOST:PORT [options]\n"
    "\n"
    "  --url URL              the server, with or without /v1\n"
    "  --model NAME           default: the first that the server lists\n"
    "  --api-key KEY\n"
    "  --endpoint NAME        completions (default) or chat\n"
    "  --header 'NAME: TEXT'  on every request; repeatable\n"
    "  --extra JSON           an object whose members go into every request\n"
    "traffic\n"
    "  --workload NAME        fixed (default), shared-prefix or multi-turn\n"
    "  --prompt-tokens N      random tokens of a prompt, or of each turn (128)\n"
    "  --answer-tokens N      max_tokens, and min_tokens with ignore_eos (64)\n"
    "  --spread PART          lengths differ by up to this part of themselves (0)\n"
    "  --prefix-tokens N      of shared-prefix: tokens before each prompt (1024)\n"
    "  --prefixes N           of shared-prefix: how many different ones (1)\n"
    "  --turns N              of multi-turn: questions of a conversation (4)\n"
    "  --ids LOW-HIGH         the token ids of random prompts (300-30000)\n"
    "  --words                prompts are random words, as they always are for chat and "
    "multi-turn\n"
    "  --plain                no ignore_eos and min_tokens: for services that refuse them\n"
    "  --temperature T        (0)\n"
    "  --seed N               of all that is random; default: another one each time\n"
    "load\n"
    "  --concurrency N        clients that ask again as soon as they have their answer (1)\n"
    "  --rate R               Poisson arrivals, R a second; --concurrency then limits those in "
    "flight\n"
    "  --requests N           how many (32, when there is no duration)\n"
    "  --duration S           no new requests after S seconds\n"
    "  --warmup N             requests before the measured ones (0)\n"
    "  --reconnect            a connection for every request\n"
    "report\n"
    "  --goodput LIMIT...     count requests within ttft:MS, tpot:MS, e2el:MS\n"
    "  --trace FILE           one JSON line a request, with the time of every piece\n"
    "  --json                 the result as JSON, named as `vllm bench serve` names it\n";

enum option_id {
    OPT_URL = 256,
    OPT_MODEL,
    OPT_API_KEY,
    OPT_ENDPOINT,
    OPT_HEADER,
    OPT_EXTRA,
    OPT_WORKLOAD,
    OPT_PROMPT,
    OPT_ANSWER,
    OPT_SPREAD,
    OPT_PREFIX,
    OPT_PREFIXES,
    OPT_TURNS,
    OPT_IDS,
    OPT_WORDS,
    OPT_PLAIN,
    OPT_TEMPERATURE,
    OPT_SEED,
    OPT_CONCURRENCY,
    OPT_RATE,
    OPT_REQUESTS,
    OPT_DURATION,
    OPT_WARMUP,
    OPT_RECONNECT,
    OPT_GOODPUT,
    OPT_TRACE,
    OPT_JSON,
    OPT_HELP,
};

static const struct option table[] = {
    {"url", required_argument, NULL, OPT_URL},
    {"model", required_argument, NULL, OPT_MODEL},
    {"api-key", required_argument, NULL, OPT_API_KEY},
    {"endpoint", required_argument, NULL, OPT_ENDPOINT},
    {"header", required_argument, NULL, OPT_HEADER},
    {"extra", required_argument, NULL, OPT_EXTRA},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {"prompt-tokens", required_argument, NULL, OPT_PROMPT},
    {"answer-tokens", required_argument, NULL, OPT_ANSWER},
    {"spread", required_argument, NULL, OPT_SPREAD},
    {"prefix-tokens", required_argument, NULL, OPT_PREFIX},
    {"prefixes", required_argument, NULL, OPT_PREFIXES},
    {"turns", required_argument, NULL, OPT_TURNS},
    {"ids", required_argument, NULL, OPT_IDS},
    {"words", no_argument, NULL, OPT_WORDS},
    {"plain", no_argument, NULL, OPT_PLAIN},
    {"temperature", required_argument, NULL, OPT_TEMPERATURE},
    {"seed", required_argument, NULL, OPT_SEED},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"rate", required_argument, NULL, OPT_RATE},
    {"requests", required_argument, NULL, OPT_REQUESTS},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"reconnect", no_argument, NULL, OPT_RECONNECT},
    {"goodput", required_argument, NULL, OPT_GOODPUT},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static bool wrong(const char *value, const char *expected)
{
    fprintf(stderr, "load: '%s': expected %s\n", value, expected);
    return false;
}

static bool read_real(const char *text, double low, double high, double *ret)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= high)) {
        fprintf(stderr, "load: '%s': expected a number from %g to %g\n", text, low, high);
        return false;
    }
    *ret = value;
    return true;
}

static bool read_count(const char *text, size_t low, size_t *ret)
{
    double value = 0;
    if (!read_real(text, (double)low, COUNT_MAX, &value)) {
        return false;
    }
    *ret = (size_t)value;
    return floor(value) == value || wrong(text, "a whole number");
}

static bool read_ids(struct options *o, const char *text)
{
    char *end;
    unsigned long low = strtoul(text, &end, 10);
    unsigned long high = *end == '-' ? strtoul(end + 1, &end, 10) : 0;
    o->id_low = (uint32_t)low;
    o->id_high = (uint32_t)high;
    return (*end == '\0' && low < high && high <= INT32_MAX) || wrong(text, "LOW-HIGH");
}

static bool read_goal(struct options *o, const char *text)
{
    struct goals *g = &o->goals;
    double *limit = strncmp(text, "ttft:", 5) == 0   ? &g->ttft_ms
                    : strncmp(text, "tpot:", 5) == 0 ? &g->tpot_ms
                    : strncmp(text, "e2el:", 5) == 0 ? &g->e2el_ms
                                                     : NULL;
    return limit != NULL ? read_real(text + 5, 0.001, 1e9, limit)
                         : wrong(text, "ttft:MS, tpot:MS or e2el:MS");
}

static bool read_workload(struct options *o, const char *text)
{
    static const char *const names[] = {"fixed", "shared-prefix", "multi-turn"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            o->workload = (enum workload)i;
            return true;
        }
    }
    return wrong(text, "fixed, shared-prefix or multi-turn");
}

static bool read_endpoint(struct options *o, const char *text)
{
    o->chat = strcmp(text, "chat") == 0;
    return o->chat || strcmp(text, "completions") == 0 || wrong(text, "completions or chat");
}

static bool add_header(struct options *o, const char *text)
{
    if (o->header_count == OPTIONS_HEADERS_MAX || strchr(text, ':') == NULL ||
        strpbrk(text, "\r\n") != NULL) {
        return wrong(text, "'NAME: TEXT', at most 8 of them");
    }
    o->headers[o->header_count++] = text;
    return true;
}

/* Keeps what stands between the braces. */
static bool add_extra(struct options *o, const char *text)
{
    json_t *object = json_loads(text, 0, NULL);
    char *dumped = json_is_object(object) ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (dumped == NULL) {
        return wrong(text, "a JSON object");
    }
    size_t size = strlen(dumped);
    if (size > 2) {
        buf_append_byte(&o->extra, ',');
        buf_append(&o->extra, dumped + 1, size - 2);
    }
    free(dumped);
    return !o->extra.failed || wrong("--extra", "less");
}

static bool read_load(struct options *o, int id, const char *text)
{
    switch (id) {
    case OPT_CONCURRENCY:
        return read_count(text, 1, &o->concurrency);
    case OPT_RATE:
        return read_real(text, 1e-6, 1e6, &o->rate);
    case OPT_REQUESTS:
        return read_count(text, 1, &o->requests);
    case OPT_DURATION:
        return read_real(text, 0.001, 1e6, &o->duration_s);
    case OPT_WARMUP:
        return read_count(text, 0, &o->warmup);
    case OPT_RECONNECT:
        return o->reconnect = true;
    case OPT_GOODPUT:
        return read_goal(o, text);
    case OPT_TRACE:
        o->trace = text;
        return true;
    case OPT_JSON:
        return o->json = true;
    default:
        return false;
    }
}

static bool read_traffic(struct options *o, int id, const char *text)
{
    double seed;
    switch (id) {
    case OPT_WORKLOAD:
        return read_workload(o, text);
    case OPT_PROMPT:
        return read_count(text, 1, &o->prompt_tokens);
    case OPT_ANSWER:
        return read_count(text, 1, &o->answer_tokens);
    case OPT_SPREAD:
        return read_real(text, 0, 1, &o->spread);
    case OPT_PREFIX:
        return read_count(text, 1, &o->prefix_tokens);
    case OPT_PREFIXES:
        return read_count(text, 1, &o->prefixes);
    case OPT_TURNS:
        return read_count(text, 1, &o->turns);
    case OPT_IDS:
        return read_ids(o, text);
    case OPT_WORDS:
        return o->words = true;
    case OPT_PLAIN:
        return o->plain = true;
    case OPT_TEMPERATURE:
        return read_real(text, 0, 2, &o->temperature);
    case OPT_SEED:
        o->seed = read_real(text, 0, 9e15, &seed) ? (uint64_t)seed : 0;
        return o->seed > 0 || strcmp(text, "0") == 0;
    default:
        return read_load(o, id, text);
    }
}

static bool read_option(struct options *o, int id, const char *text)
{
    switch (id) {
    case OPT_URL:
        o->url = text;
        return true;
    case OPT_MODEL:
        o->model = text;
        return true;
    case OPT_API_KEY:
        o->api_key = text;
        return strpbrk(text, "\r\n") == NULL || wrong("--api-key", "one line");
    case OPT_ENDPOINT:
        return read_endpoint(o, text);
    case OPT_HEADER:
        return add_header(o, text);
    case OPT_EXTRA:
        return add_extra(o, text);
    default:
        return read_traffic(o, id, text);
    }
}

static bool complete(struct options *o)
{
    if (o->url == NULL) {
        return wrong("", "--url");
    }
    o->words |= o->chat || o->workload == WORKLOAD_MULTI_TURN;
    if (o->requests == 0 && o->duration_s == 0) {
        o->requests = 32;
    }
    if (o->concurrency == 0 && o->rate == 0) {
        o->concurrency = 1;
    }
    return true;
}

int options_read(struct options *o, int argc, char **argv)
{
    *o = (struct options){
        .prompt_tokens = 128,
        .answer_tokens = 64,
        .prefix_tokens = 1024,
        .prefixes = 1,
        .turns = 4,
        .id_low = 300,
        .id_high = 30000,
        .seed = clock_now_ns() % 1000000007,
    };
    buf_init(&o->extra, EXTRA_MAX);
    int id;
    while ((id = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (id == OPT_HELP || id == 'h') {
            fputs(usage, stdout);
            return 1;
        }
        if (id == '?' || !read_option(o, id, optarg)) {
            return 3;
        }
    }
    /* More limits of --goodput end up here. */
    for (; optind < argc; optind++) {
        if (!read_goal(o, argv[optind])) {
            return 3;
        }
    }
    return complete(o) ? 0 : 3;
}

void options_fini(struct options *o)
{
    buf_fini(&o->extra);
}
