/* The batch, the queue, and the doorbell: the small parts of the loop. */
#include "engine/sched/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sched/doorbell.h"
#include "engine/sched/queue.h"
#include "engine/sched/turns.h"

static void make(struct sequence *s, size_t prompt_count, size_t answered, size_t done)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < prompt_count + answered; i++) {
        assert_true(tokens_push(&s->tokens, (int32_t)(prompt_count * 1000 + i)));
    }
    s->prompt_count = prompt_count;
    s->max_tokens = 100;
    s->done = done;
    s->runnable = true;
}

static void test_batch_decodes_first(void **state)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 16, 8, NULL), PHID_OK);
    struct sequence s[5], *running[5];
    make(&s[0], 40, 0, 10); /* a prompt in the middle */
    make(&s[1], 5, 3, 7);   /* decodes */
    make(&s[2], 6, 1, 6);   /* decodes, but its reader does not read */
    make(&s[3], 7, 2, 8);   /* decodes */
    make(&s[4], 30, 0, 0);  /* a new prompt */
    s[2].runnable = false;
    for (int i = 0; i < 5; i++) {
        running[i] = &s[i];
    }
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.rows, 16);
    assert_int_equal(b.view.sequence_count, 4);
    assert_ptr_equal(b.owners[0], &s[1]);
    assert_ptr_equal(b.owners[1], &s[3]);
    assert_ptr_equal(b.owners[2], &s[0]); /* half of the rest for the oldest prompt */
    assert_ptr_equal(b.owners[3], &s[4]);
    assert_int_equal(b.parts[0].start, 7);
    assert_int_equal(b.parts[2].first_row, 2);
    assert_int_equal(b.parts[2].rows, 7);
    assert_int_equal(b.parts[3].rows, 7);
    assert_int_equal(b.parts[2].start, 10);
    assert_int_equal(b.tokens[0], 5007);
    assert_int_equal(b.tokens[2], 40010);
    /* Only the two that decode have their last token in this step. */
    assert_int_equal(b.head_count, 2);
    assert_int_equal(b.head_rows[1], 1);
    assert_true(b.heads[1].sample);
    s[0].done = 39 - 9;
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.sequence_count, 4);
    assert_int_equal(b.parts[2].rows, 7);
    assert_int_equal(b.parts[3].rows, 7);
    s[4].runnable = false;
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.sequence_count, 3);
    assert_int_equal(b.parts[2].rows, 10);
    assert_int_equal(b.head_count, 3);
    assert_int_equal(b.head_rows[2], 11);
    assert_int_equal(b.load.decode_rows, 2);
    assert_int_equal(b.load.prompt_rows, 10);
    assert_int_equal(b.load.context, 8 + 9 + 30 * 10 + 55);
    for (int i = 0; i < 5; i++) {
        tokens_fini(&s[i].tokens);
    }
    batch_fini(&b);
}

/* Rows of prompt tokens are the last ones, whatever else their sequences do in the step. */
static void test_batch_prompt_rows_last(void **state)
{
    (void)state;
    struct batch b;
    assert_int_equal(batch_init(&b, 64, 8, NULL), PHID_OK);
    struct sequence s[5], *running[5];
    make(&s[0], 40, 0, 10); /* a prompt in the middle */
    make(&s[1], 9, 0, 8);   /* the last token of one */
    make(&s[2], 6, 20, 0);  /* put back: its prompt, then its answer again */
    make(&s[3], 7, 2, 8);   /* decodes */
    make(&s[4], 8, 12, 9);  /* put back, its answer in the middle */
    for (int i = 0; i < 5; i++) {
        running[i] = &s[i];
    }
    batch_build(&b, running, 5, NULL);
    static const size_t owners[5] = {3, 4, 1, 0, 2};
    static const size_t rows[5] = {1, 11, 1, 30, 6};
    assert_int_equal(b.view.sequence_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_ptr_equal(b.owners[i], &s[owners[i]]);
        assert_int_equal(b.parts[i].rows, rows[i]);
    }
    assert_int_equal(b.view.rows, 49);
    assert_int_equal(b.view.prompt_rows, 0); /* too few beside answers */
    assert_int_equal(b.load.decode_rows, 2);
    assert_int_equal(b.head_count, 4); /* all but the one that goes on with its answer */
    s[2].done = 6;
    s[0].runnable = false;
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.parts[1].rows + b.parts[2].rows, 20 + 11);
    assert_ptr_equal(b.owners[3], &s[1]);
    s[0].runnable = true;
    s[2].runnable = s[3].runnable = s[4].runnable = false;
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.prompt_rows, 31); /* nothing else */
    batch_fini(&b);
    assert_int_equal(batch_init(&b, 256, 8, NULL), PHID_OK);
    struct sequence many;
    make(&many, 200, 0, 0);
    running[0] = &many;
    s[3].runnable = true;
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.rows, 1 + 1 + 200); /* many beside one answer */
    assert_int_equal(b.view.prompt_rows, 1 + 200);
    tokens_fini(&many.tokens);
    for (int i = 0; i < 5; i++) {
        tokens_fini(&s[i].tokens);
    }
    batch_fini(&b);
}

