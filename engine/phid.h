/* libphid: the inference engine's public C interface, and the only engine header that the server
 * includes.
 *
 * Nouns: a phid_model is a file's vocabulary, chat template and (unless opened for its vocabulary
 * only) weights; a phid_engine runs requests over one model, many at a time; a phid_request is one
 * prompt being continued. All handles are opaque. A request's way: phid_engine_submit -> the step
 * thread produces output -> phid_request_poll takes it. Threads: a model is immutable, any thread
 * may use it. An engine's functions may be called from any thread. A request's functions may be
 * called from any thread, one at a time. No function prints, exits or aborts. */
#ifndef PHID_H
#define PHID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define PHID_API __attribute__((visibility("default")))

/* ------------------------------------------------------------------ model */

struct phid_model;

struct phid_model_options {
    const char *template_name; /* "auto" (also NULL), "none", or a built-in chat template's name */
    bool vocab_only;           /* tokenizer and metadata; no tensors are needed */
};

/* Opens a GGUF file. Errors name the key or tensor and the place (see engine/gguf/gguf.h,
 * engine/model/model.h). */
PHID_API enum phid_status phid_model_open(const char *path,
                                          const struct phid_model_options *options,
                                          struct phid_model **ret_model, struct phid_error *err);
PHID_API void
phid_model_close(struct phid_model *model); /* after every engine that uses it is freed */

struct phid_model_info {
    const char *architecture;  /* "phi3" */
    const char *name;          /* general.name, or "" */
    const char *template_name; /* of the chat template in use, NULL when there is none */
    size_t vocab_size;
    size_t context_length; /* trained, tokens; 0 in a vocabulary-only file that does not say */
    size_t embedding_length;
    size_t layers;
    uint64_t parameters;
    uint64_t file_bytes;
    int32_t bos, eos; /* -1: none */
    bool has_weights;
};
PHID_API const struct phid_model_info *
phid_model_info(const struct phid_model *model); /* borrowed until close */
/* Bytes of memory the weights take when an engine has loaded them. It keeps quantized ones in an
 * order of its own, some types in more bytes than the file. 0 in a vocabulary-only model. */
PHID_API enum phid_status phid_model_weight_bytes(const struct phid_model *model,
                                                  uint64_t *ret_bytes, struct phid_error *err);
PHID_API const char *
phid_template_name_at(size_t index); /* the built-in templates; NULL past the end */

/* Text to token ids. `special`: control tokens written in the text become control tokens (trusted
 * text only). `bos`: put the begin token first even if the vocabulary does not ask for it; without
 * it the file's own setting decides nothing: no begin token is added. *ret_ids is heap, the caller
 * frees it with free(); NULL when *ret_count is 0. text need not be NUL-terminated. */
PHID_API enum phid_status phid_tokenize(const struct phid_model *model, const char *text,
                                        size_t size, bool special, bool bos, int32_t **ret_ids,
                                        size_t *ret_count, struct phid_error *err);
PHID_API bool phid_model_adds_bos(
    const struct phid_model *model); /* what a text prompt gets by the file's own setting */

/* The reverse: whole UTF-8, heap, NUL-terminated. Ids out of range are PHID_ERR_ARGUMENT. */
PHID_API enum phid_status phid_detokenize(const struct phid_model *model, const int32_t *ids,
                                          size_t count, bool special, char **ret_text,
                                          size_t *ret_size, struct phid_error *err);

/* The raw bytes of one token (maybe half a character; nothing for a control token). Borrowed until
 * close. */
PHID_API void phid_token_bytes(const struct phid_model *model, int32_t id,
                               const unsigned char **ret_bytes, size_t *ret_size);
PHID_API bool phid_token_is_control(const struct phid_model *model, int32_t id);

enum phid_role { PHID_ROLE_SYSTEM, PHID_ROLE_USER, PHID_ROLE_ASSISTANT, PHID_ROLE_TOOL };

struct phid_message {
    enum phid_role role;
    const char *content; /* UTF-8, need not be NUL-terminated */
    size_t content_size;
};

/* Messages through the chat template to the ids of a prompt ready for the answer (with the begin
 * token where the model wants one). Message text never yields control tokens. PHID_ERR_UNSUPPORTED
 * when the model has no chat template. */
