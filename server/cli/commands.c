#include <stdio.h>
#include <string.h>

#include "engine/base/nearest.h"
#include "server/cli/cli.h"

const struct command cli_commands[] = {
    {"serve", "serve a model over the OpenAI API", "-m MODEL [flags]", 0, cli_serve},
    {"run", "complete a prompt, the text streamed to standard output", "-m MODEL PROMPT [flags]", 1,
     cli_run},
    {"chat", "talk with a model in the terminal", "-m MODEL [flags]", 0, cli_chat},
    {"pull", "fetch a model", "NAME|hf:OWNER/REPOSITORY/FILE|URL [flags]", 1, cli_pull},
    {"inspect", "what is in a model file, and the memory it will take", "-m MODEL [flags]", 0,
     cli_inspect},
    {"tokenize", "texts to token ids, one JSON value a line from standard input",
     "-m MODEL [flags]", 0, cli_tokenize},
    {"eval", "logits or the greedy continuation of token ids, as JSON",
     "-m MODEL (--tokens IDS | --prompt TEXT | --tokens-file FILE) [flags]", 0, cli_eval},
    {"bench", "measure prefill and decode against the peaks of this machine",
     "(-m MODEL | --random SHAPE:TYPE) [flags]", 0, cli_bench},
    {"quantize", "write a copy of a model with another type of weights", "IN OUT TYPE [flags]", 3,
     cli_quantize},
    {"version", "this build", "[--json]", 0, cli_version},
    {"help", "this list, or one command's flags", "[COMMAND]", 1, cli_help},
    {NULL, NULL, NULL, 0, NULL},
};

const struct command *cli_command(const char *name)
{
    for (const struct command *c = cli_commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

int cli_unknown_command(const char *name)
{
    struct nearest nearest = {0};
    for (const struct command *c = cli_commands; c->name != NULL; c++) {
        nearest_offer(&nearest, str_of(c->name), nearest_distance(str_of(name), str_of(c->name)));
    }
    if (nearest_found(&nearest, strlen(name))) {
        return cli_usage("unknown command %.60s; did you mean %.*s?", name, (int)nearest.word.size,
                         nearest.word.data);
    }
    return cli_usage("unknown command %.60s; `phid help` lists them", name);
}

int cli_help(int argc, char **argv)
{
    if (argc > 2) {
        return cli_usage("help: expected one command");
    }
    if (argc == 2 && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0) {
        const struct command *command = cli_command(argv[1]);
        if (command == NULL) {
            return cli_unknown_command(argv[1]);
        }
        if (command->run == cli_help) {
            return cli_help(1, argv);
        }
        char name[16], flag[] = "--help";
        snprintf(name, sizeof(name), "%s", command->name);
        char *arguments[] = {name, flag, NULL};
        return command->run(2, arguments);
    }
    printf(
        "phid %s: an OpenAI-compatible server for GGUF models\n\nusage: phid COMMAND [flags]\n\n",
        phid_version());
    for (const struct command *c = cli_commands; c->name != NULL; c++) {
        printf("  %-10s %s\n", c->name, c->summary);
    }
    printf("\n`phid help COMMAND` lists a command's flags; `phid serve --help-config` every key of "
           "the configuration.\n");
    return CLI_OK;
}