static void test_batch_lets_short_prompts_through(void **state)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 32, 8, NULL), PHID_OK);
    struct sequence s[4], *running[4];
    make(&s[0], 500, 0, 100);
    make(&s[1], 200, 0, 0);
    make(&s[2], 5, 0, 0);
    make(&s[3], 6, 0, 0);
    for (int i = 0; i < 4; i++) {
        running[i] = &s[i];
    }
    batch_build(&b, running, 4, NULL);
    assert_int_equal(b.view.rows, 32);
    assert_int_equal(b.view.sequence_count, 4);
    assert_int_equal(b.parts[0].rows, 16); /* in order of arrival, half for the first */
    assert_int_equal(b.parts[1].rows, 5);
    assert_int_equal(b.parts[2].rows, 5);
    assert_int_equal(b.parts[3].rows, 6);
    assert_int_equal(b.head_count, 2);
    s[0].done = 490;
    s[1].runnable = s[2].runnable = false;
    batch_build(&b, running, 4, NULL);
    assert_int_equal(b.parts[0].rows, 10);
    assert_int_equal(b.parts[1].rows, 6);
    /* A pace that knows nothing yet allows what there is room for, up to its first step. */
    struct pace pace;
    pace_init(&pace, 0, 32);
    s[0].done = 0;
    batch_build(&b, running, 1, &pace);
    assert_int_equal(b.view.rows, 32);
    pace_learn(&pace, &(struct pace_step){.decode_rows = 1}, PACE_TARGET_NS / 10);
    pace_learn(&pace, &b.load, 100 * PACE_ALONE_NS);
    batch_build(&b, running, 1, &pace);
    assert_int_equal(b.view.rows, PACE_ROWS_MIN);
    for (int i = 0; i < 4; i++) {
        tokens_fini(&s[i].tokens);
    }
    batch_fini(&b);
}

/* Seven who come while one streams make steps longer, a long prompt does not. */
static void test_batch_newcomers(void **state)
{
    enum { COUNT = 8, PROMPT = 20 };
    struct batch b;
    assert_int_equal(batch_init(&b, 512, COUNT, NULL), PHID_OK);
    struct sequence s[COUNT], *running[COUNT];
    for (int i = 0; i < COUNT; i++) {
        make(&s[i], PROMPT, 0, i == 0 ? PROMPT - 1 : 0);
        running[i] = &s[i];
    }
    struct pace pace;
    pace_init(&pace, 0, 512);
    for (size_t i = 0; i < 200; i++) { /* 80 ms and 20 ms a row: 200 ms are the target */
        size_t decodes = 1 + i % 3, prompts = i % 5 * 4;
        struct pace_step step = {.decode_rows = decodes, .prompt_rows = prompts};
        pace_learn(&pace, &step, 80000000 + 20000000 * (decodes + prompts));
    }
    pace_learn(&pace, &(struct pace_step){.decode_rows = 1, .prompt_rows = 15}, 400000000);
    size_t steps = 0, first = 0;
    for (size_t left = COUNT - 1; left > 0 && steps < 100; steps++) {
        batch_build(&b, running, COUNT, &pace);
        first = steps == 0 ? b.load.prompt_rows : first;
        uint64_t ns = 80000000 + 20000000 * (uint64_t)b.view.rows;
        /* Eight targets for seven who wait and one who streams, and so on. */
        assert_true((double)ns <= 1.1 * 200000000 * (1 + (double)left / (double)(COUNT - left)));
        pace_learn(&pace, &b.load, ns);
        for (size_t i = 0; i < b.view.sequence_count; i++) {
            size_t done = b.owners[i]->done + b.parts[i].rows;
            bool prompt = b.owners[i]->done < PROMPT - 1;
            b.owners[i]->done = done < PROMPT ? done : PROMPT - 1; /* an answer's next row */
            left -= prompt && done >= PROMPT - 1;
        }
    }
    assert_in_range(first, 40, 80); /* five without a stretch */
    assert_in_range(steps, 2, 30);
    struct sequence whole;
    make(&whole, 400, 0, 300); /* its end is no newcomer */
    running[1] = &whole;
    batch_build(&b, running, 2, &pace);
    assert_in_range(b.load.prompt_rows, 1, 12);
    for (int i = 0; i < COUNT; i++) {
        tokens_fini(&s[i].tokens);
    }
    tokens_fini(&whole.tokens);
    batch_fini(&b);
}

