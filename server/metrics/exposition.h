/* The Prometheus text format, version 0.0.4, written straight into a buffer.
 *
 *   exposition_family(out, "phid_requests_total", "counter", "Requests by how they ended.");
 *   exposition_sample(out, "phid_requests_total", labels, 3);
 *
 * A family is named once, its samples follow. Labels are whole text, made by exposition_label.
 * Pure functions. */
#ifndef PHID_SERVER_METRICS_EXPOSITION_H
#define PHID_SERVER_METRICS_EXPOSITION_H

#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/phid.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

void exposition_family(struct buf *out, const char *name, const char *type, const char *help);

/* labels: what stands between the braces, "" for none. */
void exposition_sample(struct buf *out, const char *name, const char *labels, uint64_t value);
void exposition_real(struct buf *out, const char *name, const char *labels, double value);

/* The buckets (cumulative, up to +Inf), the sum and the count. Times become seconds. */
void exposition_histogram(struct buf *out, const char *name, const char *labels,
                          const struct phid_histogram *h);

/* Appends name="value" to a list of labels, the value escaped; broken UTF-8 becomes U+FFFD. */
void exposition_label(struct buf *labels, const char *name, struct str value);

#endif
