#include "server/cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/utf8.h"
#include "server/cli/catalog.h"

/* ---------------------------------------------------------------- errors */

int cli_fail(const struct phid_error *err)
{
    fprintf(stderr, "phid: error: %s\n",
            err->message[0] != 0 ? err->message : phid_status_name(err->status));
    return err->status == PHID_ERR_DEVICE ? CLI_DEVICE_LOST : CLI_FAILED;
}

/* Through phid_fail, which keeps the message on one line. */
static int complain(int code, const char *format, va_list list)
{
    char text[PHID_ERROR_MESSAGE_MAX];
    struct phid_error err = {0};
    vsnprintf(text, sizeof(text), format, list);
    phid_fail(&err, PHID_ERR_ARGUMENT, "%s", text);
    fprintf(stderr, "phid: error: %s\n", err.message);
    return code;
}

int cli_usage(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int code = complain(CLI_USAGE, format, list);
    va_end(list);
    return code;
}

int cli_failed(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int code = complain(CLI_FAILED, format, list);
    va_end(list);
    return code;
}

/* ----------------------------------------------------------------- model */

enum phid_status cli_model_path(const struct config *config, char **ret_path,
                                struct phid_error *err)
{
    const char *name = config->model.path;
    if (name == NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "no model: give one with -m FILE, or model.path in the configuration");
    }
    if (access(name, F_OK) == 0) {
        *ret_path = str_dup(str_of(name));
        return *ret_path != NULL ? PHID_OK : phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    struct catalog_source source;
    struct phid_error ignored;
    if (catalog_resolve(name, &source, &ignored) != PHID_OK) {
        /* Neither a file nor a name: opening it says so in the usual words. */
        *ret_path = str_dup(str_of(name));
        return *ret_path != NULL ? PHID_OK : phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    char *path = catalog_local_path(&source, CATALOG_FOLDER);
    catalog_source_fini(&source);
    if (path == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    if (access(path, F_OK) != 0) {
        phid_fail(err, PHID_ERR_NOT_FOUND,
                  "%.100s is not here yet (no %.200s); `phid pull %.100s` fetches it", name, path,
                  name);
        free(path);
        return PHID_ERR_NOT_FOUND;
    }
    *ret_path = path;
    return PHID_OK;
}

enum phid_status cli_open_model(const struct config *config, bool vocab_only,
                                struct phid_model **ret_model, struct phid_error *err)
{
    char *path = NULL;
    enum phid_status status = cli_model_path(config, &path, err);
    if (status != PHID_OK) {
        return status;
    }
    struct phid_model_options options = {.template_name = config->model.chat_template,
                                         .vocab_only = vocab_only};
    status = phid_model_open(path, &options, ret_model, err);
    free(path);
    return status;
}

static void log_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

void cli_engine_options(const struct config *config, struct phid_engine_options *ret)
{
    static const enum phid_speculation speculations[] = {
        [CONFIG_SPECULATION_AUTO] = PHID_SPECULATION_AUTO,
        [CONFIG_SPECULATION_ALWAYS] = PHID_SPECULATION_ALWAYS,
        [CONFIG_SPECULATION_OFF] = PHID_SPECULATION_OFF,
    };
    static const enum phid_longrope longropes[] = {
        [CONFIG_LONGROPE_HF] = PHID_LONGROPE_HF,
        [CONFIG_LONGROPE_LONG] = PHID_LONGROPE_LONG,
        [CONFIG_LONGROPE_SHORT] = PHID_LONGROPE_SHORT,
    };
    *ret = (struct phid_engine_options){
        .threads = (size_t)config->engine.threads,
        .context = (size_t)config->engine.context,
        .max_running = (size_t)config->engine.max_running,
        .step_tokens = (size_t)config->engine.step_tokens,
        .itl_target_ms = (uint32_t)config->engine.itl_target_ms,
        .queue = (size_t)config->limits.queue,
        .queue_tokens = (size_t)config->limits.queue_tokens,
        .max_wait_ms = (uint32_t)config->limits.max_wait_ms,
        .max_overtake_ms = (uint32_t)config->engine.max_overtake_ms,
        .kv_type = config->engine.kv_type == CONFIG_KV_F32    ? PHID_KV_F32
                   : config->engine.kv_type == CONFIG_KV_INT8 ? PHID_KV_INT8
                                                              : PHID_KV_F16,
        .activations =
            config->engine.activations == CONFIG_ACTIVATIONS_INT8     ? PHID_ACTIVATIONS_INT8
            : config->engine.activations == CONFIG_ACTIVATIONS_INT8X2 ? PHID_ACTIVATIONS_INT8X2
            : config->engine.activations == CONFIG_ACTIVATIONS_BF16   ? PHID_ACTIVATIONS_BF16
            : config->engine.activations == CONFIG_ACTIVATIONS_W8A8   ? PHID_ACTIVATIONS_W8A8
                                                                      : PHID_ACTIVATIONS_AUTO,
        .speculation = speculations[config->engine.speculation],
        .kv_memory_bytes = config->engine.kv_memory_bytes,
        .longrope = longropes[config->engine.longrope],
        .isa = config_isas[config->engine.isa],
        .pin_threads = config->engine.pin_threads,
        .small_pages = !config->engine.huge_pages,
        .local_memory = config->engine.numa == CONFIG_NUMA_LOCAL,
        .prefix_cache_off = !config->engine.prefix_cache,
        .log = config->log.level == CONFIG_LOG_DEBUG ? log_line : NULL,
    };
}

/* ------------------------------------------------------------------ text */

uint64_t cli_random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * UINT64_C(1000000007) ^ (uint64_t)now.tv_nsec;
    }
    return seed;
}

/* The next character of a JSON string: written to piece (at most 6 bytes), its length returned.
 * *used is what it took of the text. */
static size_t json_piece(struct str text, char piece[8], size_t *used)
{
    unsigned char c = (unsigned char)text.data[0];
    uint32_t code_point;
    size_t length = utf8_decode(text, &code_point);
    *used = length > 0 ? length : 1;
    if (length == 0) {
        return (size_t)snprintf(piece, 8, "\\ufffd");
    }
    if (c == '"' || c == '\\') {
        return (size_t)snprintf(piece, 8, "\\%c", c);
    }
    if (c == '\n') {
        return (size_t)snprintf(piece, 8, "\\n");
    }
    if (c < 0x20 || c == 0x7f) {
        return (size_t)snprintf(piece, 8, "\\u%04x", c);
    }
    memcpy(piece, text.data, length);
    return length;
}

void cli_json_string(struct buf *out, const char *text, size_t size)
{
    char piece[8];
    size_t used;
    buf_append_byte(out, '"');
    for (size_t i = 0; i < size; i += used) {
        size_t length = json_piece((struct str){text + i, size - i}, piece, &used);
        buf_append(out, piece, length);
    }
    buf_append_byte(out, '"');
}

void cli_print_json_string(const char *text, size_t size)
{
    char piece[8];
    size_t used;
    putchar('"');
    for (size_t i = 0; i < size; i += used) {
        size_t length = json_piece((struct str){text + i, size - i}, piece, &used);
        fwrite(piece, 1, length, stdout);
    }
    putchar('"');
}

void cli_size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}
