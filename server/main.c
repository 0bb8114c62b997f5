/* The program phid: finds the subcommand and runs it. Everything else is in cli/. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "server/cli/cli.h"

/* A result that could not be written is a failure, whatever the command thought. */
static int finish(int code)
{
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        int failed = cli_failed("cannot write to standard output%s%s", errno != 0 ? ": " : "",
                                errno != 0 ? strerror(errno) : "");
        return code == CLI_OK ? failed : code;
    }
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return cli_usage("expected a command; `phid help` lists them");
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const struct command *command = cli_command(name);
    if (command == NULL) {
        return cli_usage("unknown command %.60s; `phid help` lists them", name);
    }
    return finish(command->run(argc - 1, argv + 1));
}
