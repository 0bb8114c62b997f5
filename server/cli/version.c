#include <stdio.h>

#include "engine/base/cpuid.h"
#include "server/cli/cli.h"

int cli_version(int argc, char **argv)
{
    bool json = false;
    const struct arg table[] = {
        {.name = "--json", .kind = ARG_SWITCH, .dest = &json, .help = "one JSON object"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("version"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    args_fini(&args);
    const char *isa = cpuid_isa_name(cpuid_detect().isa);
    if (json) {
        printf("{\"version\":\"%s\",\"commit\":\"%s\",\"isa\":\"%s\",\"backends\":[\"cpu\"]}\n",
               phid_version(), phid_commit(), isa);
    } else {
        printf("phid %s (%s), cpu %s\n", phid_version(), phid_commit(), isa);
    }
    return CLI_OK;
}
