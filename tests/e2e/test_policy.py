"""Who runs when: refusals with Retry-After, quotas, priorities, deadlines, fair turns, leaving. One seat, so that order can be seen."""
import json
import threading

import httpx
import openai
import pytest

from phid_server import SMOLLM2, Server, wait_until
from test_watch import scrape, value

KEYS = ("sk-flood", "sk-single")


@pytest.fixture(scope="module")
def one_seat():
    server = Server(SMOLLM2, "--set", "model.alias=[m]", "--set", "engine.max_running=1", "--set", "engine.context=1024",
                    "--set", "limits.queue=6", *[arg for key in KEYS for arg in ("--api-key", key)])
    yield server
    assert server.stop() == 0, server.log[-4000:]


@pytest.fixture(scope="module")
def metered():
    server = Server(SMOLLM2, "--set", "model.alias=[m]", "--set", "limits.key.in_flight=1", "--set", "limits.key.tokens_per_minute=60",
                    *[arg for key in KEYS for arg in ("--api-key", key)])
    yield server
    assert server.stop() == 0, server.log[-4000:]


def client(server, key=KEYS[0], retries=0):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=retries)


def complete(server, tokens, key=KEYS[0], retries=0, stream=False, headers=None, **fields):
    return client(server, key, retries).completions.create(
        model="m", prompt="Count: one two three", max_tokens=tokens, temperature=0, stream=stream, extra_headers=headers,
        extra_body={"ignore_eos": True, **fields})


