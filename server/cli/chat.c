#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/cli/cli.h"
#include "server/cli/line.h"
#include "server/cli/stream.h"

#define LINE_MAX_BYTES ((size_t)1 << 20)
#define ANSWER_MAX     ((size_t)16 << 20)

/* Set by Ctrl-C: stops the answer that is being written. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* The messages so far; their texts are heap. */
struct history {
    struct phid_message *items;
    size_t count;
};

static enum phid_status history_add(struct history *h, enum phid_role role, struct str text,
                                    struct phid_error *err)
{
    struct phid_message *grown = realloc(h->items, (h->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    h->items = grown;
    char *copy = str_dup(text);
    if (copy == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    grown[h->count++] =
        (struct phid_message){.role = role, .content = copy, .content_size = text.size};
    return PHID_OK;
}

static void history_drop(struct history *h, size_t count)
{
    while (h->count > count) {
        free((void *)(uintptr_t)h->items[--h->count].content);
    }
}

struct talk {
    struct phid_model *model;
    struct phid_engine *engine;
    struct phid_sampling sampling;
    size_t max_tokens;
    struct history history;
    bool terminal;
};

/* Answers the history and adds the answer to it. A prompt that is too long for the context is
 * reported and the conversation goes on without its last message. */
static enum phid_status answer(struct talk *talk, struct phid_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0;
    struct phid_output output;
    struct buf text;
    buf_init(&text, ANSWER_MAX);
    enum phid_status status =
        phid_chat_tokens(talk->model, talk->history.items, talk->history.count, &ids, &count, err);
    if (status == PHID_OK) {
        const struct phid_request_params params = {
            .prompt = ids,
            .prompt_count = count,
            .max_tokens =
                talk->max_tokens > 0 ? talk->max_tokens : phid_engine_info(talk->engine)->context,
            .sampling = talk->sampling,
            .logprobs = -1,
            .id = "chat",
        };
        interrupted = 0;
        status = stream_answer(talk->engine, &params, &interrupted, &text, &output, err);
        putchar('\n');
        fflush(stdout);
    }
    if (status == PHID_OK && text.failed) {
        status = phid_fail(err, PHID_ERR_MEMORY, "the answer does not fit the memory");
    }
    if (status == PHID_OK) {
        status = history_add(&talk->history, PHID_ROLE_ASSISTANT, buf_view(&text), err);
    }
    buf_fini(&text);
    free(ids);
    return status;
}

static void prompt(const struct talk *talk)
{
    if (talk->terminal) {
        fputs("> ", stderr);
    }
}

/* Until the end of input (Ctrl-D). Ctrl-C at the prompt starts a new line. */
static enum phid_status converse(struct talk *talk, struct phid_error *err)
{
    struct buf line;
    enum phid_status status = PHID_OK;
    enum line_outcome outcome = LINE_READ;
    buf_init(&line, LINE_MAX_BYTES);
    while (status == PHID_OK) {
        prompt(talk);
        outcome = line_read(&line);
        if (outcome == LINE_INTERRUPTED) {
            fputc('\n', stderr);
            continue;
        }
        if (outcome != LINE_READ) {
            break;
        }
        struct str text = buf_view(&line);
        text.size -= text.size > 0 && text.data[text.size - 1] == '\r' ? 1 : 0;
        if (text.size == 0) {
            continue;
        }
        size_t before = talk->history.count;
        status = history_add(&talk->history, PHID_ROLE_USER, text, err);
        if (status == PHID_OK) {
            status = answer(talk, err);
        }
        if (status == PHID_ERR_CONTEXT && talk->terminal) {
            cli_fail(err);
            history_drop(&talk->history, before);
            status = PHID_OK;
        }
    }
    if (outcome == LINE_FAILED) {
        status = phid_fail(err, PHID_ERR_IO, "cannot read standard input: %s", strerror(errno));
    } else if (outcome == LINE_TOO_LONG) {
        status =
            phid_fail(err, PHID_ERR_ARGUMENT, "a line is longer than %zu bytes", LINE_MAX_BYTES);
    }
    buf_fini(&line);
    if (talk->terminal) {
        fputc('\n', stderr);
    }
    return status;
}

static enum phid_status start(struct talk *talk, const struct config *config, const char *system,
                              struct phid_error *err)
{
    struct phid_engine_options options;
    enum phid_status status = cli_open_model(config, false, &talk->model, err);
    if (status == PHID_OK && phid_model_info(talk->model)->template_name == NULL) {
        status =
            phid_fail(err, PHID_ERR_UNSUPPORTED, "the model has no chat template; try `phid run`");
    }
    if (status == PHID_OK) {
        cli_engine_options(config, &options);
        options.max_running = 1;
        status = phid_engine_new(talk->model, &options, &talk->engine, err);
    }
    if (status == PHID_OK && system != NULL) {
        status = history_add(&talk->history, PHID_ROLE_SYSTEM, str_of(system), err);
    }
    return status;
}

int cli_chat(int argc, char **argv)
{
    struct talk talk = {.terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO)};
    struct stream_flags flags = {0};
    const char *system = NULL;
    struct arg table[STREAM_FLAG_COUNT + 2] = {
        {.name = "--system",
         .letter = 's',
         .kind = ARG_TEXT,
         .dest = &system,
         .metavar = "TEXT",
         .help = "a system message to begin with"},
    };
    stream_flag_table(&flags, table + 1);
    struct args args;
    int code = args_parse(&args, cli_command("chat"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    code = stream_sampling(&flags, 0.7, &talk.sampling);
    talk.max_tokens = flags.max_tokens;
    if (code < 0 && args.config.model.path == NULL) {
        code = cli_usage("no model: give one with -m FILE");
    }
    if (code < 0) {
        enum phid_status status = start(&talk, &args.config, system, &err);
        if (status == PHID_OK) {
            /* Without SA_RESTART: a read at the prompt returns. */
            struct sigaction action = {.sa_handler = on_interrupt};
            sigaction(SIGINT, &action, NULL);
            status = converse(&talk, &err);
        }
        code = status == PHID_OK ? CLI_OK : cli_fail(&err);
    }
    phid_engine_free(talk.engine);
    phid_model_close(talk.model);
    history_drop(&talk.history, 0);
    free(talk.history.items);
    args_fini(&args);
    return code;
}
