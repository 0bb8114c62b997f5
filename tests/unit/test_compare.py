"""What tests/bench/compare.py makes of the programs' output and of its runs."""
import argparse
import json
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import compare  # noqa: E402
import paired  # noqa: E402
import peers  # noqa: E402
import serving  # noqa: E402

OPTIONS = argparse.Namespace(model="m.gguf", threads=2, repeats=1, prompt=512, tokens=64, depth=1024, sequences=8)
ROWS = peers.rows(OPTIONS)

PHID = """{"calibration":{"threads":2,"isa":"avx2","read_gb_s":30.407,"int8_gmac_s":303.898,"f32_gfma_s":97.835},
"prefill":[{"tokens":32,"tok_s":20.000,"gmac_s":72.000,"fraction":0.2400},{"tokens":512,"tok_s":50.000,"gmac_s":190.000,"fraction":0.6252}],
"decode":[]}"""
BATCHED = """
main: n_kv_max = 2048, n_batch = 2048, n_ubatch = 512, flash_attn = 1, is_pp_shared = 0, n_gpu_layers = -1, n_threads = 2

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    16 |     64 |    8 |    640 |    5.120 |    25.00 |   34.131 |    15.00 |   39.251 |    16.31 |

llama_perf_context_print:        load time =    2045.06 ms
"""
BENCH = """[
  {
    "build_commit": "abc1234",
    "build_number": 11549,
    "model_filename": "m.gguf",
    "n_prompt": 32,
    "samples_ts": [ 30.5 ]
  },
  {
    "build_commit": "abc1234",
    "build_number": 11549,
    "model_filename": "m.gguf",
    "n_prompt": 512,
    "avg_ts": 26.0,
    "samples_ts": [ 25.5, 28.0, 26.5 ]
  }
]
"""


# --------------------------------------------------------------- statistics

def test_order_turns_every_round():
    assert [paired.order("AB", n) for n in range(4)] == [["A", "B"], ["B", "A"], ["A", "B"], ["B", "A"]]
    assert paired.order("ABC", 1) == ["C", "B", "A"]


def runs_of(**values):
    return [{"row": "decode", "arm": arm, "round": n, "value": value, "steal": 0, "variant": "default", "command": "c"}
            for arm, list_of in values.items() for n, value in enumerate(list_of)]


def test_ratios_pair_within_rounds():
    runs = runs_of(phid=[10, 20, 30], peer=[5, 5])
    assert paired.ratios(runs, "phid", "peer") == [2, 4]
    assert paired.ratios(runs, "phid", "other") == []


def test_interval_holds_the_median_and_repeats():
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    low, high = paired.interval(values)
    assert 1.0 <= low < 1.3 < high <= 1.6
    assert (low, high) == paired.interval(values)
    assert paired.interval([2.0]) == (2.0, 2.0)
    assert paired.interval([]) is None


def test_interval_is_narrower_with_more_values():
    few, many = paired.interval([1.0, 1.5, 2.0]), paired.interval([1.0, 1.5, 2.0] * 30)
    assert many[1] - many[0] < few[1] - few[0]


def test_stolen_ticks():
    text = "cpu  100 1 20 500 4 0 5 30 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert paired.processor_ticks(text) == {"all": 660, "idle": 504, "stolen": 30}


def test_watch_tells_others_from_us(monkeypatch):
    """Of 400 ticks 100 are idle, 40 stolen, 200 our own: what is left, 60, had others."""
    texts = iter(["cpu 0 0 0 0 0 0 0 0\n", "cpu 250 0 10 90 10 0 0 40\n"])
    owns = iter([1.0, 1.0 + 200 / os.sysconf("SC_CLK_TCK")])
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _: next(texts))
    monkeypatch.setattr(paired.Watch, "own", lambda _: next(owns))
    with paired.Watch() as watch:
        pass
    assert (watch.stolen, watch.others) == (0.1, pytest.approx(0.15))


def test_watch_sees_the_machine():
    with paired.Watch() as watch:
        sum(range(1000))
    assert 0 <= watch.stolen <= 1 and 0 <= watch.others <= 1


# ------------------------------------------------------------------ programs