PHID_API enum phid_status phid_chat_tokens(const struct phid_model *model,
                                           const struct phid_message *messages, size_t count,
                                           int32_t **ret_ids, size_t *ret_count,
                                           struct phid_error *err);

/* ----------------------------------------------------------------- engine */

struct phid_engine;

/* How keys and values are stored; int8 has a scale for each token and head, and takes half the
 * memory of f16. */
enum phid_kv_type { PHID_KV_F16, PHID_KV_F32, PHID_KV_INT8 };

/* How activations are rounded for quantized weights: int8 in blocks of 32, or two such terms (about
 * 16 bits, twice the arithmetic); or, on processors with AMX, bf16 for prompts that have a step to
 * themselves or many rows in it, and for the weights they meet, and int8 otherwise: an answer may
 * then differ with what else was running. auto: two terms for models with an embedding of at most
 * 1024, bf16 for others. w8a8: as auto, but on processors with VNNI and without AMX int8 with one
 * scale for 128 columns for such prompts, where a step has at least 48 tokens of them, and for the
 * weights they meet, rounded once more. */
enum phid_activations {
    PHID_ACTIVATIONS_AUTO,
    PHID_ACTIVATIONS_INT8,
    PHID_ACTIVATIONS_INT8X2,
    PHID_ACTIVATIONS_BF16,
    PHID_ACTIVATIONS_W8A8
};

/* Guessing the next tokens from what the text has had before, and computing several at once. No
 * token changes, only the time. auto: when few requests run and the guesses come true often enough
 * to pay. */
enum phid_speculation { PHID_SPECULATION_AUTO, PHID_SPECULATION_ALWAYS, PHID_SPECULATION_OFF };

/* Which rotary factors a model with a short and a long list uses. hf, as Hugging Face does: the
 * short ones up to the original context; a sequence that grows past it is computed again once with
 * the long ones. long: always the long ones. short: always the short ones, and the context ends
 * with the original one. */
enum phid_longrope { PHID_LONGROPE_HF, PHID_LONGROPE_LONG, PHID_LONGROPE_SHORT };

struct phid_engine_options {
    size_t threads; /* 0: all cores this process may use */
    size_t context; /* tokens a sequence may hold, prompt and answer; 0: the model's own, at most
                       4096 */
    size_t max_running;     /* sequences in one step; 0: 32 */
    size_t step_tokens;     /* rows in one step, at most; 0: 512 */
    uint32_t itl_target_ms; /* what a prompt beside running answers may stretch the gap between two
                             * tokens to; 0: twice a step of one token, at least 100 ms */
    size_t queue;           /* requests that may wait; 0: 256 */
    size_t queue_tokens;    /* tokens their prompts may have together; 0: no limit. One request may
                               always wait */
    uint32_t max_wait_ms;   /* a request that would wait longer for its first step is refused, one
                               that has ends; 0: no limit */
    uint32_t max_overtake_ms; /* a request that has waited so long is overtaken by no better
                               * priority or longer cached prefix any more; 0: 10000 */
    enum phid_kv_type kv_type;
    enum phid_activations activations;
    enum phid_speculation speculation;
    uint64_t kv_memory_bytes; /* 0: what is free after the weights less a tenth (at least 1 GiB), at
                               * most 2 * max_running whole contexts; memory is taken as pages are
                               * first used */
    enum phid_longrope longrope;
    bool prefix_cache_off; /* every prompt is computed anew */
    bool pin_threads;      /* each compute thread keeps to one core */
    bool small_pages;      /* do not ask the system for huge pages */
    bool local_memory;     /* weights, keys and values lie where the thread runs that writes them
                            * first, not spread over the memory nodes */
    const char *isa;       /* NULL or "auto"; a tier's name to force it */
    bool lazy_load;        /* phid_engine_new does not wait for the weights: they come when there is
                            * nothing else to do, and at the latest when a step needs them. The model
                            * must live as long. phid_engine_loaded */
    bool profile;          /* measure operations, for phid_engine_profile */
    bool exact;            /* the reference path (slow): f32 activations and KV, scalar kernels */
    void (*log)(void *user, const char *line); /* may be NULL; one event a line, key=value */
    void *log_user;
};

