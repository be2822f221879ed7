"""How long a check and a diagnosis take, and how much memory.

    python tests/bench/bench_check.py [--rounds N]

`qwen-npu check` on a simulated A2 server whose npu-smi answers at once, against
`python -m torch.utils.collect_env` of the engine (`make up` installs it), run in turn. Goals: 0.3 s
and 60 MB. Then `qwen-npu diagnose` on logs of 100 MB: a healthy one, one with an error in every
line, and one that is a single line.
Goals: 10 s, and the memory of a small log.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support_path import SUPPORT
import machines

from qwen_npu_tut.engine.target import stack_folder

CHECK = """
import sys; sys.path.insert(0, {support!r})
from pathlib import Path
import machines, qwen_npu_tut.host.system as host
host.Host = lambda: machines.RootedHost(Path({root!r}))
from qwen_npu_tut.faces.cli import main
sys.argv = ["qwen-npu", "check"]
main()
"""
HEALTHY = (
    "[2026-11-25 08:00:00] INFO:     127.0.0.1:51244 - "
    '"POST /v1/chat/completions HTTP/1.1" 200 OK\n'
    "[2026-11-25 08:00:01] Decode batch. #running-req: 1, #token: 151, token usage: 0.00,"
    " gen throughput (token/s): 61.2\n"
)
DENSE = (
    "[ERROR] 2026-11-25-08:00:00 (PID:554, Device:0, RankID:-1) ERR99999 UNKNOWN application"
    " exception: something failed in module 4711, error code is 507899\n"
)


def measured(command: list[str], output: int = subprocess.DEVNULL) -> tuple[float, float]:
    "Seconds and MB (largest resident size) of one run."
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> int:  # 1 where a goal is missed
    "Print medians, ratios and whether the goals are met."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds, missed = parser.parse_args().rounds, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "a2")
        root.mkdir()
        machines.A2.lay_out(root)
        commands = {
            "qwen-npu check": [sys.executable, "-c", CHECK.format(support=SUPPORT, root=str(root))]
        }
        python = stack_folder("cpu") / "env" / "bin" / "python"
        if python.is_file():
            commands["python -m torch.utils.collect_env"] = [
                str(python),
                "-m",
                "torch.utils.collect_env",
            ]
        taken = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                taken[name].append(measured(command))
        ours = [statistics.median(values) for values in zip(*taken["qwen-npu check"])]
        for name, runs in taken.items():
            seconds, megabytes = (statistics.median(values) for values in zip(*runs))
            print(
                f"{name:35} {seconds:6.2f} s {megabytes:6.0f} MB   "
                f"{seconds / ours[0]:5.1f}x the time, {megabytes / ours[1]:4.1f}x the memory"
            )
        missed += ours[0] > 0.3 or ours[1] > 60
        log = Path(folder, "log")
        for name, text in {
            "healthy": HEALTHY,
            "an error in every line": DENSE,
            "one line": HEALTHY.replace("\n", " "),
            "small": "",
        }.items():
            with log.open("w") as out:  # in pieces: a child's largest size counts from its parent's
                for _ in range(100_000_000 // len(text) // 1000 if text else 0):
                    out.write(text * 1000)
                out.write("ImportError: libatb.so: cannot open shared object file\n")
            seconds, megabytes = measured(
                [str(Path(sys.executable).parent / "qwen-npu"), "diagnose", str(log)]
            )
            print(
                f"diagnose {log.stat().st_size / 1e6:5.0f} MB, {name:24}"
                f" {seconds:6.2f} s {megabytes:6.0f} MB"
            )
            missed += seconds > 10
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
