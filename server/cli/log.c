#include "server/cli/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/buf.h"
#include "server/cli/cli.h"

#define LINE_BYTES_MAX 4096

/* Set once by log_configure, before threads start. */
static enum server_log_level least_level = SERVER_LOG_INFO;
static bool as_json;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_configure(const struct config *config)
{
    static const enum server_log_level levels[] = {SERVER_LOG_DEBUG, SERVER_LOG_INFO,
                                                   SERVER_LOG_WARN, SERVER_LOG_ERROR};
    least_level = levels[config->log.level];
    as_json = config->log.format == CONFIG_LOG_JSON;
}

/* 2026-01-31T12:34:56.789Z */
static void put_time(struct buf *out)
{
    struct timespec now;
    struct tm parts;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    buf_printf(out, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

/* Appends `key=value key="value"` as JSON members. Words without `=` become the member "text". */
static void put_members(const char *line, struct buf *out)
{
    while (*line != 0) {
        line += strspn(line, " ");
        size_t key = strcspn(line, "= ");
        if (key == 0) {
            line += *line != 0 ? 1 : 0;
            continue;
        }
        buf_append_byte(out, ',');
        if (line[key] != '=') {
            buf_append_c(out, "\"text\":");
            cli_json_string(out, line, key);
            line += key;
            continue;
        }
        cli_json_string(out, line, key);
        buf_append_byte(out, ':');
        line += key + 1;
        bool quoted = *line == '"';
        line += quoted ? 1 : 0;
        size_t value = strcspn(line, quoted ? "\"" : " ");
        cli_json_string(out, line, value);
        line += value;
        line += quoted && *line == '"' ? 1 : 0;
    }
}

static void put_line(enum server_log_level level, const char *line)
{
    struct buf out;
    buf_init(&out, 4 * LINE_BYTES_MAX);
    if (as_json) {
        buf_append_c(&out, "{\"time\":\"");
        put_time(&out);
        buf_printf(&out, "\",\"level\":\"%s\"", level_names[level]);
        put_members(line, &out);
        buf_append_c(&out, "}\n");
    } else {
        buf_append_c(&out, "time=");
        put_time(&out);
        buf_printf(&out, " level=%s %s\n", level_names[level], line);
    }
    if (!out.failed) {
        ssize_t written = write(STDERR_FILENO, out.data, out.size);
        (void)written;
    }
    buf_fini(&out);
}

void log_event(enum server_log_level level, const char *format, ...)
{
    char line[LINE_BYTES_MAX];
    va_list list;
    if (level < least_level) {
        return;
    }
    va_start(list, format);
    vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    put_line(level, line);
}

void log_ready(const char *format, ...)
{
    char line[LINE_BYTES_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    put_line(SERVER_LOG_INFO, line);
}

void log_from_server(void *user, enum server_log_level level, const char *line)
{
    (void)user;
    if (level >= least_level) {
        put_line(level, line);
    }
}

void log_from_engine(void *user, const char *line)
{
    log_from_server(user, SERVER_LOG_DEBUG, line);
}
