#include "server/cli/args.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/options.h"
#include "config/scalar.h"
#include "engine/base/nearest.h"
#include "server/cli/cli.h"

/* One flag as found in argv, with its value where it takes one. */
struct found {
    const struct arg *arg;       /* the command's, or */
    const struct option *option; /* the configuration's, or */
    const char *builtin;         /* "--config", "--set", "--api-key", "--help", "--help-config" */
    bool takes_value;
};

static const struct builtin {
    const char *name;
    const char *metavar;
    const char *help;
} builtins[] = {
    {"--api-key", "KEY",
     "let clients in that send this key (repeatable; others can see it in the process list)"},
    {"--config", "FILE", "read this YAML file; flags override it"},
    {"--set", "KEY=VALUE",
     "set any key of the YAML file, e.g. --set server.drain.timeout=10s (repeatable)"},
    {"--help-config", NULL, "print the reference of all keys"},
    {"--help", NULL, "print this"},
};

#define BUILTIN_COUNT (sizeof(builtins) / sizeof(builtins[0]))

/* --------------------------------------------------------------- finding */

static bool find_long(struct str name, const struct arg *table, struct found *ret)
{
    *ret = (struct found){0};
    for (const struct arg *arg = table; arg->name != NULL; arg++) {
        if (str_equal_c(name, arg->name)) {
            *ret = (struct found){.arg = arg, .takes_value = arg->kind != ARG_SWITCH};
            return true;
        }
    }
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->flag != NULL && str_equal_c(name, option->flag)) {
            *ret = (struct found){.option = option, .takes_value = true};
            return true;
        }
    }
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        if (str_equal_c(name, builtins[i].name)) {
            *ret = (struct found){.builtin = builtins[i].name,
                                  .takes_value = builtins[i].metavar != NULL};
            return true;
        }
    }
    return false;
}

static bool find_letter(char letter, const struct arg *table, struct found *ret)
{
    *ret = (struct found){0};
    if (letter == 0) {
        return false;
    }
    for (const struct arg *arg = table; arg->name != NULL; arg++) {
        if (arg->letter == letter) {
            *ret = (struct found){.arg = arg, .takes_value = arg->kind != ARG_SWITCH};
            return true;
        }
    }
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->letter == letter) {
            *ret = (struct found){.option = option, .takes_value = true};
            return true;
        }
    }
    if (letter == 'h') {
        *ret = (struct found){.builtin = "--help"};
        return true;
    }
    return false;
}

/* Says that the command has no flag `name`, and which one may have been meant. */
static int unknown_flag(const char *command, struct str name, const struct arg *table)
{
    struct nearest nearest = {0};
    for (const struct arg *arg = table; arg->name != NULL; arg++) {
        nearest_offer(&nearest, str_of(arg->name), nearest_distance(name, str_of(arg->name)));
    }
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->flag != NULL) {
            struct str flag = str_of(option->flag);
            nearest_offer(&nearest, flag, nearest_distance(name, flag));
        }
    }
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        struct str flag = str_of(builtins[i].name);
        nearest_offer(&nearest, flag, nearest_distance(name, flag));
    }
    int size = name.size < 60 ? (int)name.size : 60;
    if (nearest_found(&nearest, name.size - 2)) {
        return cli_usage("%s: unknown flag %.*s; did you mean %.*s?", command, size, name.data,
                         (int)nearest.word.size, nearest.word.data);
    }
    return cli_usage("%s: unknown flag %.*s; `phid %s --help` lists them", command, size, name.data,
                     command);
}

/* ---------------------------------------------------------------- values */

bool args_parse_counts(const char *text, size_t max, struct arg_counts *ret)
{
    struct arg_counts counts = {0};
    while (true) {
        size_t size = strcspn(text, ",");
        int64_t value;
        if (counts.count == ARGS_LIST_MAX || !scalar_parse_int((struct str){text, size}, &value) ||
            value < 0 || (uint64_t)value > max) {
            return false;
        }
        counts.items[counts.count++] = (size_t)value;
        if (text[size] == 0) {
            *ret = counts;
            return true;
        }
        text += size + 1;
    }
}

static int store_arg(const struct arg *arg, const char *flag, const char *value)
{
    struct arg_counts counts;
    int64_t number;
    switch (arg->kind) {
    case ARG_SWITCH:
        *(bool *)arg->dest = true;
        return -1;
    case ARG_TEXT:
        *(const char **)arg->dest = value;
        return -1;
    case ARG_COUNT:
        if (!scalar_parse_int(str_of(value), &number) || number < 0 ||
            (uint64_t)number > arg->max) {
            return cli_usage("%s: expected an integer from 0 to %zu, found %.60s", flag, arg->max,
                             value);
        }
        *(size_t *)arg->dest = (size_t)number;
        return -1;
    case ARG_COUNTS:
        if (!args_parse_counts(value, arg->max, &counts)) {
            return cli_usage(
                "%s: expected up to %d integers from 0 to %zu separated by commas, found %.60s",
                flag, ARGS_LIST_MAX, arg->max, value);
        }
        *(struct arg_counts *)arg->dest = counts;
        return -1;
    }
    return cli_usage("%s: not understood", flag);
}

static int store_builtin(struct args *args, const char *name, const char *value)
{
    struct phid_error err = {0};
    if (strcmp(name, "--set") == 0 && config_set(&args->config, value, &err) != PHID_OK) {
        return cli_usage("%s", err.message);
    }
    if (strcmp(name, "--api-key") == 0 &&
        config_add_api_key(&args->config, value, &err) != PHID_OK) {
        return cli_usage("%s", err.message);
    }
    if (strcmp(name, "--help-config") == 0) {
        args->help_config = true;
    }
    return -1;
}

/* ------------------------------------------------------------------ help */