/* Loads the weights and starts the step thread. */
PHID_API enum phid_status phid_engine_new(struct phid_model *model,
                                          const struct phid_engine_options *options,
                                          struct phid_engine **ret_engine, struct phid_error *err);

/* Waits until all weights are there, at most timeout_ms (0: only looks), and says in *ret_loaded
 * whether they are. Fails when they cannot be had (PHID_ERR_IO: the file has changed or was cut
 * off; PHID_ERR_FORMAT: weights that are not finite numbers): then every request fails with this
 * error. */
PHID_API enum phid_status phid_engine_loaded(struct phid_engine *engine, uint32_t timeout_ms,
                                             bool *ret_loaded, struct phid_error *err);

/* Ends every request with PHID_FINISH_ERROR (PHID_ERR_CLOSED) and joins the step thread. Requests
 * must still be freed, before or after. */
PHID_API void phid_engine_free(struct phid_engine *engine);

struct phid_engine_info {
    const char *isa;     /* "avx2", "avx512vnni", ... */
    const char *devices; /* text */
    size_t threads;
    size_t context; /* tokens a sequence may hold */
    size_t max_running;
    size_t queue;          /* requests that may wait */
    size_t kv_tokens;      /* tokens the page pool holds */
    uint64_t memory_bytes; /* weights, KV and scratch */
    uint64_t step_bytes;   /* weights that a step of any size reads, as they lie in memory */
};
PHID_API const struct phid_engine_info *phid_engine_info(const struct phid_engine *engine);

#define PHID_FINISHES 8 /* room for every enum phid_finish */

#define PHID_DRAFT_PLACES 8 /* tokens guessed ahead at a time, at most */

struct phid_engine_stats {
    size_t running, waiting;
    size_t pages_total, pages_free;
    size_t pages_cached; /* of the free ones: kept for requests that begin like others before, until
                            they are needed */
    uint64_t steps, tokens_prefilled, tokens_decoded, requests_finished, requests_cancelled;
    uint64_t
        preemptions; /* sequences that had to give their pages up and were computed again later */
    uint64_t prefix_queries,
        prefix_hits; /* tokens of prompts that were looked up, and those that were found computed */
    uint64_t prefix_evictions;        /* cached pages that were used for something else */
    uint64_t finished[PHID_FINISHES]; /* requests by enum phid_finish */
    uint64_t prompt_tokens; /* of prompts that were computed to their end or found computed */
    uint64_t stalled_ns;    /* for how long no layer, step or request has come to its end although
                               there is work; 0 when there is none */
    bool failed;            /* the device is lost: every request is refused */
    uint64_t drafts, draft_tokens,
        draft_accepted; /* guesses: times made, tokens, and how many of these came true */
    uint64_t draft_accepted_at[PHID_DRAFT_PLACES]; /* the same by place: first guess, second, ... */
    uint64_t corrupted; /* requests ended because the model's logits were not numbers */
    /* Where the time of all steps went: the scheduler's own work; choosing tokens, text and output;
     * the backend. */
    uint64_t host_ns, sample_ns, device_ns;
};
PHID_API void phid_engine_stats(struct phid_engine *engine, struct phid_engine_stats *ret);

/* One kind of operation of the backend, summed since the engine started. */
struct phid_operation {
    const char *name; /* static: "qkv", "attention", ... */
    uint64_t runs;
    uint64_t ns;      /* on the step thread; all operations together are the time in the backend */
    uint64_t wait_ns; /* of all threads together: in no task */
    uint64_t bytes, macs; /* weights, or keys and values: read at least, multiplied */
};

#define PHID_OPERATIONS_MAX 16

/* ret: [PHID_OPERATIONS_MAX]. Returns how many there are: 0 without the option `profile`. Any
 * thread; while a step runs the numbers may be of different moments. */
PHID_API size_t phid_engine_profile(const struct phid_engine *engine, struct phid_operation *ret);

/* What an engine measures of its requests and steps, since it started. Times are of requests that
 * were answered to their end. */
