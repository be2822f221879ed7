"""What our own part of planning and installing costs.

    python tests/bench/bench_install.py [--rounds N]

`plan` beside `check`, and an installation beside its bare commands. The installation is the plan
for an A2 server with the stack cann-8.5, in stand-ins of a few hundred bytes, so that pip, git and
unzip have as little to do as possible and our share is at its largest.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import support_path  # noqa: F401  for the modules of tests/support
import machines
from standins import PYTHON, installed, stand_in
from wheels import index

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.engine import plan
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.base.settings import home
from qwen_npu_tut.engine.stacks import stacks

COMMAND = Path(sys.executable).with_name("qwen-npu")


def seconds(act) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def command(*words: str) -> float:
    return seconds(lambda: subprocess.run([COMMAND, *words], capture_output=True))


def in_commands(act) -> float:
    "Seconds that an installation spends in its commands; what is left is ours."
    spent, run_logged = [], plan.run_logged

    def timed(*words, **more):
        began = time.monotonic()
        try:
            return run_logged(*words, **more)
        finally:
            spent.append(time.monotonic() - began)

    plan.run_logged = timed
    try:
        act()
    finally:
        plan.run_logged = run_logged
    return sum(spent)


def bare(steps) -> None:
    "The same commands, one after the other, and nothing else."
    for step in steps:
        subprocess.run(
            step.command,
            cwd=step.folder,
            env={**os.environ, **step.environment},
            check=True,
            capture_output=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    check, planned = (
        [command(word, "--stack", "cpu") for _ in range(5 * rounds)] for word in ("check", "plan")
    )
    first, second = statistics.median(check), statistics.median(planned)
    print(f"check {first:.2f} s, plan {second:.2f} s: {second - first:+.2f} s (at most +0.30)")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ.update(
            stand_in(folder, stacks()["cann-8.5"], "aarch64"),
            QWEN_NPU_HOME=str(folder / "home"),
            PIP_NO_CACHE_DIR="1",
        )
        kernels.RELEASES = (folder / "releases").as_uri()
        wanted = replace(
            stacks()["cann-8.5"], cann_roots=(str(folder / "昇腾 cann"),), python=(PYTHON,)
        )
        machine = replace(read_machine(machines.A2.host()), python=PYTHON)
        times = {"bare": [], "ours": [], "again": []}
        with index(folder / "wheels") as os.environ["PIP_INDEX_URL"]:
            for _ in range(rounds):
                for name in times:
                    if name != "again":
                        shutil.rmtree(home(), ignore_errors=True)
                    if name == "bare":
                        (home() / "stacks" / wanted.name).mkdir(parents=True)
                    steps, began = installed(machine, wanted), time.monotonic()
                    bare(steps) if name == "bare" else run_plan(steps, os.environ)
                    times[name].append(time.monotonic() - began)
            shutil.rmtree(home())
            steps = installed(machine, wanted)
            began = time.monotonic()
            inside = in_commands(lambda: run_plan(steps, os.environ))
            outside = time.monotonic() - began - inside
        median = {name: statistics.median(each) for name, each in times.items()}
        more, times = median["ours"] - median["bare"], median["ours"] / median["bare"]
        print(
            f"{len(steps)} steps: bare commands {median['bare']:.1f} s,",
            f"install {median['ours']:.1f} s: {more:+.1f} s, {times:.2f}x;",
            f"outside the commands {outside:.2f} s (at most 2.00);",
            f"again, all done: {median['again']:.2f} s",
        )


if __name__ == "__main__":
    main()
