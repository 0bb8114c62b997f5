/* One answer streamed to standard output, for `run` and `chat`. */
#ifndef PHID_CLI_STREAM_H
#define PHID_CLI_STREAM_H

#include <signal.h>
#include <stdbool.h>

#include "engine/base/buf.h"
#include "engine/phid.h"
#include "server/cli/args.h"

/* Sampling as the command line gives it; the texts are NULL where a flag was not given. */
struct stream_flags {
    const char *temperature, *top_p, *min_p, *seed;
    size_t top_k;
    size_t max_tokens; /* 0: what the context holds */
};

/* The flags' rows for a command's table: copies STREAM_FLAG_COUNT entries to `table`. */
#define STREAM_FLAG_COUNT 6
void stream_flag_table(struct stream_flags *flags, struct arg *table);

/* Checked sampling parameters; returns -1, or 2 after a message. */
int stream_sampling(const struct stream_flags *flags, double temperature,
                    struct phid_sampling *ret);

/* Submits params and writes the text as it comes. `answer` gets it too unless NULL. *interrupted
 * (may be NULL) set by a signal handler stops the answer; that is no error. *ret_finish says how it
 * ended. */
enum phid_status stream_answer(struct phid_engine *engine, const struct phid_request_params *params,
                               const volatile sig_atomic_t *interrupted, struct buf *answer,
                               struct phid_output *ret, struct phid_error *err);

#endif
