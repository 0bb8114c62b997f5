/* The subcommands of the program phid, and what they share: error lines, exit codes, opening the
 * model.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 70 device lost. stdout carries the result only. One
 * thread each. */
#ifndef PHID_CLI_CLI_H
#define PHID_CLI_CLI_H

#include <stdbool.h>

#include "config/config.h"
#include "engine/base/buf.h"
#include "engine/phid.h"
#include "server/cli/args.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_DEVICE_LOST = 70 };

/* Writes "phid: error: MESSAGE" to stderr; returns the exit code for the status. */
int cli_fail(const struct phid_error *err);

/* The same from a format; returns CLI_USAGE or CLI_FAILED. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All subcommands, in the order of the help; the last one has no name. */
extern const struct command cli_commands[];

int cli_serve(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_pull(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_quantize(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_help(int argc, char **argv);

/* The entry of cli_commands with this name, NULL when there is none. */
const struct command *cli_command(const char *name);

/* Says that there is no such command, and which one may have been meant; CLI_USAGE. */
int cli_unknown_command(const char *name);

/* Where model.path lies: the path itself, or under models/ for a name that `phid pull` knows. Heap.
 */
enum phid_status cli_model_path(const struct config *config, char **ret_path,
                                struct phid_error *err);

/* Opens model.path. */
enum phid_status cli_open_model(const struct config *config, bool vocab_only,
                                struct phid_model **ret_model, struct phid_error *err);

/* The engine's options as the configuration says; log lines go to stderr when level is debug. */
void cli_engine_options(const struct config *config, struct phid_engine_options *ret);

/* A seed from the system's random source. */
uint64_t cli_random_seed(void);

/* Writes "text" as a JSON string, quotes included. Invalid UTF-8 becomes U+FFFD. */
void cli_json_string(struct buf *out, const char *text, size_t size);
void cli_print_json_string(const char *text, size_t size); /* to standard output */

/* A number of bytes for people: "2.2 GiB". */
void cli_size_text(uint64_t bytes, char *text, size_t size);

#endif
