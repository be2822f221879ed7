"""All that can be checked without an NPU, stage by stage. Every stage runs; one that fails makes the exit code 1.

    python tools/run_tests.py [--only STAGE] [--prove]

The service that the stages call is one of its own: record "test", a free port, the CPU stack and the teaching model.
A server that you have running, and port 30000, are left alone.
"""

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OWN_SERVER = {
    "QWEN_NPU_SERVER": "test",
    "QWEN_NPU_PORT": "0",
    "QWEN_NPU_STACK": "cpu",
    "QWEN_NPU_MODEL": "qwen-npu-tut/teaching-qwen3",
    "QWEN_NPU_API_KEY": f"sk-{secrets.token_urlsafe(16)}",  # so that a wrong key is refused
}


@dataclass(frozen=True)
class Stage:
    "One line of the summary."

    name: str
    what: str  # said before it runs
    command: list[str]


def stages() -> list[Stage]:
    "In order: the service first, the docs before the tests that look at them."
    python = sys.executable
    return [
        Stage(
            "server",
            "engine, model and service (downloads them the first time)",
            [str(BIN / "qwen-npu"), "up", "--yes"],
        ),
        Stage(
            "notebooks",
            "every notebook, top to bottom",
            [str(BIN / "nbdev_test"), "--timing", "--n_workers", "1"],
        ),
        Stage(
            "sync", "modules, notebooks and READMEs are in step", [python, "tools/check_sync.py"]
        ),
        Stage("docs", "the docs site and its links", [python, "tools/build_docs.py"]),
        Stage("style", "ruff", [str(BIN / "ruff"), "check", "nbs", "tools", "tests"]),
        Stage("tests", "pytest, the fast tier", [python, "-m", "pytest", "-q", "-rs", "tests"]),
    ]


def proofs() -> list[Stage]:
    "The long proofs, with the same service."
    files = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests/prove").glob("prove_*.py")
    )
    return [
        stages()[0],
        Stage(
            "fuzzing",
            "the property tests, with 10,000 cases each",
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-rs",
                "--timeout=3600",
                "tests/unit/test_fuzz.py",
            ],
        ),
        Stage(
            "proofs",
            "pytest, the long proofs",
            [sys.executable, "-m", "pytest", "-q", "-rs", "-s", "--timeout=3600", *files],
        ),
    ]


@dataclass(frozen=True)
class Result:
    "How a stage went."

    stage: Stage
    code: int
    seconds: float
    last: str  # the last line that it printed

    def __str__(self):
        verdict = "passed" if self.code == 0 else f"FAILED ({self.code})"
        return f"{self.stage.name:<10} {verdict:<14} {self.seconds:4.0f} s   {self.last if self.code == 127 else ''}".rstrip()


def end(
    process: subprocess.Popen,  # a stage, leader of a session of its own
):
    "Stop a stage and whatever it started: asked first, killed after ten seconds. Pools of processes survive their parent otherwise."
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        os.killpg(process.pid, signal.SIGKILL)


def run(
    stage: Stage,  # what to run
    environment: dict,  # its environment
) -> Result:
    "Run one stage and show what it prints as it comes, between two lines that say what it is and how it went."
    print(f"\n== {stage.name}: {stage.what}", flush=True)
    started, last = time.monotonic(), ""
    try:
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        result = Result(
            stage, 127, 0, f"{Path(stage.command[0]).name} could not be started: {error.strerror}"
        )
    else:
        with process:
            try:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    last = line.strip() or last
            except BaseException:
                end(process)
                raise
        result = Result(stage, process.returncode, time.monotonic() - started, last)
    print(f"-- {result}", flush=True)
    return result


def main() -> int:  # exit code
    "Run the stages, stop the server, say how it went."
    known = {stage.name: stage for stage in [*stages(), *proofs()]}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        action="append",
        choices=list(known),
        metavar="STAGE",
        help=f"one of {', '.join(known)}; may be repeated",
    )
    parser.add_argument("--prove", action="store_true", help="the long proofs instead")
    options = parser.parse_args()
    chosen = (
        [known[name] for name in options.only]
        if options.only
        else proofs()
        if options.prove
        else stages()
    )
    names = [stage.name for stage in chosen]
    environment = {
        **os.environ,
        **OWN_SERVER,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    environment.pop("QWEN_NPU_URL", None)
    if options.prove:
        environment.pop(
            "QWEN_NPU_API_KEY"
        )  # the proofs start servers of their own, with and without a key
    if "fuzzing" in names:
        environment["QWEN_NPU_EXAMPLES"] = "10000"
    if "docs" in names:
        environment["QWEN_NPU_DOCS"] = str(
            ROOT / "_docs"
        )  # the tests look at what this stage builds
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that the server is stopped then too
    # A shell starts a background job with SIGINT ignored, and what is ignored stays so in every
    # child; what is handled becomes the default there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started, results = time.monotonic(), []
    try:
        for stage in chosen:
            results.append(run(stage, environment))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        if "server" in names and (BIN / "qwen-npu").exists():
            subprocess.run(
                [str(BIN / "qwen-npu"), "stop"], cwd=ROOT, env=environment, capture_output=True
            )
    failed = sum(result.code != 0 for result in results)
    print(f"\nAll stages, {time.monotonic() - started:.0f} s:", *results, sep="\n")
    print(f"stages: {len(results) - failed} passed, {failed} failed")
    for result in results:
        if "pytest" in result.stage.command:
            print(result.last)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
