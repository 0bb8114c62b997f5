#include "tests/bench/traffic.h"

#include <math.h>
#include <stdlib.h>

/* Common enough to be one token each in most vocabularies. */
static const char *const words[] = {
    "time",   "year",   "people",   "way",   "day",    "man",     "thing",  "woman",   "life",
    "child",  "world",  "school",   "state", "family", "student", "group",  "country", "problem",
    "hand",   "part",   "place",    "case",  "week",   "company", "system", "program", "question",
    "work",   "number", "night",    "point", "home",   "water",   "room",   "mother",  "area",
    "money",  "story",  "fact",     "month", "lot",    "right",   "study",  "book",    "eye",
    "job",    "word",   "business", "issue", "side",   "kind",    "head",   "house",   "service",
    "friend", "father", "power",    "hour",  "game",   "line",    "end",    "member",  "law",
    "car",    "city",   "name",     "team",  "minute", "idea",    "body",
};
#define WORD_COUNT (sizeof words / sizeof words[0])

/* --------------------------------------------------------------- randomness */

static size_t draw_length(struct traffic *t, size_t around)
{
    double off = t->options->spread * (2 * (double)rng_unit(&t->rng) - 1);
    double length = round((double)around * (1 + off));
    return length < 1 ? 1 : (size_t)length;
}

static void put_id(struct buf *out, uint64_t id)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    buf_append(out, digits + at, sizeof digits - at);
}

/* `count` tokens, each with its separator behind it: "12,7," or "way water ". */
static void put_tokens(struct traffic *t, size_t count, struct buf *out)
{
    const struct options *o = t->options;
    for (size_t i = 0; i < count; i++) {
        if (o->words) {
            buf_append_c(out, words[rng_below(&t->rng, WORD_COUNT)]);
            buf_append_byte(out, ' ');
        } else {
            put_id(out, o->id_low + rng_below(&t->rng, o->id_high - o->id_low));
            buf_append_byte(out, ',');
        }
    }
}

double traffic_pause(struct traffic *t)
{
    return -log(1 - (double)rng_unit(&t->rng)) / t->options->rate;
}

/* -------------------------------------------------------------- life cycle */

bool traffic_init(struct traffic *t, const struct options *o, const char *model)
{
    *t = (struct traffic){.options = o, .model = model};
    rng_init(&t->rng, o->seed);
    t->prefixes = calloc(o->prefixes, sizeof *t->prefixes);
    if (t->prefixes == NULL) {
        return false;
    }
    bool failed = false;
    for (size_t i = 0; i < o->prefixes; i++) {
        buf_init(&t->prefixes[i], TRAFFIC_BODY_MAX);
        if (o->workload == WORKLOAD_SHARED_PREFIX) {
            put_tokens(t, o->prefix_tokens, &t->prefixes[i]);
        }
        failed |= t->prefixes[i].failed;
    }
    return !failed;
}

void traffic_fini(struct traffic *t)
{
    for (size_t i = 0; t->prefixes != NULL && i < t->options->prefixes; i++) {
        buf_fini(&t->prefixes[i]);
    }
    free(t->prefixes);
    t->prefixes = NULL;
}

void conversation_init(struct conversation *c)
{
    c->turn = 0;
    buf_init(&c->history, TRAFFIC_BODY_MAX);
}

void conversation_fini(struct conversation *c)
{
    buf_fini(&c->history);
}

/* ------------------------------------------------------------------ bodies */

/* Without the separator behind the last token. */
static void put_prompt(struct traffic *t, const struct buf *prefix, struct buf *out)
{
    buf_append_str(out, buf_view(prefix));
    put_tokens(t, draw_length(t, t->options->prompt_tokens), out);
    if (!out->failed) {
        out->size--;
    }
}

static void put_messages(struct traffic *t, struct conversation *c, const struct buf *prefix,
                         struct buf *body)
{
    static const struct buf nothing = {0};
    struct buf *out = t->options->workload == WORKLOAD_MULTI_TURN ? &c->history : body;
    buf_append_c(body, "\"messages\":[");
    if (prefix->size > 0) {
        buf_append_c(out, "{\"role\":\"system\",\"content\":\"");
        buf_append_str(out, buf_view(prefix));
        buf_append_c(out, "\"},");
    }
    buf_append_c(out, "{\"role\":\"user\",\"content\":\"");
    put_prompt(t, &nothing, out);
    buf_append_c(out, "\"}");
    if (out != body) {
        buf_append_str(body, buf_view(out));
        body->failed |= out->failed;
    }
    buf_append_byte(body, ']');
}

static void put_text(struct traffic *t, struct conversation *c, const struct buf *prefix,
                     struct buf *body)
{
    const struct options *o = t->options;
    buf_append_c(body, o->words ? "\"prompt\":\"" : "\"prompt\":[");
    if (o->workload == WORKLOAD_MULTI_TURN) {
        put_prompt(t, prefix, &c->history);
        buf_append_str(body, buf_view(&c->history));
        body->failed |= c->history.failed;
    } else {
        put_prompt(t, prefix, body);
    }
    buf_append_byte(body, o->words ? '"' : ']');
}

static void put_settings(struct traffic *t, struct buf *body)
{
    const struct options *o = t->options;
    size_t tokens = draw_length(t, o->answer_tokens);
    buf_printf(body, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    buf_printf(body, ",\"temperature\":%g,\"max_tokens\":%zu", o->temperature, tokens);
    if (!o->plain) {
        buf_printf(body, ",\"min_tokens\":%zu,\"ignore_eos\":true", tokens);
    }
    buf_append_str(body, buf_view(&o->extra));
}

void traffic_ask(struct traffic *t, struct conversation *c, struct buf *body)
{
    const struct options *o = t->options;
    if (!traffic_continues(t, c)) {
        c->turn = 0;
        buf_clear(&c->history);
    }
    const struct buf *prefix = &t->prefixes[rng_below(&t->rng, o->prefixes)];
    buf_printf(body, "{\"model\":\"%s\",", t->model);
    if (o->chat) {
        put_messages(t, c, prefix, body);
    } else {
        put_text(t, c, prefix, body);
    }
    put_settings(t, body);
    buf_append_byte(body, '}');
    if (o->workload == WORKLOAD_MULTI_TURN && o->chat) {
        buf_append_c(&c->history, ",{\"role\":\"assistant\",\"content\":\"");
    }
    c->turn++;
}

void traffic_hear(const struct traffic *t, struct conversation *c, struct str text)
{
    if (t->options->workload == WORKLOAD_MULTI_TURN) {
        buf_append_str(&c->history, text);
    }
}

void traffic_heard(const struct traffic *t, struct conversation *c)
{
    if (t->options->workload == WORKLOAD_MULTI_TURN) {
        buf_append_c(&c->history, t->options->chat ? "\"}," : " ");
    }
}

bool traffic_continues(const struct traffic *t, const struct conversation *c)
{
    return t->options->workload == WORKLOAD_MULTI_TURN && c->turn > 0 &&
           c->turn < t->options->turns && !c->history.failed;
}