enum phid_histogram_id {
    PHID_HISTOGRAM_FIRST_TOKEN, /* arrival to the first token */
    PHID_HISTOGRAM_INTER_TOKEN, /* between two steps that gave a request tokens, each gap */
    PHID_HISTOGRAM_PER_TOKEN,   /* mean gap of a request */
    PHID_HISTOGRAM_WHOLE,       /* arrival to the end */
    PHID_HISTOGRAM_QUEUE,       /* submit to the first seat in a step */
    PHID_HISTOGRAM_PREFILL,     /* that to the first token */
    PHID_HISTOGRAM_DECODE,      /* first to last token */
    PHID_HISTOGRAM_INFERENCE,   /* first seat to the end */
    PHID_HISTOGRAM_PROMPT_TOKENS,
    PHID_HISTOGRAM_COMPUTED_TOKENS, /* of these, not found in pages of others */
    PHID_HISTOGRAM_ANSWER_TOKENS,
    PHID_HISTOGRAM_MAX_TOKENS, /* of the answer, as asked, within the context */
    PHID_HISTOGRAM_STEP_ROWS,  /* tokens computed in one step */
    PHID_HISTOGRAMS,
};

#define PHID_HISTOGRAM_BOUNDS_MAX 24

struct phid_histogram {
    bool is_time;           /* values are nanoseconds; else tokens */
    const uint64_t *bounds; /* static, [bound_count], ascending, inclusive */
    size_t bound_count;
    uint64_t counts[PHID_HISTOGRAM_BOUNDS_MAX + 1]; /* values up to each bound and above the one
                                                       before; [bound_count]: above all */
    uint64_t sum;
};

/* Both read counters only: they never wait for a step, whatever the engine is doing. */
PHID_API void phid_engine_histogram(struct phid_engine *engine, enum phid_histogram_id id,
                                    struct phid_histogram *ret);

struct phid_engine_load {
    size_t waiting,
        waiting_tokens; /* requests that wait for their first step, and their prompts' tokens */
    uint64_t wait_ms; /* how long a request that comes now would wait, by what was measured; 0: not,
                         or not known */
    bool full;        /* it would be refused with PHID_ERR_BUSY */
};

/* Whether there is room for more: to be asked before anything is done for a request. Takes no lock.
 */
PHID_API void phid_engine_load(const struct phid_engine *engine, struct phid_engine_load *ret);

/* No new requests from now on (PHID_ERR_CLOSED); those accepted run on. */
PHID_API void phid_engine_drain(struct phid_engine *engine);

/* Logits of a token sequence, outside of the scheduler (for `phid eval` and tests): the whole
 * sequence as one prefill, its length deciding the rotary factor set. all: [count, vocab_size],
 * else [1, vocab_size] for the last token; logits is the caller's. Blocks. */
PHID_API enum phid_status phid_engine_logits(struct phid_engine *engine, const int32_t *ids,
                                             size_t count, bool all, float *logits,
                                             struct phid_error *err);

/* ---------------------------------------------------------------- request */

struct phid_request;

struct phid_logit_bias {
    int32_t id;
    float bias; /* -100 bans, 100 forces */
};

struct phid_sampling {
    float temperature;        /* 0: greedy */
    float top_p;              /* 1: off; 0 means the most probable token only */
    int32_t top_k;            /* 0: off */
    float min_p;              /* 0: off; relative to the most probable token */
    float repetition_penalty; /* 1: off; divides positive and multiplies negative logits of tokens
                                 in prompt and answer */
    float frequency_penalty;  /* 0: off; subtracts penalty * count over the answer's tokens */
    float presence_penalty;   /* 0: off; subtracts penalty once for a token in the answer */
    const struct phid_logit_bias *logit_bias;
    size_t logit_bias_count;
    uint64_t seed; /* the caller draws one when the client gave none */
};

struct phid_stop {
    const char *text; /* UTF-8, not empty */
    size_t size;
};

