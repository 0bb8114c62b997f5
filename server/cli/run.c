#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/cli/cli.h"
#include "server/cli/stream.h"

#define PROMPT_MAX ((size_t)64 << 20)

struct job {
    const char *prompt; /* NULL: standard input */
    bool chat, special, json;
    struct phid_sampling sampling;
    size_t max_tokens;
    struct phid_model *model;
    struct phid_engine *engine;
};

static enum phid_status read_prompt(const char *given, struct buf *text, struct phid_error *err)
{
    char piece[65536];
    size_t got;
    if (given != NULL) {
        buf_append_c(text, given);
    } else {
        while (!text->failed && (got = fread(piece, 1, sizeof(piece), stdin)) > 0) {
            buf_append(text, piece, got);
        }
        if (ferror(stdin)) {
            return phid_fail(err, PHID_ERR_IO, "cannot read standard input: %s", strerror(errno));
        }
    }
    return text->failed
               ? phid_fail(err, PHID_ERR_MEMORY, "the prompt is larger than %zu bytes", PROMPT_MAX)
               : PHID_OK;
}

static enum phid_status prompt_ids(const struct job *job, struct str text, int32_t **ret_ids,
                                   size_t *ret_count, struct phid_error *err)
{
    if (job->chat) {
        const struct phid_message message = {
            .role = PHID_ROLE_USER, .content = text.data, .content_size = text.size};
        return phid_chat_tokens(job->model, &message, 1, ret_ids, ret_count, err);
    }
    enum phid_status status =
        phid_tokenize(job->model, text.data, text.size, job->special,
                      phid_model_adds_bos(job->model), ret_ids, ret_count, err);
    if (status == PHID_OK && *ret_count == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "the prompt is empty");
    }
    return status;
}

static void print_json(const struct buf *answer, const struct phid_output *output)
{
    printf("{\"text\":");
    cli_print_json_string(answer->data, answer->size);
    printf(",\"finish\":\"%s\",\"prompt_tokens\":%zu,\"completion_tokens\":%zu}\n",
           output->finish == PHID_FINISH_STOP ? "stop" : "length", output->prompt_tokens,
           output->completion_tokens);
}

/* With --json the text is kept back; otherwise it goes out as it comes. */
static enum phid_status answer_quietly(const struct job *job,
                                       const struct phid_request_params *params,
                                       struct phid_error *err)
{
    struct phid_request *request = NULL;
    struct phid_output output = {0};
    struct buf answer;
    buf_init(&answer, PROMPT_MAX);
    enum phid_status status = phid_engine_submit(job->engine, params, &request, err);
    while (status == PHID_OK && output.finish == PHID_FINISH_NONE) {
        phid_request_wait(request, -1);
        if (phid_request_poll(request, &output)) {
            buf_append(&answer, output.text, output.text_size);
        }
    }
    if (status == PHID_OK && output.finish == PHID_FINISH_ERROR) {
        status = phid_fail(err, output.error.status, "%s", output.error.message);
    } else if (status == PHID_OK && answer.failed) {
        status = phid_fail(err, PHID_ERR_MEMORY, "the answer does not fit the memory");
    } else if (status == PHID_OK) {
        print_json(&answer, &output);
    }
    phid_request_free(request);
    buf_fini(&answer);
    return status;
}

static enum phid_status complete(struct job *job, const struct config *config, struct str text,
                                 struct phid_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0;
    struct phid_engine_options options;
    struct phid_output output;
    enum phid_status status = cli_open_model(config, false, &job->model, err);
    if (status == PHID_OK) {
        status = prompt_ids(job, text, &ids, &count, err);
    }
    if (status == PHID_OK) {
        cli_engine_options(config, &options);
        options.max_running = 1;
        status = phid_engine_new(job->model, &options, &job->engine, err);
    }
    if (status == PHID_OK) {
        const struct phid_request_params params = {
            .prompt = ids,
            .prompt_count = count,
            .max_tokens =
                job->max_tokens > 0 ? job->max_tokens : phid_engine_info(job->engine)->context,
            .sampling = job->sampling,
            .logprobs = -1,
            .continues_text = !job->chat,
            .id = "run",
        };
        if (job->json) {
            status = answer_quietly(job, &params, err);
        } else {
            status = stream_answer(job->engine, &params, NULL, NULL, &output, err);
            putchar('\n');
        }
    }
    free(ids);
    return status;
}

int cli_run(int argc, char **argv)
{
    struct job job = {0};
    struct stream_flags flags = {0};
    struct arg table[STREAM_FLAG_COUNT + 4] = {
        {.name = "--chat",
         .kind = ARG_SWITCH,
         .dest = &job.chat,
         .help = "the prompt is a message to answer"},
        {.name = "--special",
         .kind = ARG_SWITCH,
         .dest = &job.special,
         .help = "control tokens written in the prompt are control tokens"},
        {.name = "--json",
         .kind = ARG_SWITCH,
         .dest = &job.json,
         .help = "the whole answer as one JSON object"},
    };
    stream_flag_table(&flags, table + 3);
    struct args args;
    int code = args_parse(&args, cli_command("run"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    struct buf text;
    buf_init(&text, PROMPT_MAX);
    job.prompt = args.positional_count > 0 ? args.positionals[0] : NULL;
    job.max_tokens = flags.max_tokens;
    code = stream_sampling(&flags, 0, &job.sampling);
    if (code < 0 && args.config.model.path == NULL) {
        code = cli_usage("no model: give one with -m FILE");
    }
    if (code < 0 && job.prompt == NULL && isatty(STDIN_FILENO)) {
        code = cli_usage("run: expected a prompt, as an argument or on standard input");
    }
    if (code < 0) {
        enum phid_status status = read_prompt(job.prompt, &text, &err);
        if (status == PHID_OK) {
            status = complete(&job, &args.config, buf_view(&text), &err);
        }
        code = status == PHID_OK ? CLI_OK : cli_fail(&err);
    }
    phid_engine_free(job.engine);
    phid_model_close(job.model);
    buf_fini(&text);
    args_fini(&args);
    return code;
}