/* One tenant has four seats, another one: its prompt goes first, the flood keeps half. */
static void test_batch_guests_go_first(void **state)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 32, 8, NULL), PHID_OK);
    struct account flood = {.tenant = 1, .seats = 4}, guest = {.tenant = 2, .seats = 1};
    struct sequence s[5], *running[5];
    for (int i = 0; i < 5; i++) {
        make(&s[i], 40, 0, 0);
        s[i].account = i < 4 ? &flood : &guest;
        running[i] = &s[i];
    }
    batch_build(&b, running, 5, NULL);
    assert_int_equal(b.view.rows, 32);
    assert_ptr_equal(b.owners[b.view.sequence_count - 1], &s[4]);
    assert_int_equal(b.parts[b.view.sequence_count - 1].rows, 16);
    flood.seats = 3; /* not so many more */
    batch_build(&b, running, 5, NULL);
    assert_ptr_not_equal(b.owners[b.view.sequence_count - 1], &s[4]);
    flood.seats = 4;
    struct pace pace;
    pace_init(&pace, 100000000, 32);
    for (int i = 0; i < 20; i++) { /* 10 ms a row: ten fit */
        pace_learn(&pace, &(struct pace_step){.decode_rows = 1, .prompt_rows = 1}, 20000000);
        pace_learn(&pace, &(struct pace_step){.decode_rows = 1, .prompt_rows = 7}, 80000000);
        pace_learn(&pace, &(struct pace_step){.decode_rows = 1}, 10000000);
    }
    s[0].done = 39;
    s[4].done = 30;
    batch_build(&b, running, 5, &pace);
    assert_int_equal(b.load.decode_rows, 1);
    assert_int_equal(b.parts[b.view.sequence_count - 1].rows, 10); /* all of it */
    assert_in_range(b.load.prompt_rows, 13, 16);
    for (int i = 0; i < 5; i++) {
        tokens_fini(&s[i].tokens);
    }
    batch_fini(&b);
}

/* Rows that cost and steps that cost nothing: a guest's short prompt has every other step for
 * itself, unless guesses are to be computed in this one. */
static void test_batch_guests_apart(void **state)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 64, 8, NULL), PHID_OK);
    struct account flood = {.tenant = 1, .seats = 7}, guest = {.tenant = 2, .seats = 1};
    struct sequence s[8], *running[8];
    for (int i = 0; i < 8; i++) {
        make(&s[i], 10, 0, i < 7 ? 9 : 4);
        s[i].account = i < 7 ? &flood : &guest;
        running[i] = &s[i];
    }
    struct pace quick, slow;
    pace_init(&quick, 100000000, 64);
    pace_init(&slow, 100000000, 64);
    for (int i = 0; i < 40; i++) {
        size_t decodes = (size_t)i % 8, prompts = (size_t)i % 3 * 4 + (decodes == 0);
        struct pace_step step = {.decode_rows = decodes, .prompt_rows = prompts};
        pace_learn(&quick, &step, 1000000 * (decodes + prompts) + 100000);
        pace_learn(&slow, &step, 1000000 * (decodes + prompts) + 30000000);
    }
    for (int i = 0; i < 4; i++) {
        batch_build(&b, running, 8, &quick);
        assert_int_equal(b.view.sequence_count, i % 2 == 0 ? 1 : 8);
        assert_int_equal(b.load.decode_rows, i % 2 == 0 ? 0 : 7);
        assert_int_equal(b.load.prompt_rows, 6);
        assert_int_equal(b.head_count, i % 2 == 0 ? 1 : 8);
    }
    batch_build(&b, running, 8, &slow); /* two steps would take the weights twice */
    assert_int_equal(b.view.sequence_count, 8);
    assert_true(tokens_reserve(&s[0].tokens, 11));
    s[0].tokens.ids[10] = 1;
    s[0].guesses = 1;
    batch_build(&b, running, 8, &quick);
    assert_int_equal(b.view.sequence_count, 8);
    for (int i = 0; i < 8; i++) {
        tokens_fini(&s[i].tokens);
    }
    batch_fini(&b);
}

