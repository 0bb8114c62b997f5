/* Status codes and error messages: how every part of phid reports failure.
 *
 * A function that can fail returns enum phid_status (0 is success) and takes a struct phid_error *
 * as its last parameter, which may be NULL. The place that finds the fault writes the message once;
 * callers may prefix it. Nothing here allocates, so an error can always be reported. */
#ifndef PHID_BASE_STATUS_H
#define PHID_BASE_STATUS_H

#include <stddef.h>

enum phid_status {
    PHID_OK = 0,
    PHID_ERR_ARGUMENT, /* the caller's request is wrong: a value, a type, a range */
    PHID_ERR_MEMORY,   /* an allocation failed, or a stated memory limit would be passed */
    PHID_ERR_IO,       /* the operating system refused: open, read, map, write */
    PHID_ERR_FORMAT, /* a file is malformed; the message names the key or tensor and the byte offset
                      */
    PHID_ERR_UNSUPPORTED, /* well-formed, but not something this build can do */
    PHID_ERR_CONTEXT,     /* the prompt does not fit the context */
    PHID_ERR_NOT_FOUND,   /* no such file, model, template, key */
    PHID_ERR_BUSY,        /* a bounded queue is full; try again later */
    PHID_ERR_CLOSED,      /* the engine is draining or stopped */
    PHID_ERR_TIMEOUT,     /* the request's own deadline has passed */
    PHID_ERR_DEVICE,      /* a device failed; its state is lost */
    PHID_ERR_INTERNAL,    /* a bug in phid */
};

#define PHID_ERROR_MESSAGE_MAX 512
#define PHID_ERROR_WHERE_MAX   128

struct phid_error {
    enum phid_status status;
    char message[PHID_ERROR_MESSAGE_MAX]; /* one line, no newline, valid UTF-8 */
    char where[PHID_ERROR_WHERE_MAX];     /* the place, where one name says it: `messages[1].role`,
                                             `server.port` */
};

/* Fills err (unless NULL) and returns status, so that a failing function ends in `return
 * phid_fail(...)`. Truncates at PHID_ERROR_MESSAGE_MAX - 1 bytes; control characters become '?'.
 * `where` is cleared. */
enum phid_status phid_fail(struct phid_error *err, enum phid_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Same, and names the place in err->where. */
enum phid_status phid_fail_at(struct phid_error *err, enum phid_status status, const char *where,
                              const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the message already in err. Returns err's status (PHID_ERR_INTERNAL when
 * err is NULL is never produced: pass the status you hold). */
enum phid_status phid_prefix(struct phid_error *err, enum phid_status status, const char *format,
                             ...) __attribute__((format(printf, 3, 4)));

/* The constant name of a status in lower case, "argument", "format", ...; never NULL. */
const char *phid_status_name(enum phid_status status);

#endif
