#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/cli/catalog.h"
#include "server/cli/cli.h"
#include "server/cli/download.h"

struct job {
    const char *sha256, *folder;
    bool json;
};

static void print_result(const struct job *job, const char *path, const char *sha256)
{
    struct stat info;
    if (!job->json) {
        printf("%s\n", path);
        return;
    }
    printf("{\"path\":");
    cli_print_json_string(path, strlen(path));
    printf(",\"bytes\":%lld,\"sha256\":\"%s\"}\n",
           stat(path, &info) == 0 ? (long long)info.st_size : 0, sha256);
}

/* The file is here already: right when no hash says otherwise. */
static enum phid_status check_present(const struct job *job, const char *path,
                                      char sha256[SHA256_TEXT], struct phid_error *err)
{
    if (job->sha256 == NULL && !job->json) {
        return PHID_OK;
    }
    enum phid_status status = download_hash_file(path, sha256, err);
    if (status == PHID_OK && job->sha256 != NULL && strcasecmp(job->sha256, sha256) != 0) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "%.200s is here with SHA-256 %s, expected %s; remove it to fetch it again",
                         path, sha256, job->sha256);
    }
    return status;
}

static enum phid_status pull(const struct job *job, const char *name, struct phid_error *err)
{
    struct catalog_source source;
    struct stat present;
    char sha256[SHA256_TEXT] = "";
    enum phid_status status = catalog_resolve(name, &source, err);
    if (status != PHID_OK) {
        return status;
    }
    char *path = catalog_local_path(&source, job->folder);
    if (path == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    } else if (stat(path, &present) == 0) {
        status = !S_ISREG(present.st_mode)
                     ? phid_fail(err, PHID_ERR_IO, "%.300s: is here, but is no regular file", path)
                     : check_present(job, path, sha256, err);
    } else if (mkdir(job->folder, 0755) != 0 && errno != EEXIST) {
        status =
            phid_fail(err, PHID_ERR_IO, "%.300s: cannot create: %s", job->folder, strerror(errno));
    } else {
        const struct download download = {.url = source.url,
                                          .path = path,
                                          .sha256 = job->sha256,
                                          .progress = isatty(STDERR_FILENO) != 0};
        status = download_run(&download, sha256, err);
    }
    if (status == PHID_OK) {
        print_result(job, path, sha256);
    }
    free(path);
    catalog_source_fini(&source);
    return status;
}

static void print_names(void)
{
    const char *name, *repository;
    for (size_t i = 0; (name = catalog_name_at(i, &repository)) != NULL; i++) {
        printf("%-14s %s\n", name, repository);
    }
}

int cli_pull(int argc, char **argv)
{
    struct job job = {.folder = CATALOG_FOLDER};
    bool list = false;
    const struct arg table[] = {
        {.name = "--sha256",
         .kind = ARG_TEXT,
         .dest = &job.sha256,
         .metavar = "DIGITS",
         .help = "refuse a file with another SHA-256 (Hugging Face's own is checked anyway)"},
        {.name = "--dir",
         .kind = ARG_TEXT,
         .dest = &job.folder,
         .metavar = "FOLDER",
         .help = "where the file goes; models/ is where -m looks"},
        {.name = "--list", .kind = ARG_SWITCH, .dest = &list, .help = "the short names"},
        {.name = "--json",
         .kind = ARG_SWITCH,
         .dest = &job.json,
         .help = "path, bytes and sha256 as one JSON object"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("pull"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct phid_error err = {0};
    if (list) {
        print_names();
        code = CLI_OK;
    } else if (args.positional_count == 0) {
        code = cli_usage("pull: expected a name, hf:owner/repository/file.gguf or a URL; `phid "
                         "pull --list` gives the names");
    } else if (job.sha256 != NULL &&
               (strlen(job.sha256) != 64 || strspn(job.sha256, "0123456789abcdefABCDEF") != 64)) {
        code = cli_usage("--sha256: expected 64 hexadecimal digits");
    } else {
        code = pull(&job, args.positionals[0], &err) == PHID_OK ? CLI_OK : cli_fail(&err);
    }
    args_fini(&args);
    return code;
}
