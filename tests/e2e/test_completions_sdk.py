"""Text completions through the official Python SDK."""
import openai
import pytest

from phid_server import TINY, Server

PROMPT = "The capital of France is"


def complete(client, **fields):
    fields.setdefault("model", "tiny")
    fields.setdefault("prompt", PROMPT)
    fields.setdefault("temperature", 0)
    return client.completions.create(**fields)


def test_shape_and_default_length(tiny):
    reply = complete(tiny, extra_body={"ignore_eos": True})
    assert reply.id.startswith("cmpl-") and reply.object == "text_completion"
    assert reply.usage.completion_tokens == 16 and reply.choices[0].finish_reason == "length"
    assert reply.choices[0].logprobs is None and reply.choices[0].index == 0


def test_stream_equals_whole(tiny):
    whole = complete(tiny, max_tokens=12).choices[0]
    chunks = list(complete(tiny, max_tokens=12, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.finish_reason


def test_token_ids_are_used_verbatim(tiny):
    reply = complete(tiny, prompt=[300, 301, 302], max_tokens=1)
    assert reply.usage.prompt_tokens == 3
    both = complete(tiny, prompt=[[300, 301], [302, 303, 304]], max_tokens=1)
    assert both.usage.prompt_tokens == 5 and [c.index for c in both.choices] == [0, 1]


def test_many_prompts_times_n(tiny):
    reply = complete(tiny, prompt=[PROMPT, "Hello"], n=2, max_tokens=3)
    assert [c.index for c in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].text == reply.choices[1].text and reply.choices[2].text == reply.choices[3].text
    texts = {}
    for chunk in complete(tiny, prompt=[PROMPT, "Hello"], n=2, max_tokens=3, stream=True):
        for c in chunk.choices:
            texts[c.index] = texts.get(c.index, "") + c.text
    assert texts == {c.index: c.text for c in reply.choices}


def test_echo(tiny):
    plain = complete(tiny, max_tokens=4).choices[0].text
    assert complete(tiny, max_tokens=4, echo=True).choices[0].text == PROMPT + plain
    assert complete(tiny, max_tokens=0, echo=True).choices[0].text == PROMPT
    streamed = "".join(c.choices[0].text for c in complete(tiny, max_tokens=4, echo=True, stream=True))
    assert streamed == PROMPT + plain


def test_scoring_a_prompt(tiny):
    reply = complete(tiny, max_tokens=0, echo=True, logprobs=2)
    got = reply.choices[0].logprobs
    n = reply.usage.prompt_tokens
    assert len(got.tokens) == len(got.token_logprobs) == len(got.top_logprobs) == len(got.text_offset) == n
    assert got.token_logprobs[0] is None and got.top_logprobs[0] is None
    assert all(p <= 0 for p in got.token_logprobs[1:])
    assert got.text_offset[0] == 0 and got.text_offset == sorted(got.text_offset)
    assert reply.choices[0].text == PROMPT and reply.usage.completion_tokens == 0


def test_logprobs(tiny):
    open_ended = dict(prompt="Count", max_tokens=4, extra_body={"ignore_eos": True})
    got = complete(tiny, logprobs=3, **open_ended).choices[0]
    lp = got.logprobs
    assert "".join(lp.tokens) == got.text and len(lp.tokens) == 4
    assert all(3 <= len(m) <= 4 for m in lp.top_logprobs)
    zero = complete(tiny, logprobs=0, **open_ended).choices[0].logprobs
    assert [list(m) for m in zero.top_logprobs] == [[t] for t in zero.tokens]
    slices = [c.choices[0].logprobs for c in complete(tiny, logprobs=3, stream=True, **open_ended) if c.choices[0].logprobs]
    assert [t for s in slices for t in s.tokens] == lp.tokens
    assert [o for s in slices for o in s.text_offset] == lp.text_offset


def test_best_of(tiny):
    reply = complete(tiny, prompt="Hello", n=1, best_of=4, temperature=1.5, seed=5, max_tokens=8)
    assert len(reply.choices) == 1 and reply.choices[0].index == 0
    assert reply.usage.completion_tokens > len(reply.choices[0].text.split())


def test_stop_and_unicode(tiny):
    assert complete(tiny, stop=["Paris"], max_tokens=8).choices[0].text == " "
    assert complete(tiny, prompt="naïve 🦙 日本語", max_tokens=2, echo=True).choices[0].text.startswith("naïve 🦙 日本語")


def test_empty_prompt_is_valid(tiny):
    assert complete(tiny, prompt="", max_tokens=1).usage.completion_tokens == 1


REJECTED = [
    ("prompt", [], "prompt"), ("prompt", 7, "prompt"), ("prompt", ["a", 1], "prompt[1]"), ("prompt", [1, "a"], "prompt[1]"),
    ("prompt", [-1], "prompt[0]"), ("prompt", [10**9], "prompt[0]"), ("prompt", [1.5], "prompt[0]"), ("prompt", [[1], []], "prompt[1]"),
    ("prompt", {"a": 1}, "prompt"), ("max_tokens", -1, "max_tokens"), ("logprobs", 21, "logprobs"), ("logprobs", True, "logprobs"),
    ("logprobs", -1, "logprobs"), ("best_of", 21, "best_of"), ("suffix", "tail", "suffix"), ("echo", "yes", "echo"),
    ("n", 200, "n"), ("temperature", 3, "temperature"), ("top_k", -5, "top_k"), ("min_p", 2, "min_p"),
]


@pytest.mark.parametrize("field,value,param", REJECTED)
def test_rejected(tiny, field, value, param):
    body = {"model": "tiny", "prompt": PROMPT, field: value}
    with pytest.raises(openai.BadRequestError) as info:
        tiny.post("/completions", body=body, cast_to=object)
    assert info.value.param == param and isinstance(info.value.code, str)


@pytest.mark.parametrize("fields", [dict(n=3, best_of=2), dict(best_of=2, stream=True)])
def test_impossible_combinations(tiny, fields):
    with pytest.raises(openai.BadRequestError) as info:
        complete(tiny, **fields)
    assert info.value.param == "best_of"


def test_models(tiny):
    listed = tiny.models.list().data
    names = [m.id for m in listed]
    assert "tiny" in names and "gpt-4o-mini" in names
    assert all(m.object == "model" and isinstance(m.created, int) and m.owned_by for m in listed)
    assert tiny.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    with pytest.raises(openai.NotFoundError) as info:
        tiny.models.retrieve("some/other")
    assert info.value.code == "model_not_found"


def test_every_listed_name_answers(tiny):
    for model in tiny.models.list().data:
        assert complete(tiny, model=model.id, max_tokens=1).usage.completion_tokens == 1


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0.8, "seed": 5}, {"temperature": 0, "n": 3, "logprobs": 2}])
def test_guessing_changes_no_token(fields):
    """The same text with and without tokens computed ahead; usage tells how many were right."""
    prompt = "A list. One: the red house. Two: the red house. Three: the red house. Four: the red"
    answers = []
    for speculation in ("off", "always"):
        server = Server(TINY, "--set", f"engine.speculation={speculation}")
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
        reply = complete(client, prompt=prompt, max_tokens=200, extra_body={"ignore_eos": True}, **fields)
        assert server.stop() == 0
        answers.append([(c.text, c.logprobs) for c in reply.choices])
        details = reply.usage.completion_tokens_details
        assert reply.usage.completion_tokens == 200 * fields.get("n", 1)
        if speculation == "off":
            assert details.accepted_prediction_tokens == details.rejected_prediction_tokens == 0
        elif fields["temperature"] == 0:
            assert details.accepted_prediction_tokens > 0
    assert answers[0] == answers[1]
