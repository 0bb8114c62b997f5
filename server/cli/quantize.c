#include "quant/quantize.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/cli/cli.h"

static void show(void *context, const struct quantize_progress *progress)
{
    (void)context;
    int shown = progress->tensor.size < 40 ? (int)progress->tensor.size : 40;
    fprintf(stderr, "\r%4zu of %zu  %-40.*s %s -> %s   %s", progress->done, progress->total, shown,
            progress->tensor.data, progress->from, progress->to,
            progress->done == progress->total ? "\n" : "");
}

static void print_report(const char *path, const char *type, const struct quantize_report *r,
                         bool json)
{
    if (!json) {
        char before[32], after[32];
        cli_size_text(r->bytes_read, before, sizeof(before));
        cli_size_text(r->bytes_written, after, sizeof(after));
        printf("%s: %s -> %s, %zu of %zu tensors converted", path, before, after, r->converted,
               r->tensors);
        if (r->fallbacks > 0) {
            printf(", %zu to another type than %s because their rows do not divide into its blocks",
                   r->fallbacks, type);
        }
        putchar('\n');
        return;
    }
    printf("{\"path\":");
    cli_print_json_string(path, strlen(path));
    printf(",\"type\":\"%s\",\"tensors\":%zu,\"converted\":%zu,\"fallbacks\":%zu,"
           "\"bytes_read\":%llu,"
           "\"bytes_written\":%llu}\n",
           type, r->tensors, r->converted, r->fallbacks, (unsigned long long)r->bytes_read,
           (unsigned long long)r->bytes_written);
}

/* Writing over the file that is being read would ruin it. */
static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int cli_quantize(int argc, char **argv)
{
    bool json = false;
    const struct arg table[] = {
        {.name = "--json",
         .kind = ARG_SWITCH,
         .dest = &json,
         .help = "the report as one JSON object"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("quantize"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    struct quantize_report report;
    if (args.positional_count != 3) {
        code = cli_usage(
            "quantize: expected IN OUT TYPE, e.g. model-f16.gguf model-q4_k_m.gguf q4_k_m");
    } else if (same_file(args.positionals[0], args.positionals[1])) {
        code = cli_usage("quantize: IN and OUT are the same file");
    } else {
        const struct quantize_options options = {
            .target = str_of(args.positionals[2]),
            .threads = (size_t)args.config.engine.threads,
            .progress = isatty(STDERR_FILENO) ? show : NULL,
        };
        enum phid_status status =
            quantize_file(args.positionals[0], args.positionals[1], &options, &report, &err);
        if (status == PHID_OK) {
            print_report(args.positionals[1], args.positionals[2], &report, json);
            code = CLI_OK;
        } else {
            code = status == PHID_ERR_ARGUMENT ? cli_usage("%s", err.message) : cli_fail(&err);
        }
    }
    args_fini(&args);
    return code;
}
