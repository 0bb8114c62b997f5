/* One completion or chat request being answered: its prompts, its choices, and the answer as it
 * grows.
 *
 * A worker makes it (parse, tokenize, submit: everything that can fail), then hands it to the I/O
 * thread, which pulls output into it whenever the engine wakes it, and frees it. One owner at a
 * time, no locks.
 *
 *   generation_start -> [wake] -> generation_pull -> ... -> generation_done -> generation_free
 *
 * Streamed, `out` fills with server-sent events to send and drop; otherwise generation_write_reply
 * gives the one JSON body at the end. */
#ifndef PHID_SERVER_API_GENERATION_H
#define PHID_SERVER_API_GENERATION_H

#include "server/api/api.h"
#include "server/api/logprobs.h"
#include "server/api/settings.h"

#define GENERATION_CHOICES_MAX 256        /* prompts times candidates of one request */
#define GENERATION_ANSWER_MAX  (1u << 26) /* bytes of a whole answer while it grows */
#define GENERATION_TEXT_MAX    (1u << 28) /* bytes of one growing buffer */

struct prompt {
    int32_t *ids; /* heap */
    size_t count;
    char *text; /* heap; what `echo` shows, NULL without echo */
    size_t text_size;
};

struct choice {
    struct phid_request *request; /* NULL before submit and once finished */
    size_t prompt;                /* which prompt */
    size_t index;                 /* choices[].index */
    struct buf text;              /* streamed: not yet written; else all of it */
    struct logprobs logprobs;     /* the same */
    double logprob_sum;           /* of the answer's tokens, for best_of */
    size_t logprob_count;
    enum phid_finish finish;
    size_t completion_tokens, cached_tokens, drafts_accepted, drafts_rejected;
    bool echoed; /* the prompt's text is in `text` */
};

/* Tokens of all choices; each prompt once, and what of it was found computed. */
struct usage {
    size_t prompt, cached, completion, drafts_accepted, drafts_rejected;
};

struct generation;

/* What differs between the two endpoints. Writers append to `out`. */
struct generation_format {
    const char *id_prefix;
    const char *object;       /* of the whole reply */
    const char *chunk_object; /* of a streamed piece */
    const char *prompt_field; /* what context errors name */
    enum logprobs_form logprobs;
    bool continues_text;
    /* Into g->settings and the like; the prompts. */
    enum api_fault (*read_fields)(struct generation *g, const json_t *body, struct api_error *err);
    enum api_fault (*read_prompts)(struct generation *g, const json_t *body, struct api_error *err);
    /* The first chunk of a choice, before any output; may write nothing. */
    void (*write_first)(struct generation *g, struct choice *c);
    /* Chunks for what is pending in `text` and `logprobs`, and the finish if it is reached. */
    void (*write_pending)(struct generation *g, struct choice *c);
    /* One element of `choices` in the whole reply. */
    void (*write_choice)(const struct generation *g, const struct choice *c, size_t index,
                         struct buf *out);
};

struct generation {
    const struct api *api;
    const struct generation_format *format;
    char id[48];
    int64_t created;
    struct settings settings; /* stops and biases are gone after submit */
    size_t best_of;           /* candidates a prompt, at least settings.n */
    int64_t logprobs;         /* alternatives a token; -1: none */
    bool echo;
    bool service_tier; /* the client sent one: answer it */
    struct prompt *prompts;
    size_t prompt_count;
    int32_t *prediction; /* heap, may be NULL: what the client expects as the answer */
    size_t prediction_count;
    struct choice *choices; /* by prompt, then candidate */
    size_t choice_count;
    size_t finished;       /* choices */
    size_t held_bytes;     /* whole answers: of all choices */
    struct buf chunk_head; /* streamed: what every chunk begins with */
    struct buf out;        /* streamed: events to send */
    bool done;
    struct api_error error; /* fault is API_OK unless the generation failed */
    uint64_t queue_ns, first_token_ns;
};

/* From a worker: reads the body of the endpoint that `format` names and queues all its choices, or
 * none. `wake` is called on the engine's thread, once after each time a pull found nothing; it must
 * not block. */
struct generation_request {
    const struct api *api;
    struct str body;
    const char *id; /* for logs */
    uint64_t arrived_ns;
    const char *tenant;  /* whose request it is; may be NULL */
    int32_t priority;    /* unless the body has one */
    uint32_t timeout_ms; /* 0: none */
    void (*wake)(void *user);
    void *wake_user;
};
enum api_fault generation_start_completion(const struct generation_request *r,
                                           struct generation **ret, struct api_error *err);
enum api_fault generation_start_chat(const struct generation_request *r, struct generation **ret,
                                     struct api_error *err);

/* Takes what the engine has. Stops early while more than out_max bytes wait in `out`. */
void generation_pull(struct generation *g, size_t out_max);

/* Ends it now with this error: an event in a stream, `error` otherwise. Nothing happens once it is
 * done. */
void generation_fail(struct generation *g, enum api_fault fault, const char *message);

void generation_write_reply(struct generation *g, struct buf *out);
struct usage generation_usage(const struct generation *g);
size_t generation_longest(const struct generation *g);     /* tokens of the longest choice */
const char *generation_finish(const struct generation *g); /* of the first choice, for the log */

/* Cancels what still runs. NULL is fine. */
void generation_free(struct generation *g);

/* For the two endpoints.
 * ------------------------------------------------------------------------------------ */

enum api_fault generation_start(const struct generation_format *format,
                                const struct generation_request *r, struct generation **ret,
                                struct api_error *err);
struct prompt *generation_add_prompts(struct generation *g,
                                      size_t count); /* zeroed; NULL: out of memory */
const char *generation_finish_name(enum phid_finish finish);

#endif
