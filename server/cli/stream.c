#include "server/cli/stream.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/scalar.h"
#include "server/cli/cli.h"

void stream_flag_table(struct stream_flags *flags, struct arg *table)
{
    const struct arg rows[STREAM_FLAG_COUNT] = {
        {.name = "--max-tokens",
         .letter = 'n',
         .kind = ARG_COUNT,
         .dest = &flags->max_tokens,
         .max = 1 << 24,
         .metavar = "N",
         .help = "tokens of an answer, at most; 0 is what the context holds"},
        {.name = "--temperature",
         .letter = 't',
         .kind = ARG_TEXT,
         .dest = &flags->temperature,
         .metavar = "X",
         .help = "0 is greedy, up to 2"},
        {.name = "--top-p",
         .kind = ARG_TEXT,
         .dest = &flags->top_p,
         .metavar = "X",
         .help = "0 to 1; 1 is off"},
        {.name = "--top-k",
         .kind = ARG_COUNT,
         .dest = &flags->top_k,
         .max = 1 << 24,
         .metavar = "N",
         .help = "0 is off"},
        {.name = "--min-p",
         .kind = ARG_TEXT,
         .dest = &flags->min_p,
         .metavar = "X",
         .help = "0 to 1; 0 is off"},
        {.name = "--seed",
         .kind = ARG_TEXT,
         .dest = &flags->seed,
         .metavar = "N",
         .help = "the same seed gives the same text"},
    };
    memcpy(table, rows, sizeof(rows));
}

/* A decimal number from 0 to max. */
static bool read_number(const char *text, double max, float *ret)
{
    char *end;
    if (text == NULL) {
        return true;
    }
    if (text[0] == 0 || strspn(text, "0123456789.") != strlen(text)) {
        return false;
    }
    double value = strtod(text, &end);
    if (*end != 0 || !(value >= 0 && value <= max)) {
        return false;
    }
    *ret = (float)value;
    return true;
}

int stream_sampling(const struct stream_flags *flags, double temperature, struct phid_sampling *ret)
{
    struct phid_sampling sampling = {
        .temperature = (float)temperature,
        .top_p = 1,
        .top_k = (int32_t)flags->top_k,
        .repetition_penalty = 1,
        .seed = cli_random_seed(),
    };
    int64_t seed;
    if (!read_number(flags->temperature, 2, &sampling.temperature)) {
        return cli_usage("--temperature: expected a number from 0 to 2, found %.60s",
                         flags->temperature);
    }
    if (!read_number(flags->top_p, 1, &sampling.top_p)) {
        return cli_usage("--top-p: expected a number from 0 to 1, found %.60s", flags->top_p);
    }
    if (!read_number(flags->min_p, 1, &sampling.min_p)) {
        return cli_usage("--min-p: expected a number from 0 to 1, found %.60s", flags->min_p);
    }
    if (flags->seed != NULL) {
        if (!scalar_parse_int(str_of(flags->seed), &seed)) {
            return cli_usage("--seed: expected an integer, found %.60s", flags->seed);
        }
        sampling.seed = (uint64_t)seed;
    }
    *ret = sampling;
    return -1;
}

enum phid_status stream_answer(struct phid_engine *engine, const struct phid_request_params *params,
                               const volatile sig_atomic_t *interrupted, struct buf *answer,
                               struct phid_output *ret, struct phid_error *err)
{
    struct phid_request *request = NULL;
    struct phid_output output = {0};
    bool cancelled = false;
    enum phid_status status = phid_engine_submit(engine, params, &request, err);
    while (status == PHID_OK && output.finish == PHID_FINISH_NONE) {
        if (interrupted != NULL && *interrupted && !cancelled) {
            phid_request_cancel(request);
            cancelled = true;
        }
        if (!phid_request_wait(request, 100)) {
            continue;
        }
        while (output.finish == PHID_FINISH_NONE && phid_request_poll(request, &output)) {
            fwrite(output.text, 1, output.text_size, stdout);
            if (answer != NULL) {
                buf_append(answer, output.text, output.text_size);
            }
        }
        if (fflush(stdout) != 0) {
            status =
                phid_fail(err, PHID_ERR_IO, "cannot write to standard output: %s", strerror(errno));
        }
    }
    if (status == PHID_OK && output.finish == PHID_FINISH_ERROR) {
        status = phid_fail(err, output.error.status, "%s", output.error.message);
    }
    phid_request_free(request);
    /* What pointed into the request is gone. */
    output.text = NULL;
    output.text_size = 0;
    output.tokens = NULL;
    output.token_count = 0;
    *ret = output;
    return status;
}
