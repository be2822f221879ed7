"""The stages of `make npu`, rehearsed on an emulated NPU and on the processor: really installed,
served and asked; the record says which, and cannot be filled in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("stack", ["emulated", "cpu"])
def test_a_rehearsal(tmp_path, stack):
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "tools/npu.py", "--rehearse"),
            *([] if stack == "emulated" else ["--stack", stack]),
            *("--out", tmp_path / "run.json"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf8"))
    assert found["grade"] == found["stack"] == stack and found["packages"]["sglang"]
    assert all(each["code"] == 0 and each["seconds"] >= 0 for each in found["stages"].values())
    reply = json.loads(found["stages"]["chat 1"]["output"])
    assert reply["choices"][0]["message"]["content"] and reply["usage"]["completion_tokens"] > 0
    assert reply["model"].endswith("-emulated-npu") is (stack == "emulated")
    cells = {f"0{n}_{name}.ipynb" for n, name in ((1, "check"), (2, "install"), (3, "kernels"))}
    assert {*found["cells"]} == ({*cells, "05_serve.ipynb"} if stack == "emulated" else set())
    assert ("chapters" in found["stages"]) is (stack == "emulated")
    for change in ({}, {"grade": "npu"}, {"grade": "npu", "stack": "cann-9.0"}):
        (tmp_path / "changed.json").write_text(json.dumps(found | change), encoding="utf8")
        refused = subprocess.run(
            [sys.executable, ROOT / "tools/npu.py", "--fill", tmp_path / "changed.json"],
            capture_output=True,
            text=True,
        )
        assert refused.returncode == 1 and "was not recorded on an NPU" in refused.stderr