static void print_flag(char letter, const char *name, const char *metavar, const char *help)
{
    char left[64];
    snprintf(left, sizeof(left), "%c%c%s %s%s%s", letter != 0 ? '-' : ' ',
             letter != 0 ? letter : ' ', letter != 0 ? "," : " ", name, metavar != NULL ? " " : "",
             metavar != NULL ? metavar : "");
    printf("  %-28s %s\n", left, help);
}

static void print_help(const struct command *command, const struct arg *table)
{
    printf("phid %s: %s\n\nusage: phid %s %s\n\n", command->name, command->summary, command->name,
           command->usage);
    for (const struct arg *arg = table; arg->name != NULL; arg++) {
        print_flag(arg->letter, arg->name, arg->metavar, arg->help);
    }
    bool serves = strcmp(command->name, "serve") == 0;
    printf("%s%s:\n", table->name != NULL ? "\n" : "",
           serves ? "configuration"
                  : "configuration, the same for every command (some of it matters to serve only)");
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->flag != NULL) {
            print_flag(option->letter, option->flag, option->metavar, option->help);
        }
    }
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        print_flag(0, builtins[i].name, builtins[i].metavar, builtins[i].help);
    }
}

static int print_reference(void)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    option_reference(&out);
    int code = out.failed ? cli_usage("out of memory") : 0;
    if (code == 0) {
        fwrite(out.data, 1, out.size, stdout);
    }
    buf_fini(&out);
    return code;
}

/* --------------------------------------------------------------- parsing */

/* Walks argv twice: first only --config and --help take effect, then everything else, so that flags
 * override the file wherever they stand. */
struct walk {
    struct args *args;
    const struct command *command;
    const struct arg *table;
    bool first_pass;
};

static int take_flag(const struct walk *w, const struct found *found, const char *flag,
                     const char *value)
{
    struct phid_error err = {0};
    if (w->first_pass) {
        if (found->builtin != NULL && strcmp(found->builtin, "--help") == 0) {
            print_help(w->command, w->table);
            return 0;
        }
        if (found->builtin != NULL && strcmp(found->builtin, "--config") == 0 &&
            config_load_file(&w->args->config, value, &err) != PHID_OK) {
            return cli_usage("%s", err.message);
        }
        return -1;
    }
    if (found->arg != NULL) {
        return store_arg(found->arg, flag, value);
    }
    if (found->option != NULL) {
        if (config_set_text(&w->args->config, found->option->key, flag, value, &err) != PHID_OK) {
            return cli_usage("%s", err.message);
        }
        return -1;
    }
    return store_builtin(w->args, found->builtin, value);
}

static int take_positional(const struct walk *w, const char *text)
{
    if (w->first_pass) {
        return -1;
    }
    if (w->args->positional_count == w->command->positional_max) {
        return cli_usage("%s: unexpected argument %.80s", w->command->name, text);
    }
    w->args->positionals[w->args->positional_count++] = text;
    return -1;
}

/* argv[*index] begins with '-': a flag, maybe with its value in argv[*index + 1]. */
static int walk_flag(const struct walk *w, int argc, char **argv, int *index)
{
    const char *text = argv[*index];
    struct found found;
    const char *value = NULL;
    char flag[64];
    if (text[1] == '-') {
        size_t size = strcspn(text, "=");
        snprintf(flag, sizeof(flag), "%.*s", (int)(size < 60 ? size : 60), text);
        if (!find_long((struct str){text, size}, w->table, &found)) {
            return unknown_flag(w->command->name, (struct str){text, size}, w->table);
        }
        value = text[size] == '=' ? text + size + 1 : NULL;
        if (value != NULL && !found.takes_value) {
            return cli_usage("%s takes no value", flag);
        }
    } else {
        snprintf(flag, sizeof(flag), "-%c", text[1]);
        if (!find_letter(text[1], w->table, &found) || (text[2] != 0 && !found.takes_value)) {
            return cli_usage("%s: unknown flag %.60s; `phid %s --help` lists them",
                             w->command->name, text, w->command->name);
        }
        value = text[2] != 0 ? text + 2 : NULL;
    }
    if (found.takes_value && value == NULL) {
        if (*index + 1 >= argc) {
            return cli_usage("%s: expected a value", flag);
        }
        value = argv[++*index];
    }
    return take_flag(w, &found, flag, value);
}

static int walk_all(const struct walk *w, int argc, char **argv)
{
    bool flags_ended = false;
    for (int i = 1; i < argc; i++) {
        int code;
        if (!flags_ended && strcmp(argv[i], "--") == 0) {
            flags_ended = true;
            continue;
        }
        if (!flags_ended && argv[i][0] == '-' && argv[i][1] != 0) {
            code = walk_flag(w, argc, argv, &i);
        } else {
            code = take_positional(w, argv[i]);
        }
        if (code >= 0) {
            return code;
        }
    }
    return -1;
}

int args_parse(struct args *args, const struct command *command, const struct arg *table, int argc,
               char **argv)
{
    struct phid_error err = {0};
    *args = (struct args){0};
    if (config_init(&args->config, &err) != PHID_OK) {
        return cli_fail(&err);
    }
    struct walk walk = {.args = args, .command = command, .table = table, .first_pass = true};
    int code = walk_all(&walk, argc, argv);
    if (code < 0) {
        walk.first_pass = false;
        code = walk_all(&walk, argc, argv);
    }
    if (code < 0 && args->help_config) {
        code = print_reference();
    }
    if (code < 0 && config_check(&args->config, &err) != PHID_OK) {
        code = cli_usage("%s", err.message);
    }
    if (code >= 0) {
        args_fini(args);
    }
    return code;
}

void args_fini(struct args *args)
{
    config_fini(&args->config);
}
