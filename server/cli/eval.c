#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/tokens.h"
#include "server/cli/cli.h"
#include "server/cli/ids.h"

struct job {
    const char *tokens, *prompt, *tokens_file, *logits, *format;
    size_t count; /* -n */
    bool exact, special, ignore_eos;
    struct tokens ids;
    struct phid_model *model;
    struct phid_engine *engine;
    size_t vocab_size;
};

/* ----------------------------------------------------------------- input */

static enum phid_status read_ids(struct job *job, struct phid_error *err)
{
    if (job->prompt != NULL) {
        int32_t *ids = NULL;
        size_t count = 0;
        enum phid_status status =
            phid_tokenize(job->model, job->prompt, strlen(job->prompt), job->special,
                          phid_model_adds_bos(job->model), &ids, &count, err);
        if (status != PHID_OK) {
            return status;
        }
        job->ids = (struct tokens){.ids = ids, .count = count, .capacity = count};
    } else {
        enum phid_status status = job->tokens != NULL
                                      ? ids_parse(str_of(job->tokens), &job->ids, err)
                                      : ids_read_file(job->tokens_file, &job->ids, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    if (job->ids.count == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected at least one token");
    }
    return ids_check(&job->ids, job->vocab_size, err);
}

/* Without --context the context is what the job needs. */
static enum phid_status start_engine(struct job *job, const struct config *config,
                                     struct phid_error *err)
{
    struct phid_engine_options options;
    cli_engine_options(config, &options);
    size_t needed = job->ids.count + job->count;
    if (options.context == 0) {
        size_t trained = phid_model_info(job->model)->context_length;
        options.context = needed < trained || trained == 0 ? needed : trained;
    }
    if (job->ids.count > options.context) {
        return phid_fail(err, PHID_ERR_CONTEXT, "%zu tokens, but the context is %zu",
                         job->ids.count, options.context);
    }
    options.max_running = 1;
    options.exact = job->exact;
    return phid_engine_new(job->model, &options, &job->engine, err);
}

/* ---------------------------------------------------------------- output */

static void put_ids(const char *name, const int32_t *ids, size_t count)
{
    printf("\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        printf("%s%d", i > 0 ? "," : "", (int)ids[i]);
    }
    putchar(']');
}

/* Nine digits give every float back exactly. A number JSON cannot say is null. */
static void put_rows(const float *logits, size_t rows, size_t columns)
{
    printf(",\"logits\":[");
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            float value = logits[r * columns + c];
            const char *before = c > 0 ? "," : r > 0 ? ",[" : "[";
            if (isfinite(value)) {
                printf("%s%.9g", before, (double)value);
            } else {
                printf("%snull", before);
            }
        }
        putchar(']');
    }
    putchar(']');
}

static enum phid_status put_logits(const struct job *job, struct phid_error *err)
{
    bool all = strcmp(job->logits, "all") == 0;
    size_t rows = all ? job->ids.count : 1, values, bytes;
    if (!checked_mul(rows, job->vocab_size, &values) ||
        !checked_mul(values, sizeof(float), &bytes)) {
        return phid_fail(err, PHID_ERR_MEMORY, "the logits do not fit the memory");
    }
    float *logits = malloc(bytes);
    if (logits == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "%zu bytes of logits do not fit the memory", bytes);
    }
    enum phid_status status =
        phid_engine_logits(job->engine, job->ids.ids, job->ids.count, all, logits, err);
    if (status == PHID_OK && strcmp(job->format, "f32") == 0) {
        fwrite(logits, sizeof(float), values, stdout);
    } else if (status == PHID_OK) {
        putchar('{');
        put_ids("tokens", job->ids.ids, job->ids.count);
        put_rows(logits, rows, job->vocab_size);
    }
    free(logits);
    return status;
}

/* Runs the request to its end, collecting ids and text. */
static enum phid_status generate(const struct job *job, struct tokens *ids, struct buf *text,
                                 bool *ret_stopped, struct phid_error *err)
{
    struct phid_request *request = NULL;
    struct phid_output output = {0};
    const struct phid_request_params params = {
        .prompt = job->ids.ids,
        .prompt_count = job->ids.count,
        .max_tokens = job->count,
        .ignore_eos = job->ignore_eos,
        .sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
        .logprobs = 0, /* so that every token is reported */
        /* Behind a control token an answer begins, whose first word's space is no text. */
        .continues_text = !phid_token_is_control(job->model, job->ids.ids[job->ids.count - 1]),
        .id = "eval",
    };
    enum phid_status status = phid_engine_submit(job->engine, &params, &request, err);
    while (status == PHID_OK && output.finish == PHID_FINISH_NONE) {
        phid_request_wait(request, -1);
        while (status == PHID_OK && output.finish == PHID_FINISH_NONE &&
               phid_request_poll(request, &output)) {
            buf_append(text, output.text, output.text_size);
            for (size_t i = 0; i < output.token_count; i++) {
                if (!output.tokens[i].is_prompt && !tokens_push(ids, output.tokens[i].id)) {
                    status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
                }
            }
        }
    }
    if (status == PHID_OK && output.finish == PHID_FINISH_ERROR) {
        status = phid_fail(err, output.error.status, "%s", output.error.message);
    }
    if (status == PHID_OK && text->failed) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    phid_request_free(request);
    *ret_stopped = output.finish == PHID_FINISH_STOP;
    return status;
}