def test_phid_command_and_output():
    phid = peers.Phid("phid")
    command = " ".join(map(str, phid.command(ROWS["prefill"], OPTIONS, [])))
    assert command == "phid bench -m m.gguf --threads 2 -r 1 -p 32,512 -n 0 --json"
    told = phid.parse(ROWS["prefill"], PHID, "")
    assert told["value"] == 50 and told["work"] == pytest.approx(3.8) and told["calibration"]["read_gb_s"] == 30.407
    with pytest.raises(peers.Unusable):
        phid.parse(ROWS["decode"], PHID, "")


def test_llama_commands():
    llama = peers.Llama("/opt/llama")
    on = llama.variants["flash attention"]
    assert " ".join(map(str, llama.command(ROWS["prefill"], OPTIONS, on))) == \
        "/opt/llama/llama-bench -m m.gguf -t 2 -r 1 -p 32,512 -n 0 --no-warmup -fa on -o json"
    assert " ".join(map(str, llama.command(ROWS["depth"], OPTIONS, on))) == \
        "/opt/llama/llama-bench -m m.gguf -t 2 -r 1 -p 0 -n 64 -d 1024 -fa on -o json"
    plain = llama.variants["no flash attention, not repacked"]
    assert " ".join(map(str, llama.command(ROWS["decode"], OPTIONS, plain))) == \
        "/opt/llama/llama-bench -m m.gguf -t 2 -r 1 -p 0 -n 64 -d 0 -fa off --repack 0 -o json"
    assert "-fa off -nr" in " ".join(map(str, llama.command(ROWS["batch"], OPTIONS, plain)))
    assert " ".join(map(str, peers.Llama(None).command(ROWS["batch"], OPTIONS, on))) == \
        "llama-batched-bench -m m.gguf -t 2 -c 2048 -npp 16 -ntg 64 -npl 8 -fa on"


def test_ik_llama_commands():
    ik = peers.IkLlama("/opt/ik")
    repacked = ik.variants["flash attention, repacked"]
    assert " ".join(map(str, ik.command(ROWS["depth"], OPTIONS, repacked))) == \
        "/opt/ik/llama-bench -m m.gguf -t 2 -r 1 -p 0 -n 0 -gp 1024,64 -fa 1 -rtr 1 -o json"
    assert "-fa off" in " ".join(map(str, ik.command(ROWS["batch"], OPTIONS, ik.variants["no flash attention"])))


def test_llama_output():
    llama = peers.Llama(None)
    assert llama.parse(ROWS["prefill"], "a line before\n" + BENCH, "")["value"] == 26.5
    assert llama.version() == "abc1234 (build 11549)"
    assert llama.parse(ROWS["batch"], BATCHED, "")["value"] == 15.0
    assert llama.parse(ROWS["batch"], "", BATCHED)["value"] == 15.0


@pytest.mark.parametrize("row", ["prefill", "batch"])
@pytest.mark.parametrize("text", ["", "error: no such file", "[]", "[{}]", "| x |\n| y |"])
def test_output_of_another_form(row, text):
    with pytest.raises(peers.Unusable):
        peers.Llama(None).parse(ROWS[row], text, "")


def test_programs_that_fail():
    with pytest.raises(peers.Unusable, match="not found"):
        peers.run(["/nowhere/llama-bench"], 5)
    with pytest.raises(peers.Unusable, match="exit code 3: gone"):
        peers.run(["sh", "-c", "echo gone >&2; exit 3"], 5)
    with pytest.raises(peers.Unusable, match="longer"):
        peers.run(["sleep", "5"], 0.1)


# --------------------------------------------------------------------- table

def data_of(runs):
    return {"machine": paired.machine(), "model": "m.gguf", "model_bytes": 2396740512, "threads": 2,
            "lengths": {"prompt": 512, "tokens": 64, "depth": 1024, "sequences": 8}, "versions": {"phid": "1"},
            "calibrations": [{"read_gb_s": 24.0, "int8_gmac_s": 300.0}, {"read_gb_s": 26.0, "int8_gmac_s": 300.0}],
            "trials": {}, "runs": runs}


