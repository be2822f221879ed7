"""Warm `qwen-npu up` to its first answer against the raw `sglang.launch_server`, in one run.

    python tests/bench/bench_walk.py [--rounds 3]

Both start the same engine with the same model, flags and environment; the raw one is asked with a
bare HTTP request every 50 ms until it answers. Prints medians, their difference and their ratio,
and the engine's resident memory. The walk has to be installed: `make up`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from qwen_npu_tut.server.lifecycle import find
from qwen_npu_tut.server.processes import free_port
from qwen_npu_tut.walk import choose, fetch, serving

COMMAND = str(Path(sys.executable).with_name("qwen-npu"))
OWN = {
    "QWEN_NPU_SERVER": "bench",
    "QWEN_NPU_PORT": "0",
    "QWEN_NPU_STACK": "cpu",
    "QWEN_NPU_MODEL": "qwen-npu-tut/teaching-qwen3",
}
QUESTION = json.dumps(
    {
        "model": "teaching-qwen3",
        "messages": [{"role": "user", "content": "你好！"}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
).encode()


def ask_until_answered(port: int) -> None:
    "Repeat one chat request until it is answered; at most five minutes."
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        QUESTION,
        {"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                json.load(answer)
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the raw server did not answer within five minutes")


def raw_seconds() -> float:
    "The launch line of the stack, started by hand, to its first answer."
    port = free_port("127.0.0.1", 0)
    choice = choose(port=port)
    fetch(choice)
    launch = serving(choice)
    began = time.monotonic()
    server = subprocess.Popen(
        launch.line,
        env=launch.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        ask_until_answered(port)
        return time.monotonic() - began
    finally:
        family = [server, *psutil.Process(server.pid).children(recursive=True)]
        for process in family:
            process.kill()
        server.wait()


def walk_seconds() -> tuple[float, float]:
    "A warm `qwen-npu up` to its end, and the resident memory of the engine in GB."
    began = time.monotonic()
    subprocess.run([COMMAND, "up", "--yes"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    launcher = psutil.Process(find("bench").pid)
    resident = (
        sum(each.memory_info().rss for each in [launcher, *launcher.children(recursive=True)]) / 1e9
    )
    subprocess.run([COMMAND, "down"], check=True, stdout=subprocess.DEVNULL)
    return seconds, resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    os.environ.update(OWN)
    walk_seconds()  # one round that is not counted fills the disk cache for both
    pairs = [(raw_seconds(), *walk_seconds()) for _ in range(rounds)]
    raw, walk, resident = (statistics.median(each) for each in zip(*pairs))

    def row(name: str, seconds: float, place: int) -> str:
        rounds = ", ".join(f"{pair[place]:.1f}" for pair in pairs)
        return f"{name:38} {seconds:.1f} s   (rounds: {rounds})"

    print(row("raw launch_server to its first answer:", raw, 0))
    print(row("qwen-npu up, warm, to its end:", walk, 1))
    print(f"difference {walk - raw:+.1f} s (goal: at most 1 s), ratio {walk / raw:.2f}")
    print(f"the engine's resident memory: {resident:.1f} GB (goal: below 4.5)")


if __name__ == "__main__":
    main()
