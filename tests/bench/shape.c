/* shape: writes a model of random weights in the exact shape of a real one to a file, so that a
 * server can be measured without a download.
 *
 *   shape phi-3.5-mini:q4_k_m FILE.gguf
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/cli/random_model.h"

static bool copy(int from, const char *path)
{
    struct stat info;
    off_t at = 0;
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = to >= 0 && fstat(from, &info) == 0;
    while (good && at < info.st_size) {
        ssize_t sent = sendfile(to, from, &at, 1 << 30);
        good = sent > 0 || (sent < 0 && errno == EINTR);
    }
    return to >= 0 && close(to) == 0 && good;
}

int main(int argc, char **argv)
{
    struct random_model model = {.fd = -1};
    struct phid_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: shape SHAPE:TYPE FILE.gguf, as in phi-3.5-mini:q4_k_m\n");
        return 2;
    }
    if (random_model_make(argv[1], &model, &err) != PHID_OK) {
        fprintf(stderr, "shape: %s\n", err.message);
        return 1;
    }
    bool good = copy(model.fd, argv[2]);
    if (!good) {
        fprintf(stderr, "shape: %s: %s\n", argv[2], strerror(errno));
    }
    random_model_free(&model);
    return good ? 0 : 1;
}
