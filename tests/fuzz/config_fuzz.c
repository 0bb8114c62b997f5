/* Fuzz target: any bytes as a configuration file. What is accepted obeys the table's ranges; what
 * is refused says why. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config/config.h"
#include "config/options.h"
#include "tests/fuzz/fuzz.h"

static void check_ranges(struct config *config)
{
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        const void *value = option_value(option, config);
        if (option->type == OPTION_INT) {
            int64_t number = *(const int64_t *)value;
            FUZZ_CHECK((number >= option->min && number <= option->max) ||
                       (option->takes_auto && number == option->auto_value));
        } else if (option->type == OPTION_SIZE || option->type == OPTION_DURATION) {
            uint64_t number = *(const uint64_t *)value;
            FUZZ_CHECK((number >= (uint64_t)option->min && number <= (uint64_t)option->max) ||
                       number == 0);
        } else if (option->type == OPTION_STRING) {
            const char *text = *(char *const *)value;
            FUZZ_CHECK(text == NULL ? option->takes_null : strlen(text) <= (size_t)option->max);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    struct phid_error err = {0};
    if (config_init(&config, &err) != PHID_OK) {
        return 0;
    }
    enum phid_status status = config_load_memory(&config, "fuzz", (const char *)data, size, &err);
    FUZZ_CHECK(status == PHID_OK || (err.status == status && err.message[0] != 0));
    if (status == PHID_OK) {
        check_ranges(&config);
        fuzz_use((uint64_t)config_check(&config, &err));
    }
    config_fini(&config);
    return 0;
}
