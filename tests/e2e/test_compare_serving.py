"""tests/bench/compare_serving.py on a real server, alone: no other is needed to see that it measures."""
import json
import subprocess
import sys

import pytest

from phid_server import PHID, ROOT, TINY

MEASURED = {"crowd": ("output_throughput", "median_ttft_ms", "p99_itl_ms"), "gap": ("before", "p99", "longest", "streamed", "ttft")}


@pytest.mark.parametrize("goal", MEASURED)
def test_goal(goal, tmp_path):
    command = [sys.executable, ROOT / "tests" / "bench" / "compare_serving.py", "-m", TINY, "--phid", PHID, "--only", "phid", "--rounds", 1,
               "--clients", 2, "--requests", 4, "--prompt", 16, "--answer", 8, "--ids", "300-1400", "--long-prompt", 300, "--before", 2,
               "--into", tmp_path / "runs.json", goal]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [(run["goal"], run["arm"], run["round"]) for run in runs] == [(goal, "phid", 0)]
    assert all(runs[0][key] > 0 for key in MEASURED[goal])
    assert done.stdout.splitlines()[0] == "| | phid |"
