"""How long the command and the package take to start, against a bare Python.

    python tests/bench/bench_start.py [--rounds N]

Goals: the import at most 4 times, `qwen-npu --help` at most 15 times `python -c pass`. Run in turn,
so that a busy moment hits all three.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": ([sys.executable, "-c", "pass"], 1),
    "import qwen_npu_tut": ([sys.executable, "-c", "import qwen_npu_tut"], 4),
    "qwen-npu --help": ([str(Path(sys.executable).parent / "qwen-npu"), "--help"], 15),
}


def seconds(command: list[str]) -> float:
    "How long one run takes."
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:  # 1 where a goal is missed
    "Print median times and ratios."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (command, _) in COMMANDS.items():
            taken[name].append(seconds(command))
    bare = statistics.median(taken["python -c pass"])
    missed = 0
    for name, (_, goal) in COMMANDS.items():
        median = statistics.median(taken[name])
        missed += median / bare > goal
        print(f"{name:<22} {median * 1000:6.0f} ms {median / bare:5.1f}x (goal {goal}x)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
