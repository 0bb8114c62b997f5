/* The log of `phid serve`: one event a line on standard error, as key=value text or as JSON.
 *
 * Configured once before threads start. Any thread may log; a line is written with one call. A log
 * that cannot be written is dropped, serving goes on. */
#ifndef PHID_CLI_LOG_H
#define PHID_CLI_LOG_H

#include "config/config.h"
#include "server/server.h"

void log_configure(const struct config *config);

/* A line of key=value pairs; a value with spaces stands in double quotes. */
void log_event(enum server_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The line that says the server answers: written whatever the level, since programs wait for it. */
void log_ready(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The callbacks for server_options.log and phid_engine_options.log. */
void log_from_server(void *user, enum server_log_level level, const char *line);
void log_from_engine(void *user, const char *line);

#endif