struct phid_request_params {
    const int32_t *prompt; /* ids, each < vocab_size; copied. At least one */
    size_t prompt_count;
    size_t max_tokens; /* of the answer; clamped to what is left of the context. 0: only evaluate
                          the prompt */
    size_t min_tokens; /* end tokens are banned before */
    bool ignore_eos;
    const int32_t *prediction; /* what the answer is expected to be, to compute it faster where it
                                  is; copied */
    size_t prediction_count;
    struct phid_sampling sampling;
    const struct phid_stop *stops; /* copied; the answer excludes them */
    size_t stop_count;
    int32_t logprobs;     /* -1: none; 0..20: that many alternatives a token, log-softmax of the raw
                             logits */
    bool prompt_logprobs; /* also for the prompt's tokens (`echo`) */
    bool continues_text; /* the prompt is plain text, not a chat turn: keep the leading space of the
                          * first word, unless the prompt ends in a control token */
    const char *id;      /* for logs; copied, may be NULL */
    uint64_t arrived_ns; /* CLOCK_MONOTONIC, when the request came in, for the histograms; 0: at
                            submit */

    int32_t priority;    /* lower goes first; 0 is ordinary */
    uint32_t timeout_ms; /* ends with PHID_ERR_TIMEOUT so long after submission, waiting or running;
                            0: never */

    /* Computed prefixes are shared only between requests that agree in both; not copied, may be
     * NULL (which is ""). The tenant is whose request it is: an API key's name or digest; tenants
     * that wait at the same time take turns. */
    const char *tenant;
    const char *cache_salt;
    size_t cache_salt_size; /* the salt need not be NUL-terminated */

    /* Called on the step thread, with the request's lock held, when output became available after
     * there was none. Must not block and must not call into the engine. May be NULL (then use
     * phid_request_wait). */
    void (*wake)(void *user);
    void *wake_user;
};

/* Checks and queues. Errors: PHID_ERR_ARGUMENT (where names the field), PHID_ERR_CONTEXT (the
 * message says "maximum context length is N tokens" and the count), PHID_ERR_BUSY (queue full, or
 * the wait would be too long), PHID_ERR_CLOSED (draining), PHID_ERR_MEMORY. */
PHID_API enum phid_status phid_engine_submit(struct phid_engine *engine,
                                             const struct phid_request_params *params,
                                             struct phid_request **ret_request,
                                             struct phid_error *err);

enum phid_finish {
    PHID_FINISH_NONE = 0, /* still going */
    PHID_FINISH_STOP,     /* an end token or a stop string */
    PHID_FINISH_LENGTH,   /* max_tokens or the context */
    PHID_FINISH_CANCELLED,
    PHID_FINISH_ERROR,
};

struct phid_top {
    int32_t id;
    float logprob;
};

struct phid_token {
    int32_t id;
    float logprob;  /* valid if logprobs >= 0; NAN for the first prompt token */
    bool is_prompt; /* from the prompt (prompt_logprobs) */
    size_t top_count;
    const struct phid_top *top; /* most probable first, [top_count] */
};

/* What a poll takes. Everything it points to is valid until the next poll or the request is freed.
 */
struct phid_output {
    const char *text; /* whole UTF-8 characters, never part of a stop string; not NUL-terminated */
    size_t text_size;
    const struct phid_token *tokens; /* the tokens whose text ends in this output (all of the
                                        prompt's first, if asked) */
    size_t token_count;
    enum phid_finish finish; /* != NONE: the last output of this request */
    struct phid_error error; /* with PHID_FINISH_ERROR */
    size_t prompt_tokens, cached_tokens,
        completion_tokens;                   /* so far; cached: of the prompt's, found computed;
                                              * completion includes the end token */
    size_t drafts_accepted, drafts_rejected; /* tokens guessed ahead, see enum phid_speculation */
    uint64_t queue_ns, first_token_ns, total_ns; /* since submit; 0 while not reached */
};

/* Takes what is there; false when there is nothing new. A reader that does not poll pauses only its
 * own sequence. */
PHID_API bool phid_request_poll(struct phid_request *request, struct phid_output *ret);

/* Blocks until there is output or timeout_ms passed (negative: for ever); true when a poll would
 * give something. */
PHID_API bool phid_request_wait(struct phid_request *request, int timeout_ms);

/* Asks to stop: before the next step its pages are free and the output ends with
 * PHID_FINISH_CANCELLED. */
PHID_API void phid_request_cancel(struct phid_request *request);

/* Cancels if still running and gives the handle back; `wake` is not called any more once this
 * returns. */
PHID_API void phid_request_free(struct phid_request *request);

PHID_API const char *phid_version(void); /* "0.1.0" */
PHID_API const char *phid_commit(void);  /* short hash, or "unknown" */

#endif
