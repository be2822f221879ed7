"""A home that commit 48de023 made, with its real server running, taken over: about two minutes.

Run by `make prove`. The old code comes from the repository's history, the engine is the user's by
hard links; whoever asks an index, a hub or a proxy is counted, and gets nothing."""

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

import pytest
from old_home import SITE
from shared import Refusing, share_engine

from qwen_npu_tut.engine.target import stack_folder
from qwen_npu_tut.server.processes import session_of
from qwen_npu_tut.base.settings import home

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "48de023"
COMMAND = str(Path(sys.executable).with_name("qwen-npu"))
MAIN = "from qwen_npu_tut.cli import main; main()"  # of the old code
WHERE = "import qwen_npu_tut; print(qwen_npu_tut.__file__)"
# What pip would write beside the old code, from that commit's setup.py.
METADATA = "Metadata-Version: 2.1\nName: qwen_npu_tut\nVersion: 0.1.0\n"
ENTRY = "[sglang.srt.platforms]\nqwen_npu_cpu = qwen_npu_tut.cpu_platform:activate\n"


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    "An interpreter that imports the old code, and this one's packages behind it."
    if not (stack_folder("cpu") / "env/bin/python").is_file():
        pytest.skip("the engine is not installed: qwen-npu up")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True)
    if archive.returncode:
        pytest.skip(f"the history here does not reach back to {COMMIT}")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder / "code", filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    site = Path(answer.stdout.strip())
    (site / "old.pth").write_text(f"{folder / 'code'}\n{sysconfig.get_path('purelib')}\n")
    about = site / "qwen_npu_tut-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text(ENTRY)
    where = subprocess.run(
        ["env", "-u", "PYTHONPATH", python, "-c", WHERE], cwd=folder, capture_output=True
    )
    assert str(folder / "code").encode() in where.stdout
    yield python
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def nobody():
    with Refusing() as refusing:
        yield refusing


@pytest.fixture(scope="module")
def walk(old_python, nobody, tmp_path_factory):
    "Runs a command of the old code or of today's in a home with the user's engine; says how long."
    folder = tmp_path_factory.mktemp("walk")
    own = {"QWEN_NPU_HOME": str(folder / "home"), "QWEN_NPU_STACK": "cpu", "QWEN_NPU_PORT": "0"}
    environment = nobody.environment_from(os.environ) | own
    share_engine(home() / "stacks", folder / "home/stacks")

    def call(*words: str, old: bool = False):
        began = time.monotonic()
        line = ["env", "-u", "PYTHONPATH", old_python, "-c", MAIN] if old else [COMMAND]
        done = subprocess.run(
            [*line, *words],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        print(
            f"{'old' if old else 'today'}: {' '.join(words)}: "
            f"{done.returncode}, {time.monotonic() - began:.1f} s\n{done.stderr}",
            flush=True,
        )
        return done

    call.home = folder / "home"
    yield call
    call("stop")
    shutil.rmtree(folder)


def status(walk, **more) -> dict:
    return json.loads(walk("status", "--json", **more).stdout)


def names(folder: Path) -> dict[str, int]:
    "The engine's files by name, with their numbers on the disk; ours and compiled ones left out."
    rows = {str(each.relative_to(folder)): each for each in folder.rglob("*") if each.is_file()}
    return {
        name: each.stat().st_ino
        for name, each in rows.items()
        if "__pycache__" not in name and not name.startswith("qwen_npu_tut")
    }


def test_taken_over(walk, nobody):
    assert walk("up", "--yes", old=True).returncode == 0
    before, server = names(walk.home / SITE), status(walk, old=True)
    model = walk.home / "models/qwen-npu-tut--teaching-qwen3"
    tokenizer = (model / "tokenizer.json").stat().st_ino
    record = json.loads((walk.home / "servers/default.json").read_text())
    leader = record["pid"], record["born"]
    assert server["state"] == "running" and len(session_of(*leader)) >= 3

    assert status(walk).items() >= server.items()  # a later release says more
    assert walk("verify", str(model)).returncode == 0
    steps = json.loads(walk("plan", "--format", "json").stdout)
    assert {step["name"] for step in steps if not step["done"]} <= {"plugin"}
    assert "你好" in walk("chat", "--no-think", "你好！").stdout

    # Today's package brings a newer teaching model: the running server is left alone, and serves.
    again = walk("up", "--yes")
    assert again.returncode == 0 and "newer teaching model" in again.stdout
    assert status(walk).items() >= server.items()

    assert walk("stop").returncode == 0
    assert not session_of(*leader) and status(walk)["state"] == "stopped"

    assert walk("up", "--yes").returncode == 0
    assert status(walk)["state"] == "running"
    assert "你好" in walk("chat", "--no-think", "你好！").stdout
    assert walk("down").returncode == 0
    assert names(walk.home / SITE) == before
    assert (model / "tokenizer.json").stat().st_ino == tokenizer
    assert nobody.came == 0
    assert walk("download", "made-up/tiny").returncode == 1 and nobody.came > 0  # it does count
