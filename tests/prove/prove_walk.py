"""The whole walk into an empty home, killed until it ends: some 15 minutes on 2 cores.

Run by `make prove`. It installs a second engine beside the user's, in a folder of its own, which
it deletes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from patience import patient

COMMAND = str(Path(sys.executable).with_name("qwen-npu"))


@pytest.fixture(scope="module")
def walk_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("walk") / "家 with space"
    environment = {
        **os.environ,
        "QWEN_NPU_HOME": str(home),
        "QWEN_NPU_PORT": "0",
        "QWEN_NPU_SERVER": "proof",
        "QWEN_NPU_STACK": "cpu",
    }
    yield environment
    subprocess.run([COMMAND, "down"], env=environment, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def in_session(leader: int) -> list[int]:
    """The living processes of a server: they share the launcher's session.

    One that has ended and was not yet fetched by its parent does not count."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            pass
    return found


def launchers(environment: dict) -> list[int]:
    "The launchers that serve a model below this home."
    lines = {
        process.pid: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])
    }
    return [
        pid
        for pid, line in lines.items()
        if "sglang.launch_server" in line
        and any(environment["QWEN_NPU_HOME"] in word for word in line)
    ]


def test_killed_at_random_moments_it_still_arrives(walk_home):
    chance, kills, code = random.Random(1), 0, None
    deadline = time.monotonic() + patient(2400)
    while time.monotonic() < deadline:
        up = subprocess.Popen(
            [COMMAND, "up", "--yes"],
            env=walk_home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        patience = chance.uniform(0.5, 6) if kills < 12 else None
        try:
            out, _ = up.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            up.send_signal(chance.choice([signal.SIGKILL, signal.SIGINT]))
            up.communicate()
            kills += 1
            continue
        code = up.returncode
        break
    print(f"{kills} kills, then exit code {code}\n{out}")
    assert kills >= 5 and code == 0 and "你好" in out


def test_what_it_left_is_whole(walk_home):
    status = json.loads(
        subprocess.run(
            [COMMAND, "status", "--json"], env=walk_home, capture_output=True, text=True
        ).stdout
    )
    assert status["state"] == "running"
    plan = json.loads(
        subprocess.run(
            [COMMAND, "plan", "--format", "json"], env=walk_home, capture_output=True, text=True
        ).stdout
    )
    assert all(step["done"] for step in plan)
    assert launchers(walk_home) == [status["pid"]]


def test_down_leaves_nothing_running(walk_home):
    pid = json.loads(
        subprocess.run(
            [COMMAND, "status", "--json"], env=walk_home, capture_output=True, text=True
        ).stdout
    )["pid"]
    assert len(in_session(pid)) >= 3  # launcher, scheduler, detokenizer
    assert subprocess.run([COMMAND, "down"], env=walk_home).returncode == 0
    assert in_session(pid) == [] and launchers(walk_home) == []
