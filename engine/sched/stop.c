#include "engine/sched/stop.h"

#include <stdio.h>
#include <stdlib.h>

/* A node is a beginning of a stop, node 0 the empty one; children are a list of siblings. */
struct stop_node {
    uint32_t child, sibling; /* 0: none */
    uint32_t fail;           /* the longest proper suffix of this node's text that is a node too */
    uint32_t depth;          /* bytes of this node's text */
    uint32_t match;     /* bytes of the longest stop that this node's text ends with, 0: none */
    unsigned char byte; /* the last one of its text */
};

static uint32_t find_child(const struct stop_set *set, uint32_t node, unsigned char byte)
{
    uint32_t child = set->nodes[node].child;
    while (child != 0 && set->nodes[child].byte != byte) {
        child = set->nodes[child].sibling;
    }
    return child;
}

static void add_stop(struct stop_set *set, struct str text)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        uint32_t child = find_child(set, node, byte);
        if (child == 0) {
            child = (uint32_t)set->count++;
            set->nodes[child] = (struct stop_node){
                .sibling = set->nodes[node].child, .depth = (uint32_t)(i + 1), .byte = byte};
            set->nodes[node].child = child;
        }
        node = child;
    }
    set->nodes[node].match = (uint32_t)text.size;
    set->longest = text.size > set->longest ? text.size : set->longest;
}

static uint32_t next_state(const struct stop_set *set, uint32_t node, unsigned char byte)
{
    for (;;) {
        uint32_t child = find_child(set, node, byte);
        if (child != 0 || node == 0) {
            return child;
        }
        node = set->nodes[node].fail;
    }
}

/* Breadth first, because a node's fail link leads to a shorter text, whose own link must be known.
 */
static void link_fails(struct stop_set *set, uint32_t *order)
{
    size_t head = 0, tail = 0;
    order[tail++] = 0;
    while (head < tail) {
        uint32_t node = order[head++];
        for (uint32_t child = set->nodes[node].child; child != 0;
             child = set->nodes[child].sibling) {
            struct stop_node *c = &set->nodes[child];
            c->fail = node == 0 ? 0 : next_state(set, set->nodes[node].fail, c->byte);
            if (c->match == 0) {
                c->match = set->nodes[c->fail].match;
            }
            order[tail++] = child;
        }
    }
}

enum phid_status stop_set_init(struct stop_set *set, const struct str *stops, size_t count,
                               struct phid_error *err)
{
    *set = (struct stop_set){0};
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (stops[i].size == 0) {
            char where[32];
            snprintf(where, sizeof(where), "stop[%zu]", i);
            return phid_fail_at(err, PHID_ERR_ARGUMENT, where, "a stop string is empty");
        }
        if (stops[i].size > STOP_BYTES_MAX - bytes) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "stop",
                                "the stop strings are longer than %zu bytes together",
                                STOP_BYTES_MAX);
        }
        bytes += stops[i].size;
    }
    if (count == 0) {
        return PHID_OK;
    }
    set->nodes = calloc(bytes + 1, sizeof(*set->nodes));
    uint32_t *order = calloc(bytes + 1, sizeof(*order));
    if (set->nodes == NULL || order == NULL) {
        free(order);
        stop_set_fini(set);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the stop strings of a request");
    }
    set->count = 1;
    for (size_t i = 0; i < count; i++) {
        add_stop(set, stops[i]);
    }
    link_fails(set, order);
    free(order);
    return PHID_OK;
}

void stop_set_fini(struct stop_set *set)
{
    free(set->nodes);
    *set = (struct stop_set){0};
}

bool stop_walk(const struct stop_set *set, stop_state *state, struct str text, size_t *ret_end,
               size_t *ret_size)
{
    if (set->nodes == NULL) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        *state = next_state(set, *state, (unsigned char)text.data[i]);
        if (set->nodes[*state].match > 0) {
            *ret_end = i + 1;
            *ret_size = set->nodes[*state].match;
            return true;
        }
    }
    return false;
}

size_t stop_held(const struct stop_set *set, stop_state state)
{
    return set->nodes == NULL ? 0 : set->nodes[state].depth;
}
