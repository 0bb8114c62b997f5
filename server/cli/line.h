/* One line of standard input at a time, and never more of it than the buffer's maximum: an endless
 * line is an error and not an endless read. The caller owns the buffer. */
#ifndef PHID_CLI_LINE_H
#define PHID_CLI_LINE_H

#include "engine/base/buf.h"

enum line_outcome {
    LINE_READ,
    LINE_END,         /* of the input, with nothing before it */
    LINE_INTERRUPTED, /* by a signal, with nothing before it */
    LINE_TOO_LONG,    /* for the buffer, or for the memory */
    LINE_FAILED,      /* errno says why */
};

/* Replaces what is in `line`, without the line's end. */
enum line_outcome line_read(struct buf *line);

#endif