static void test_batch_prompt_heads(void **state)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 8, 2, NULL), PHID_OK);
    struct sequence s, *running[] = {&s};
    make(&s, 12, 0, 0);
    s.prompt_logprobs = true;
    s.prompt_reported = 1;
    batch_build(&b, running, 1, NULL);
    assert_int_equal(b.head_count, 8);
    assert_false(b.heads[7].sample);
    assert_int_equal(b.heads[7].position, 7);
    s.done = 8;
    s.prompt_reported = 9;
    batch_build(&b, running, 1, NULL);
    assert_int_equal(b.head_count, 4); /* three judge the prompt, the last one samples */
    assert_false(b.heads[2].sample);
    assert_true(b.heads[3].sample);
    s.max_tokens = 0;
    batch_build(&b, running, 1, NULL);
    assert_int_equal(b.head_count, 3);
    s.max_tokens = 5;
    s.done = 4; /* computed again: 4..8 were reported */
    batch_build(&b, running, 1, NULL);
    assert_int_equal(b.head_rows[0], 4);
    assert_int_equal(b.heads[0].position, 8);
    tokens_fini(&s.tokens);
    batch_fini(&b);
}

static void test_queue_order(void **state)
{
    struct queue q = {0};
    struct sequence s[4];
    memset(s, 0, sizeof(s));
    const uint64_t ordinals[] = {10, 30, 20, 5};
    for (int i = 0; i < 4; i++) {
        s[i].ordinal = ordinals[i];
        queue_insert(&q, &s[i]);
    }
    assert_int_equal(q.count, 4);
    assert_ptr_equal(q.first, &s[3]);
    assert_ptr_equal(q.last, &s[1]);
    queue_remove(&q, &s[2]);
    assert_ptr_equal(s[0].next, &s[1]);
    queue_remove(&q, &s[3]);
    queue_remove(&q, &s[1]);
    assert_ptr_equal(q.first, &s[0]);
    assert_ptr_equal(q.last, &s[0]);
    queue_push(&q, &s[2]);
    assert_ptr_equal(q.last, &s[2]);
    queue_remove(&q, &s[0]);
    queue_remove(&q, &s[2]);
    assert_int_equal(q.count, 0);
    assert_null(q.first);
    assert_null(q.last);
}

static void test_doorbell_remembers(void **state)
{
    struct doorbell *bell = NULL;
    assert_int_equal(doorbell_new(&bell, NULL), PHID_OK);
    doorbell_ring(bell);
    doorbell_ring(bell);
    doorbell_wait(bell, UINT64_MAX); /* does not block */
    assert_int_equal(doorbell_cancellations(bell), 0);
    doorbell_cancelled(doorbell_ref(bell));
    assert_int_equal(doorbell_cancellations(bell), 1);
    doorbell_wait(bell, UINT64_MAX);
    doorbell_unref(bell);
    doorbell_unref(bell);
    doorbell_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_decodes_first),
        cmocka_unit_test(test_batch_prompt_rows_last),
        cmocka_unit_test(test_batch_lets_short_prompts_through),
        cmocka_unit_test(test_batch_newcomers),
        cmocka_unit_test(test_batch_guests_go_first),
        cmocka_unit_test(test_batch_guests_apart),
        cmocka_unit_test(test_batch_prompt_heads),
        cmocka_unit_test(test_queue_order),
        cmocka_unit_test(test_doorbell_remembers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
