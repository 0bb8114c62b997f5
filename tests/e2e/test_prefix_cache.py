"""Computed prefixes over HTTP: usage tells what was found, who is apart stays apart, and no text changes."""
import concurrent.futures

import openai
import pytest

from phid_server import SMOLLM2, Server

RULES = " ".join(f"Rule {i}: answer shortly and in plain words." for i in range(30))


def client_of(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="sk-no-key", max_retries=0)


def ask(client, text, model="smollm2", salt=None, messages=None, **fields):
    extra = {"cache_salt": salt} if salt is not None else {}
    messages = messages or [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24, extra_body=extra, **fields)


def cached(reply):
    return reply.usage.prompt_tokens_details.cached_tokens


def test_second_request_finds_the_first_one(smol):
    first = ask(smol, "Name a colour.", salt="second")
    again = ask(smol, "Name a colour.", salt="second")
    assert cached(first) == 0
    assert cached(again) == first.usage.prompt_tokens - 1
    assert again.choices[0].message.content == first.choices[0].message.content
    other = ask(smol, "Name a river of Europe.", salt="second")
    assert 200 < cached(other) < other.usage.prompt_tokens - 1


def test_stream_usage_counts_cached_tokens(smol):
    ask(smol, "Name a fish.", salt="stream")
    chunks = list(ask(smol, "Name a fish.", salt="stream", stream=True, stream_options={"include_usage": True}))
    usage = chunks[-1].usage
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1


def test_completions_count_cached_tokens(smol):
    body = {"model": "smollm2", "prompt": RULES, "max_tokens": 4, "temperature": 0, "extra_body": {"cache_salt": "text"}}
    first = smol.completions.create(**body)
    again = smol.completions.create(**body)
    assert cached(first) == 0 and cached(again) == first.usage.prompt_tokens - 1
    assert again.choices[0].text == first.choices[0].text


def test_next_turn_finds_the_conversation(smol):
    messages = [{"role": "user", "content": "Tell me about the sea. " * 10}]
    first = ask(smol, "", salt="turns", messages=messages)
    messages += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "Go on."}]
    second = ask(smol, "", salt="turns", messages=messages)
    assert cached(second) >= first.usage.prompt_tokens - 1


def test_salts_are_apart(smol):
    text = "Name a tree."
    assert cached(ask(smol, text, salt="a")) == 0
    assert cached(ask(smol, text, salt="b")) == 0
    assert cached(ask(smol, text, salt="a")) > 0


@pytest.mark.parametrize("salt", ["", 5, ["a"], "x" * 300])
def test_bad_salt_is_refused(smol, salt):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(smol, "Hello", salt=salt)
    assert caught.value.param == "cache_salt"


def test_candidates_share_their_prompt(smol):
    reply = ask(smol, "Name a city.", salt="n", n=4)
    assert len({c.message.content for c in reply.choices}) == 1
    assert cached(reply) == 0  # a prompt counts once, and the first candidate computed it
    assert cached(ask(smol, "Name a city.", salt="n", n=4)) == reply.usage.prompt_tokens - 1


def test_a_crowd_computes_the_rules_once(smol):
    def one(i):
        return ask(smol, f"What is {i} plus {i}?", salt="crowd")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(one, range(16)))
    computed = sum(r.usage.prompt_tokens - cached(r) for r in replies)
    longest = max(r.usage.prompt_tokens for r in replies)
    assert computed <= longest * 1.1 + 16 * 24
    for i in (0, 7, 15):
        assert ask(smol, f"What is {i} plus {i}?", salt=f"alone{i}").choices[0].message.content == replies[i].choices[0].message.content


def test_keys_are_apart():
    server = Server(SMOLLM2, "--set", "model.alias=[smollm2]", "--api-key", "sk-first", "--api-key", "sk-second")
    try:
        first, second = (openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0) for key in ("sk-first", "sk-second"))
        assert [cached(ask(c, "Name a colour.")) > 0 for c in (first, second, first, second)] == [False, False, True, True]
    finally:
        assert server.stop() == 0


def test_switched_off():
    server = Server(SMOLLM2, "--set", "model.alias=[smollm2]", "--set", "engine.prefix_cache=false")
    try:
        client = client_of(server)
        texts = [ask(client, "Name a colour.") for _ in range(2)]
        assert [cached(t) for t in texts] == [0, 0]
        assert texts[0].choices[0].message.content == texts[1].choices[0].message.content
    finally:
        assert server.stop() == 0


def test_memory_is_taken_as_it_is_used():
    """The pool may be many times what is resident."""
    server = Server(SMOLLM2, "--set", "engine.kv.memory=4GiB")
    try:
        assert server.rss_bytes() < 600 << 20
    finally:
        assert server.stop() == 0
