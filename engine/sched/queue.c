#include "engine/sched/queue.h"

/* Puts s behind `after`, at the front if that is NULL. */
static void link_after(struct queue *q, struct sequence *s, struct sequence *after)
{
    struct sequence *before = after != NULL ? after->next : q->first;
    s->previous = after;
    s->next = before;
    if (after != NULL) {
        after->next = s;
    } else {
        q->first = s;
    }
    if (before != NULL) {
        before->previous = s;
    } else {
        q->last = s;
    }
    q->count++;
}

void queue_push(struct queue *q, struct sequence *s)
{
    link_after(q, s, q->last);
}

void queue_insert(struct queue *q, struct sequence *s)
{
    struct sequence *after = q->last;
    while (after != NULL && after->ordinal > s->ordinal) {
        after = after->previous;
    }
    link_after(q, s, after);
}

void queue_remove(struct queue *q, struct sequence *s)
{
    if (s->previous != NULL) {
        s->previous->next = s->next;
    } else {
        q->first = s->next;
    }
    if (s->next != NULL) {
        s->next->previous = s->previous;
    } else {
        q->last = s->previous;
    }
    s->next = NULL;
    s->previous = NULL;
    q->count--;
}
