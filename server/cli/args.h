/* The command line of one subcommand: a table of its own flags beside those of the configuration.
 *
 * A command declares its table with the addresses where values go, calls args_parse, and owns the
 * struct args until args_fini. Strings point into argv. One thread. */
#ifndef PHID_CLI_ARGS_H
#define PHID_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

#define ARGS_LIST_MAX 16

enum arg_kind {
    ARG_SWITCH, /* bool */
    ARG_TEXT,   /* const char * */
    ARG_COUNT,  /* size_t, 0..max */
    ARG_COUNTS, /* struct arg_counts, from "1,8" */
};

struct arg_counts {
    size_t items[ARGS_LIST_MAX];
    size_t count;
};

struct arg {
    const char *name; /* "--tokens" */
    char letter;      /* 'n' for -n, or 0 */
    enum arg_kind kind;
    void *dest;
    size_t max;          /* of a count */
    const char *metavar; /* "IDS"; NULL for a switch */
    const char *help;
};

/* What a command is, for its help. */
struct command {
    const char *name;
    const char *summary; /* one line */
    const char *usage;   /* behind "phid NAME " */
    size_t positional_max;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
};

struct args {
    struct config config;
    const char *positionals[4];
    size_t positional_count;
    bool help_config; /* --help-config was given */
};

/* Parses argv[1..]: the command's flags (a table ended by a NULL name), the configuration's flags,
 * --config, --set,
 * --help. The configuration is defaults, then the file, then flags in their order, and is checked.
 * Returns -1 to go on (then args_fini is the caller's duty), or the exit code: 0 after --help, 2
 * after a message. */
int args_parse(struct args *args, const struct command *command, const struct arg *table, int argc,
               char **argv);
void args_fini(struct args *args);

/* "1,8" or "512"; false when it is anything else. */
bool args_parse_counts(const char *text, size_t max, struct arg_counts *ret);

#endif
