#include "server/cli/line.h"

#include <errno.h>
#include <stdio.h>

enum line_outcome line_read(struct buf *line)
{
    char piece[4096];
    size_t held = 0;
    int c = 0;
    buf_clear(line);
    errno = 0;
    while (!line->failed && (c = getc_unlocked(stdin)) != EOF && c != '\n') {
        piece[held++] = (char)c;
        if (held == sizeof piece) {
            buf_append(line, piece, held);
            held = 0;
        }
    }
    buf_append(line, piece, held);
    if (line->failed) {
        return LINE_TOO_LONG;
    }
    if (c == '\n' || (line->size > 0 && !ferror(stdin))) {
        return LINE_READ;
    }
    if (ferror(stdin) && errno == EINTR) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    return ferror(stdin) ? LINE_FAILED : LINE_END;
}
