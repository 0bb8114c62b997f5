"""Fixtures: one server on the tiny model and one on SmolLM2 for the whole session, with clients of the official SDK."""
import openai
import pytest

from phid_server import SMOLLM2, TINY, Server


@pytest.fixture(scope="session")
def tiny_server():
    server = Server(TINY, "--set", "model.alias=[tiny, gpt-4o-mini]")
    yield server
    assert server.alive(), "the server died during the tests:\n" + server.log[-4000:]
    assert server.stop() == 0, server.log[-4000:]


@pytest.fixture(scope="session")
def smol_server():
    if not SMOLLM2.exists():
        pytest.fail(f"{SMOLLM2} is missing: ./test.sh fetches it")
    server = Server(SMOLLM2, "--set", "model.alias=[smollm2]")
    yield server
    assert server.alive(), "the server died during the tests:\n" + server.log[-4000:]
    assert server.stop() == 0, server.log[-4000:]


@pytest.fixture(scope="session")
def tiny(tiny_server):
    return openai.OpenAI(base_url=tiny_server.url + "/v1", api_key="sk-no-key", max_retries=0)


@pytest.fixture(scope="session")
def smol(smol_server):
    return openai.OpenAI(base_url=smol_server.url + "/v1", api_key="sk-no-key", max_retries=0)


@pytest.fixture(autouse=True)
def servers_survive(request):
    """No single test may kill a shared server."""
    yield
    for name in ("tiny_server", "smol_server"):
        if name in request.fixturenames:
            server = request.getfixturevalue(name)
            assert server.alive(), "this request killed the server:\n" + server.log[-4000:]
