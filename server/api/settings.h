/* The request fields that completions and chat share: sampling, limits, stop strings, streaming.
 *
 * Read once by a worker from the parsed body; stop strings are views into it, so the body outlives
 * the settings. */
#ifndef PHID_SERVER_API_SETTINGS_H
#define PHID_SERVER_API_SETTINGS_H

#include "server/api/api.h"

#define SETTINGS_N_MAX          128
#define SETTINGS_LOGPROBS_MAX   20
#define SETTINGS_STOPS_MAX      64
#define SETTINGS_STOP_BYTES_MAX 4096
#define SETTINGS_BIASES_MAX     10000
#define SETTINGS_SALT_BYTES_MAX 256

struct settings {
    double temperature, top_p, min_p;
    double repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, seed, n;
    int64_t max_tokens; /* -1: as many as fit */
    int64_t min_tokens;
    int64_t priority; /* lower goes first */
    bool priority_given;
    bool seed_given, ignore_eos, stream, include_usage;
    struct phid_stop *stops; /* heap; the texts belong to the body */
    size_t stop_count;
    struct phid_logit_bias *biases; /* heap */
    size_t bias_count;
    const json_t *cache_salt; /* belongs to the body; NULL: none */
};

/* max_tokens is left at `max_tokens_default`, and may be as small as `max_tokens_min`. */
enum api_fault settings_read(const struct api *api, const json_t *body, int64_t max_tokens_default,
                             int64_t max_tokens_min, struct settings *ret, struct api_error *err);
void settings_fini(struct settings *s);

/* The generator's seed of candidate `index`: another stream for each, the same for the same seed.
 */
uint64_t settings_seed(uint64_t seed, uint64_t index);

#endif
