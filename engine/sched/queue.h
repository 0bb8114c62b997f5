/* A queue of sequences: those of one lane that wait for their first turn, or those that gave their
 * seats up, in order of arrival. Who of them is next is turns.c's and waiting.c's to say.
 *
 * A list through the sequences themselves, so that nothing is allocated and any of them can leave.
 * The step loop owns it and guards it with its mutex; how many may wait is the loop's business. */
#ifndef PHID_SCHED_QUEUE_H
#define PHID_SCHED_QUEUE_H

#include <stddef.h>

#include "engine/sched/sequence.h"

struct queue {
    struct sequence *first, *last;
    size_t count;
};

void queue_push(struct queue *q, struct sequence *s);   /* at the end */
void queue_insert(struct queue *q, struct sequence *s); /* by order of arrival */
void queue_remove(struct queue *q, struct sequence *s); /* it must be in this one */

#endif
