"""The stages of `make npu`, rehearsed with the CPU engine: really installed, served and asked; the
record is marked and cannot be filled in."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_rehearsal(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/npu.py", "--rehearse", "--out", tmp_path / "run.json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf8"))
    assert found["made_up"] is True and found["stack"] == "cpu" and found["packages"]["sglang"]
    assert all(each["code"] == 0 and each["seconds"] >= 0 for each in found["stages"].values())
    reply = json.loads(found["stages"]["chat 1"]["output"])
    assert reply["choices"][0]["message"]["content"] and reply["usage"]["completion_tokens"] > 0
    assert len(found["cells"]) >= 4
    refused = subprocess.run(
        [sys.executable, ROOT / "tools/npu.py", "--fill", tmp_path / "run.json"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1 and "was not recorded on an NPU" in refused.stderr
