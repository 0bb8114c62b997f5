/* Runs a fuzz target over the files of the folders given: each whole, cut short, and with bytes
 * changed by a seeded generator. No find means exit code 0. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>

#include "engine/base/file_map.h"
#include "engine/base/rng.h"

enum { CUTS = 40, DAMAGES = 200 };

/* A copy of the exact size, so that a sanitizer sees a read past the end. */
static void run(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_damaged(const unsigned char *data, size_t size, struct rng *rng)
{
    unsigned char *copy = malloc(size);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, data, size);
    /* Mostly near the front: that is where the lengths are. */
    size_t reach = rng_below(rng, 2) == 0 && size > 512 ? 512 : size;
    for (uint64_t n = 1 + rng_below(rng, 4); n > 0; n--) {
        static const unsigned char telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        size_t at = (size_t)rng_below(rng, reach);
        copy[at] = rng_below(rng, 2) == 0 ? telling[rng_below(rng, sizeof telling)]
                                          : (unsigned char)rng_next(rng);
    }
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_file(const char *path)
{
    struct file_map map;
    struct phid_error error;
    if (file_map_open(path, &map, &error) != PHID_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    struct rng rng;
    rng_init(&rng, map.size);
    run(map.data, map.size);
    for (int i = 0; i < CUTS && map.size > 0; i++) {
        run(map.data, (size_t)rng_below(&rng, map.size));
    }
    for (int i = 0; i < DAMAGES && map.size > 0; i++) {
        run_damaged(map.data, map.size, &rng);
    }
    file_map_close(&map);
}

int main(int argc, char **argv)
{
    size_t files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL) {
            fprintf(stderr, "%s: cannot open the folder\n", argv[i]);
            return 1;
        }
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            if (entry->d_name[0] == '.') {
                continue;
            }
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            run_file(path);
            files++;
        }
        closedir(folder);
    }
    printf("%zu files\n", files);
    return files > 0 ? 0 : 1;
}