class Holder:
    """An answer that runs as long as the block: it has the only seat."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.stream = complete(self.server, 900, stream=True)
        self.thread = threading.Thread(target=self.read)
        self.started = threading.Event()
        self.thread.start()
        assert self.started.wait(30)
        return self

    def read(self):
        try:
            for _ in self.stream:
                self.started.set()
        except (httpx.HTTPError, openai.APIError):
            pass  # closed under its hands by __exit__

    def __exit__(self, *_):
        self.stream.response.close()
        self.thread.join(30)


class Crowd:
    """Requests on threads of their own, and the order in which their first tokens came."""

    def __init__(self):
        self.order, self.errors, self.threads = [], [], []

    def send(self, name, server, tokens, **how):
        def run():
            try:
                stream = complete(server, tokens, stream=True, **how)
                next(iter(stream))
                self.order.append(name)
                for _ in stream:
                    pass
            except openai.APIError as error:
                self.errors.append((name, error))

        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)

    def join(self):
        for thread in self.threads:
            thread.join(120)


def gauge(server, name):
    page = httpx.get(server.url + "/metrics", headers={"Authorization": f"Bearer {KEYS[0]}"}).text
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


def waiting(server, count):
    return wait_until(lambda: gauge(server, "phid_requests_waiting") == count, 20)


def test_a_full_replica_is_503_with_retry_after(one_seat):
    crowd = Crowd()
    with Holder(one_seat):
        for i in range(6):
            crowd.send(i, one_seat, 1)
        assert waiting(one_seat, 6)
        with pytest.raises(openai.InternalServerError) as caught:
            complete(one_seat, 1)
        assert caught.value.status_code == 503 and caught.value.code == "overloaded"
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert "x-should-retry" not in caught.value.response.headers
        # Refused on a connection that stays open.
        with httpx.Client(headers={"Authorization": f"Bearer {KEYS[0]}"}) as http:
            for _ in range(3):
                assert http.post(one_seat.url + "/v1/completions", content=b"{").status_code == 503
        # The line may come a moment after the answer.
        assert wait_until(lambda: len([1 for line in one_seat.lines if "status=503" in line]) == 4)
    crowd.join()
    assert len(crowd.order) == 6 and not crowd.errors


def test_the_sdk_gets_through_by_itself(one_seat):
    crowd = Crowd()
    with Holder(one_seat):
        for i in range(6):
            crowd.send(i, one_seat, 1)
        assert waiting(one_seat, 6)
        crowd.send("retried", one_seat, 1, retries=5)
        assert wait_until(lambda: "status=503" in one_seat.log, 10)
    crowd.join()
    assert "retried" in crowd.order and not crowd.errors


def test_priorities(one_seat):
    crowd = Crowd()
    with Holder(one_seat):
        crowd.send("late", one_seat, 1, priority=5)
        assert waiting(one_seat, 1)
        crowd.send("ordinary", one_seat, 1)
        assert waiting(one_seat, 2)
        crowd.send("header", one_seat, 1, headers={"X-Priority": "-1"})
        assert waiting(one_seat, 3)
        crowd.send("urgent", one_seat, 1, priority=-7, headers={"X-Priority": "9"})
        assert waiting(one_seat, 4)
    crowd.join()
    assert crowd.order == ["urgent", "header", "ordinary", "late"] and not crowd.errors


def test_a_flood_does_not_hold_up_another_key(one_seat):
    crowd = Crowd()
    with Holder(one_seat):
        for i in range(5):
            crowd.send(f"flood {i}", one_seat, 3)
        assert waiting(one_seat, 5)
        crowd.send("single", one_seat, 3, key=KEYS[1])
        assert waiting(one_seat, 6)
    crowd.join()
    assert crowd.order[0] == "single" and len(crowd.order) == 6


@pytest.mark.parametrize("stream", [False, True])
def test_deadline_while_running(one_seat, stream):
    with pytest.raises(openai.APIError) as caught:
        for _ in complete(one_seat, 900, stream=stream, headers={"X-Request-Timeout": "0.5"}):
            pass
    assert caught.value.code == "request_timeout"
    if not stream:
        assert caught.value.status_code == 503 and caught.value.response.headers["x-should-retry"] == "false"
    assert wait_until(lambda: gauge(one_seat, "phid_requests_running") == 0, 10)


def test_deadline_while_waiting(one_seat):
    with Holder(one_seat):
        with pytest.raises(openai.APIError) as caught:
            complete(one_seat, 5, headers={"Timeout": "0.3"})
        assert caught.value.code == "request_timeout"
        assert wait_until(lambda: gauge(one_seat, "phid_requests_waiting") == 0, 10)


def ask_and_stay(server, **fields):
    """The socket of a request that was sent and is not read."""
    body = json.dumps({"model": "m", "prompt": "Count: one two three", "max_tokens": 900, "ignore_eos": True, **fields}).encode()
    s = server.connect()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
              % (KEYS[0].encode(), len(body)) + body)
    return s


@pytest.mark.parametrize("phase", ["waiting", "prompt", "whole", "streaming"])
def test_leaving_gives_everything_back(one_seat, phase):
    """Whoever closes the connection frees his place and his pages, whatever his request is at, and though nothing is written to him."""
    look = lambda name, **labels: value(scrape(one_seat, KEYS[0]), name, **labels)
    # Whom the test before has left may still be on his way out.
    assert wait_until(lambda: look("phid_requests_running") == 0 and look("phid_requests_waiting") == 0)
    aborts = look("phid_requests_finished", reason="abort")
    tokens = [(i * 7919) % 20000 + 100 for i in range(100)]
    if phase == "waiting":
        with Holder(one_seat):
            s = ask_and_stay(one_seat)
            assert wait_until(lambda: look("phid_requests_waiting") == 1)
            s.close()
            assert wait_until(lambda: look("phid_requests_waiting") == 0, 3)
            assert look("phid_requests_running") == 1
        aborts += 1  # the holder's
    else:
        computed = look("phid_prefill_tokens")
        s = ask_and_stay(one_seat, stream=phase == "streaming", prompt=[tokens * 10, tokens][phase != "prompt"],
                         max_tokens=20 if phase == "prompt" else 900)
        if phase == "prompt":
            assert wait_until(lambda: look("phid_requests_running") == 1 or look("phid_prefill_tokens") > computed)
        else:
            made = look("phid_generation_tokens")
            assert wait_until(lambda: look("phid_generation_tokens") > made + 5)
        s.close()
    assert wait_until(lambda: look("phid_requests_finished", reason="abort") >= aborts + 1, 5), phase
    assert look("phid_requests_running") == 0 and look("phid_requests_waiting") == 0
    assert look("phid_kv_pages_free") == look("phid_kv_pages") and look("phid_kv_usage_ratio") == 0
    if phase == "prompt":
        assert look("phid_prefill_tokens") < computed + 1000


@pytest.mark.parametrize("headers", [{"X-Priority": "high"}, {"X-Request-Timeout": "soon"}])
def test_headers_that_are_no_numbers(one_seat, headers):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(one_seat, 1, headers=headers)
    assert caught.value.param == next(iter(headers)).lower()


def test_a_wait_that_is_too_long_ends():
    server = Server(SMOLLM2, "--set", "model.alias=[m]", "--set", "engine.max_running=1", "--set", "engine.context=1024",
                    "--set", "limits.max_wait=300ms", "--api-key", KEYS[0])
    try:
        with Holder(server):
            with pytest.raises(openai.InternalServerError) as caught:
                complete(server, 1)
            assert caught.value.code == "overloaded" and "waited" in caught.value.message
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    finally:
        assert server.stop() == 0


def test_a_clients_own_quota_is_429(metered):
    with Holder(metered):
        with pytest.raises(openai.RateLimitError) as caught:
            complete(metered, 1)
        assert caught.value.code == "rate_limit_exceeded" and caught.value.type == "rate_limit_error"
        assert caught.value.response.headers["retry-after"] == "1"
        assert complete(metered, 1, key=KEYS[1]).usage.completion_tokens == 1  # another key has its own
        assert client(metered).models.list().data  # not a generation
    # One answer may overdraw the minute's tokens; the next ones wait for it. A second brings one back, and no machine is so slow
    # that it takes this answer a minute.
    assert wait_until(lambda: gauge(metered, "phid_requests_running") == 0, 10)
    assert complete(metered, 90, key=KEYS[1]).usage.completion_tokens == 90
    with pytest.raises(openai.RateLimitError) as caught:
        complete(metered, 1, key=KEYS[1])
    assert "tokens per minute" in caught.value.message
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