static enum phid_status put_generated(const struct job *job, bool first, struct phid_error *err)
{
    struct tokens ids = {0};
    struct buf text;
    buf_init(&text, (size_t)64 << 20);
    bool stopped = false;
    enum phid_status status = generate(job, &ids, &text, &stopped, err);
    if (status == PHID_OK) {
        if (first) {
            putchar('{');
            put_ids("tokens", job->ids.ids, job->ids.count);
        }
        putchar(',');
        put_ids("generated", ids.ids, ids.count);
        printf(",\"text\":");
        cli_print_json_string(text.data, text.size);
        printf(",\"finish\":\"%s\"", stopped ? "stop" : "length");
    }
    buf_fini(&text);
    tokens_fini(&ids);
    return status;
}

/* --------------------------------------------------------------- command */

static enum phid_status evaluate(struct job *job, const struct config *config,
                                 struct phid_error *err)
{
    enum phid_status status = cli_open_model(config, false, &job->model, err);
    if (status != PHID_OK) {
        return status;
    }
    job->vocab_size = phid_model_info(job->model)->vocab_size;
    if (!phid_model_info(job->model)->has_weights) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "%s: a vocabulary without weights",
                         config->model.path);
    }
    status = read_ids(job, err);
    if (status == PHID_OK) {
        status = start_engine(job, config, err);
    }
    if (status == PHID_OK && job->logits != NULL) {
        status = put_logits(job, err);
    }
    if (status == PHID_OK && job->count > 0) {
        status = put_generated(job, job->logits == NULL, err);
    }
    if (status == PHID_OK && strcmp(job->format, "json") == 0) {
        printf("}\n");
    }
    return status;
}

static int check_usage(struct job *job, const struct args *args)
{
    int sources = (job->tokens != NULL) + (job->prompt != NULL) + (job->tokens_file != NULL);
    if (sources != 1) {
        return cli_usage("eval: expected one of --tokens, --prompt and --tokens-file");
    }
    if (args->config.model.path == NULL) {
        return cli_usage("no model: give one with -m FILE");
    }
    if (strcmp(job->format, "json") != 0 && strcmp(job->format, "f32") != 0) {
        return cli_usage("--format: expected json or f32, found %.60s", job->format);
    }
    if (job->logits != NULL && strcmp(job->logits, "last") != 0 &&
        strcmp(job->logits, "all") != 0) {
        return cli_usage("--logits: expected last or all, found %.60s", job->logits);
    }
    if (job->logits == NULL && job->count == 0) {
        job->logits = "last";
    }
    if (strcmp(job->format, "f32") == 0 && job->count > 0) {
        return cli_usage("--format f32 holds logits only, so it does not go with -n");
    }
    return -1;
}

int cli_eval(int argc, char **argv)
{
    struct job job = {.format = "json"};
    const struct arg table[] = {
        {.name = "--tokens",
         .kind = ARG_TEXT,
         .dest = &job.tokens,
         .metavar = "IDS",
         .help = "token ids, e.g. 1,2,3"},
        {.name = "--prompt",
         .kind = ARG_TEXT,
         .dest = &job.prompt,
         .metavar = "TEXT",
         .help = "a text to tokenize"},
        {.name = "--tokens-file",
         .kind = ARG_TEXT,
         .dest = &job.tokens_file,
         .metavar = "FILE",
         .help = "token ids apart by space or comma, or a JSON array"},
        {.name = "--special",
         .kind = ARG_SWITCH,
         .dest = &job.special,
         .help = "control tokens written in --prompt are control tokens"},
        {.name = "--logits",
         .kind = ARG_TEXT,
         .dest = &job.logits,
         .metavar = "last|all",
         .help = "logits of the last token (also without -n), or of all"},
        {.name = "--format",
         .kind = ARG_TEXT,
         .dest = &job.format,
         .metavar = "json|f32",
         .help = "f32: raw little-endian rows of the vocabulary's length"},
        {.name = "--count",
         .letter = 'n',
         .kind = ARG_COUNT,
         .dest = &job.count,
         .max = 1 << 20,
         .metavar = "N",
         .help = "continue greedily by up to N tokens"},
        {.name = "--ignore-eos",
         .kind = ARG_SWITCH,
         .dest = &job.ignore_eos,
         .help = "go on behind an end token"},
        {.name = "--exact",
         .kind = ARG_SWITCH,
         .dest = &job.exact,
         .help = "the reference path: f32 activations, keys and values, scalar kernels (slow)"},
        {.name = "--json",
         .kind = ARG_SWITCH,
         .dest = &(bool){false},
         .help = "the result is JSON anyway"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("eval"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    code = check_usage(&job, &args);
    if (code < 0) {
        code = evaluate(&job, &args.config, &err) == PHID_OK ? CLI_OK : cli_fail(&err);
    }
    phid_engine_free(job.engine);
    phid_model_close(job.model);
    tokens_fini(&job.ids);
    args_fini(&args);
    return code;
}
