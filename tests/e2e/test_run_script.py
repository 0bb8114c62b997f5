"""run.sh: what it serves and the lines it prints to try, with nothing installed, built or served."""
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUBS = """
source run.sh
build_phid() { :; }
get_demo_model() { :; }
exec() { printf "run %s\\n" "$*"; }
main "$@"
"""
TINY = "tests/models/tiny.gguf"
DEMO = "models/SmolLM2-135M-Instruct.Q4_1.gguf"


def run_sh(*arguments, code=0):
    done = subprocess.run(["bash", "-c", STUBS, "bash", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("arguments, command", [
    ([], f"-m {DEMO}"),
    ([""], f"-m {DEMO}"),
    (["--port", "9000"], f"-m {DEMO} --port 9000"),
    ([TINY, "--port=9000"], f"-m {TINY} --port=9000"),
    (["-m", TINY], f"-m {TINY}"),
    ([f"-m{TINY}"], f"-m{TINY}"),
    (["--config", "phid.yaml"], "--config phid.yaml"),
    ([TINY, "--config", "phid.yaml"], f"-m {TINY} --config phid.yaml"),
])
def test_what_is_served(arguments, command):
    assert run_sh(*arguments)[0] == f"run build/phid serve {command}\n"


@pytest.mark.parametrize("arguments, pieces", [
    ([], ["http://127.0.0.1:8080/v1/", '"SmolLM2-135M-Instruct.Q4_1"', 'api_key="none"']),
    ([TINY, "--host", "0.0.0.0", "--port", "9000"], ["http://127.0.0.1:9000/v1/", '"tiny"']),
    (["--host=::1", "-m", TINY], ["http://[::1]:8080/v1/", '"tiny"']),
    ([TINY, "--api-key", "secret"], ["-H 'Authorization: Bearer secret'", 'api_key="secret"']),
    ([TINY, "--set", "engine.context=64"], ['"tiny"']),
])
def test_the_lines_to_try(arguments, pieces):
    hints = run_sh(*arguments)[1]
    for piece in pieces:
        assert piece in hints


@pytest.mark.parametrize("arguments", [["--config", "phid.yaml"], [TINY, "--set", "server.port=9000"], [TINY, "--set=model.alias=[a]"]])
def test_no_lines_that_may_be_wrong(arguments):
    assert run_sh(*arguments)[1] == ""


@pytest.mark.parametrize("model", ["no/such.gguf", "/tmp"])
def test_a_model_that_is_no_file(model):
    assert f"{model} is not a file" in run_sh(model, code=1)[1]
