#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/cli/cli.h"
#include "server/cli/line.h"

#define LINE_MAX_BYTES ((size_t)64 << 20)
#define OUTPUT_MAX     ((size_t)1 << 30)
#define MESSAGES_MAX   10000

struct job {
    const struct phid_model *model;
    bool special, bos, decode, chat;
};

static void put_ids(struct buf *out, const int32_t *ids, size_t count)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s%d", i > 0 ? "," : "", (int)ids[i]);
    }
    buf_append_byte(out, ']');
}

static enum phid_status encode_text(const struct job *job, const json_t *line, struct buf *out,
                                    struct phid_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0;
    if (!json_is_string(line)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected a JSON string");
    }
    enum phid_status status =
        phid_tokenize(job->model, json_string_value(line), json_string_length(line), job->special,
                      job->bos, &ids, &count, err);
    if (status == PHID_OK) {
        put_ids(out, ids, count);
        free(ids);
    }
    return status;
}

static enum phid_status decode_ids(const struct job *job, const json_t *line, struct buf *out,
                                   struct phid_error *err)
{
    if (!json_is_array(line)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected a JSON array of token ids");
    }
    size_t count = json_array_size(line), size = 0;
    char *text = NULL;
    int32_t *ids = calloc(count > 0 ? count : 1, sizeof(*ids));
    if (ids == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    enum phid_status status = PHID_OK;
    for (size_t i = 0; i < count && status == PHID_OK; i++) {
        const json_t *item = json_array_get(line, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX) {
            status = phid_fail(err, PHID_ERR_ARGUMENT, "[%zu]: expected a token id", i);
        } else {
            ids[i] = (int32_t)id;
        }
    }
    if (status == PHID_OK) {
        status = phid_detokenize(job->model, ids, count, job->special, &text, &size, err);
    }
    if (status == PHID_OK) {
        cli_json_string(out, text, size);
    }
    free(text);
    free(ids);
    return status;
}

static bool role_of(const char *name, enum phid_role *ret)
{
    static const struct {
        const char *name;
        enum phid_role role;
    } roles[] = {{"system", PHID_ROLE_SYSTEM},
                 {"developer", PHID_ROLE_SYSTEM},
                 {"user", PHID_ROLE_USER},
                 {"assistant", PHID_ROLE_ASSISTANT},
                 {"tool", PHID_ROLE_TOOL}};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(name, roles[i].name) == 0) {
            *ret = roles[i].role;
            return true;
        }
    }
    return false;
}

static enum phid_status read_message(const json_t *item, size_t index, struct phid_message *ret,
                                     struct phid_error *err)
{
    const json_t *role = json_object_get(item, "role");
    const json_t *content = json_object_get(item, "content");
    if (!json_is_string(role) || !role_of(json_string_value(role), &ret->role)) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "[%zu].role: expected system, developer, user, assistant or tool", index);
    }
    if (!json_is_string(content)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "[%zu].content: expected a string", index);
    }
    ret->content = json_string_value(content);
    ret->content_size = json_string_length(content);
    return PHID_OK;
}

static enum phid_status encode_chat(const struct job *job, const json_t *line, struct buf *out,
                                    struct phid_error *err)
{
    size_t count = json_array_size(line), id_count = 0;
    int32_t *ids = NULL;
    if (!json_is_array(line) || count == 0 || count > MESSAGES_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected a JSON array of 1 to %d messages",
                         MESSAGES_MAX);
    }
    struct phid_message *messages = calloc(count, sizeof(*messages));
    if (messages == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    enum phid_status status = PHID_OK;
    for (size_t i = 0; i < count && status == PHID_OK; i++) {
        status = read_message(json_array_get(line, i), i, &messages[i], err);
    }
    if (status == PHID_OK) {
        status = phid_chat_tokens(job->model, messages, count, &ids, &id_count, err);
    }
    if (status == PHID_OK) {
        put_ids(out, ids, id_count);
        free(ids);
    }
    free(messages);
    return status;
}

static enum phid_status do_line(const struct job *job, const char *text, size_t size,
                                struct buf *out, struct phid_error *err)
{
    json_error_t where;
    json_t *line =
        json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
    if (line == NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "not valid JSON: %s", where.text);
    }
    buf_clear(out);
    enum phid_status status = job->decode ? decode_ids(job, line, out, err)
                              : job->chat ? encode_chat(job, line, out, err)
                                          : encode_text(job, line, out, err);
    json_decref(line);
    buf_append_byte(out, '\n');
    if (status == PHID_OK && out->failed) {
        status = phid_fail(err, PHID_ERR_MEMORY, "the result does not fit the memory");
    }
    return status;
}

static int do_lines(const struct job *job)
{
    size_t number = 0;
    int code = CLI_OK;
    enum line_outcome outcome = LINE_READ;
    struct buf line, out;
    struct phid_error err = {0};
    buf_init(&line, LINE_MAX_BYTES);
    buf_init(&out, OUTPUT_MAX);
    while (code == CLI_OK && (outcome = line_read(&line)) == LINE_READ) {
        number++;
        enum phid_status status =
            do_line(job, line.size > 0 ? line.data : "", line.size, &out, &err);
        if (status != PHID_OK) {
            phid_prefix(&err, status, "line %zu", number);
            code = cli_fail(&err);
        } else if (fwrite(out.data, 1, out.size, stdout) != out.size || fflush(stdout) != 0) {
            code = cli_failed("cannot write to standard output: %s", strerror(errno));
        }
    }
    if (outcome == LINE_TOO_LONG) {
        code = cli_failed("line %zu: longer than %zu bytes", number + 1, LINE_MAX_BYTES);
    } else if (outcome == LINE_FAILED || outcome == LINE_INTERRUPTED) {
        code = cli_failed("cannot read standard input: %s", strerror(errno));
    }
    buf_fini(&line);
    buf_fini(&out);
    return code;
}

int cli_tokenize(int argc, char **argv)
{
    struct job job = {0};
    const struct arg table[] = {
        {.name = "--special",
         .kind = ARG_SWITCH,
         .dest = &job.special,
         .help = "control tokens written in the text are control tokens; with --decode: show them"},
        {.name = "--bos",
         .kind = ARG_SWITCH,
         .dest = &job.bos,
         .help = "put the begin token first"},
        {.name = "--decode",
         .kind = ARG_SWITCH,
         .dest = &job.decode,
         .help = "the reverse: arrays of ids to strings"},
        {.name = "--chat",
         .kind = ARG_SWITCH,
         .dest = &job.chat,
         .help = "each line is an array of messages; the ids are those of the prompt, ready for "
                 "the answer"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("tokenize"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_model *model = NULL;
    struct phid_error err = {0};
    if (job.decode && (job.chat || job.bos)) {
        code = cli_usage("--decode goes with neither --chat nor --bos");
    } else if (args.config.model.path == NULL) {
        code = cli_usage("no model: give one with -m FILE");
    } else if (cli_open_model(&args.config, true, &model, &err) != PHID_OK) {
        code = cli_fail(&err);
    } else {
        job.model = model;
        code = do_lines(&job);
    }
    phid_model_close(model);
    args_fini(&args);
    return code;
}