def test_table():
    runs = runs_of(phid=[10, 11, 12], **{"llama.cpp": [5, 5, 5], "ik_llama.cpp": [10, 10, 10]})
    for run in runs:
        if run["arm"] == "phid":
            run["work"] = 2.0  # GB a token
    lines = compare.table(data_of(runs)).splitlines()
    assert lines[0] == "| tok/s | phid | of peak | llama.cpp | phid / llama.cpp | ik_llama.cpp | phid / ik_llama.cpp |"
    assert lines[2].startswith("| decode, empty context | 11.0 | 88 % | 5.0 | 2.20 (2.00-2.40) | 10.0 | 1.10 (1.00-1.20) |")
    assert "2.40 GB" in compare.description(data_of(runs)) and "rounds: decode 3;" in compare.description(data_of(runs))


def test_table_without_peer():
    lines = compare.table(data_of(runs_of(phid=[10]))).splitlines()
    assert lines[0] == "| tok/s | phid | of peak |" and lines[2] == "| decode, empty context | 10.0 | 0 % |"


# ------------------------------------------------------------- the whole thing

def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def programs(tmp_path):
    """Stand-ins that answer at once with what the real ones print."""
    decode = json.dumps({"calibration": {"isa": "avx2", "read_gb_s": 25.0, "int8_gmac_s": 300.0}, "prefill": [],
                         "decode": [{"context": 0, "sequences": 1, "tok_s": 9.0, "gb_s": 20.0, "fraction": 0.8}]})
    phid = program(tmp_path / "bin" / "phid", f"""case "$1" in version) echo '{{"version":"1","commit":"c","isa":"avx2"}}';;
*) echo '{decode}';; esac""")
    program(tmp_path / "llama" / "llama-bench", """case "$*" in *"-fa off --repack"*) exit 1;; *"-fa off"*) rate=7;; *) rate=6;; esac
echo "[{\\"build_commit\\":\\"x\\",\\"samples_ts\\":[$rate]}]" """)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    return ["compare.py", "-m", str(tmp_path / "m.gguf"), "--phid", phid, "--llama", str(tmp_path / "llama"), "--rows", "decode",
            "--into", str(tmp_path / "runs.json"), "--steal", "100",
            "--others", "100"]


def test_rounds_add_up(programs, tmp_path, monkeypatch, capsys):
    for pairs in ("2", "1"):
        monkeypatch.setattr(sys, "argv", [*programs, "--pairs", pairs])
        assert compare.main() == 0
    kept = json.loads((tmp_path / "runs.json").read_text())
    assert [(run["arm"], run["round"]) for run in kept["runs"]] == \
        [("phid", 0), ("llama.cpp", 0), ("llama.cpp", 1), ("phid", 1), ("phid", 2), ("llama.cpp", 2)]
    trials = kept["trials"]["decode"]["llama.cpp"]
    assert (trials["flash attention"], trials["no flash attention"]) == (6, 7)
    assert set(trials) == set(peers.Llama.variants) and trials["no flash attention, not repacked"] == 0  # this one fails
    assert {run["variant"] for run in kept["runs"] if run["arm"] == "llama.cpp"} == {"no flash attention"}
    assert len(kept["calibrations"]) == 4
    assert "| decode, empty context | 9.0 | 80 % | 7.0 | 1.29 (1.29-1.29) |" in capsys.readouterr().out


def test_another_model_does_not_mix(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*programs, "--pairs", "1"])
    assert compare.main() == 0
    (tmp_path / "m.gguf").write_bytes(b"GGUF, another")
    with pytest.raises(SystemExit, match="model_bytes"):
        compare.main()


def test_stolen_runs_do_not_count(programs, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*programs, "--pairs", "1", "--steal", "-1"])
    with pytest.raises(SystemExit, match="no clean run"):
        compare.main()


def test_gaps_of_a_time_in_which_all_decode():
    trace = [{"start_s": 10.0, "ttft_ms": 1000, "gaps_ms": [100, 100, 300, 300, 400]},
             {"start_s": 10.0, "ttft_ms": 1200, "gaps_ms": [250, 250, 250]}]
    assert serving.gaps_together(trace) == [300, 300, 250, 250, 250]
    late = [trace[0], {"start_s": 20.0, "ttft_ms": 1, "gaps_ms": [100]}]
    assert serving.gaps_together(late) == []
