/* The program phid: finds the subcommand and runs it. Everything else is in cli/. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/cli/cli.h"

/* A result that could not be written is a failure, whatever the command thought. */
static int finish(int code)
{
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
        code = cli_failed("cannot write to standard output%s%s", errno != 0 ? ": " : "",
                          errno != 0 ? strerror(errno) : "");
    }
    return code;
}

/* Model files are mapped while they load. Reading a page that is no longer there is this signal. */
static void on_lost_page(int signal)
{
    static const char message[] =
        "phid: error: a file was cut short, or its disk failed, while it was being read\n";
    static atomic_flag said = ATOMIC_FLAG_INIT;
    (void)signal;
    while (atomic_flag_test_and_set(&said)) {
        pause(); /* another thread is saying it */
    }
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(CLI_FAILED);
}

int main(int argc, char **argv)
{
    const struct sigaction lost_page = {.sa_handler = on_lost_page};
    sigaction(SIGBUS, &lost_page, NULL);
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
        return cli_unknown_command(name);
    }
    return finish(command->run(argc - 1, argv + 1));
}
