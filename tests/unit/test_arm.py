"""`make arm` refuses where it cannot work, before it touches anything. The proof itself takes half
an hour."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shellcheck import SHELLCHECK, needs_shellcheck

ROOT = Path(__file__).resolve().parents[2]
# Programs that answer as on a machine that suits: system and architecture, user, /etc/os-release,
# commit, lock, free kB.
SUITS = {
    "uname": "case $1 in -s) echo Linux ;; -m) echo x86_64 ;; esac",
    "id": "echo 0",
    "sed": "echo debian",
    "git": "echo abc1234",
    "flock": "exit 0",
    "df": "echo head; echo /dev/sda1 9 9 99000000",
}
REFUSALS = [
    ("uname", "echo Darwin", "needs Linux"),
    (
        "uname",
        "case $1 in -s) echo Linux ;; -m) echo aarch64 ;; esac",
        "this machine is aarch64 already",
    ),
    ("uname", "case $1 in -s) echo Linux ;; -m) echo riscv64 ;; esac", "this is riscv64"),
    ("id", "echo 1000", "needs root"),
    ("sed", "echo ubuntu", "needs Debian"),
    ("apt-get", None, "needs Debian"),
    ("git", "echo fatal: not a repository >&2; exit 128", "git finds none here"),
    ("flock", "exit 1", "another one is at work"),
    ("df", "echo head; echo /dev/sda1 9 9 5000000", "needs 14 GB of free disk"),
]

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("make"), reason="needs make and a POSIX shell"
)


@pytest.fixture
def arm(tmp_path):
    "Run `make arm` where programs are these; gives how it ended, and what it did to the machine."
    folder, done = tmp_path / "bin", tmp_path / "done"
    folder.mkdir()
    done.touch()

    def call(changes):
        acts = dict.fromkeys(
            ("apt-get", "apt-config", "debootstrap", "mount", "umount", "unshare"),
            f'echo "$0 $*" >> {done}; exit 1',
        )
        for name in ("sh", "make", "dirname", "mkdir", "awk"):
            (folder / name).symlink_to(shutil.which(name))
        for name, body in {**SUITS, **acts, **changes}.items():
            if body is None:
                continue
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        environment = {"PATH": str(folder), "HOME": str(tmp_path / "home")}
        ended = subprocess.run(
            ["make", "arm"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        return ended, done.read_text()

    return call


@pytest.mark.parametrize("program, body, words", REFUSALS, ids=[words for _, _, words in REFUSALS])
def test_it_refuses(arm, program, body, words):
    ended, done = arm({program: body})
    said = [line for line in ended.stderr.splitlines() if not line.startswith("make: ***")]
    assert ended.returncode != 0 and done == "" and ended.stdout == ""
    assert len(said) == 1 and said[0].startswith("make arm: ") and words in said[0]


def test_a_machine_that_suits_is_told_what_comes(arm):
    "And only then the first thing is done: packages that are missing are installed."
    ended, done = arm({"debootstrap": None})
    assert (
        "binfmt_misc" in ended.stdout and "GB of disk" in ended.stdout and "abc1234" in ended.stdout
    )
    assert ended.returncode != 0 and done.split("bin/")[1] == "apt-get update -qq\n"


@needs_shellcheck
def test_shellcheck_has_nothing_to_say():
    checked = subprocess.run(
        [SHELLCHECK, *sorted((ROOT / "tools").glob("*.sh"))], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("slow, passes", [("1", False), ("10", True)])
def test_a_slow_machine_has_longer_limits(tmp_path, slow, passes):
    for name in ("conftest.py", "support/patience.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_one.py").write_text(
        "import time\nimport pytest\n@pytest.mark.timeout(0.5)\ndef test_one(): time.sleep(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path],
        cwd=tmp_path,
        env={**os.environ, "QWEN_NPU_SLOW": slow},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == passes, done.stdout
    assert passes or "Timeout" in done.stdout + done.stderr
