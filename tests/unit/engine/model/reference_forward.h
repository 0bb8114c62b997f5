/* A decoder's forward pass in f64, written straight from the equations and from the file's tensors
 * by name: it shares no code with engine/model or a backend, so that the two can be compared. */
#ifndef PHID_TESTS_REFERENCE_FORWARD_H
#define PHID_TESTS_REFERENCE_FORWARD_H

#include "model_file.h"

/* logits: [count, vocab]. long_set: the long rotary factors (phi3 with factors). Every token sees
 * those before it, as far as the window goes. */
void reference_forward(struct model_file *f, const struct model_shape *s, const int32_t *ids,
                       size_t count, bool long_set, double *logits);

#endif
