"""What has to hold, in two lanes side by side. A stage that fails makes the exit code 1.

    python tools/run_tests.py [--quick | --prove] [--only STAGE]... [--list]

The plain lane needs no engine, and `--quick` is that lane without what is slow. The other lane
calls a service of its own: the server "test", a free port, the CPU stack and the teaching model.
A server that you have running, and port 30000, are left alone. `--prove` runs the long proofs in
groups, one after another; `--only` names the groups that you want.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
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
# Pages that call a service, and pages that install an engine or run something in its interpreter.
SERVED = r"^(00_quickstart|index|terminal)\.ipynb$"
IN_ENGINE = r"^(walk|tutor|course|cpu_platform)\.ipynb$"
WALK = r"^0[1-6]_\w+\.ipynb$"  # the six chapters, which follow the machine they run on
IN_PROOF = r"^guide\.ipynb$"  # it wants another engine, the guide's: a group of `make prove`
EMULATED = "nbs/rehearsal/emulated"  # pages that import torch: in processes of their own
# Pages with the code of others: `make prove` runs those (chinese).
MADE = ("--skip_folder_re", r"^([_.]|zh$)")
NATIVE = r"^(collectives|device)\.ipynb$"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-rs"]
# Most of the unit tests wait for a process or a clock: three at a time take a third as long.
UNIT = [*PYTEST, "-n", "3", "--dist", "worksteal"]


@dataclass(frozen=True)
class Stage:
    "One line of the summary."

    name: str
    what: str  # said before it runs
    command: list[str]
    lane: str = "plain"
    needs: str = ""  # a stage of the other lane that has to be over first
    environment: dict[str, str] = field(default_factory=dict)
    own: bool = False  # it calls the service of the engine's lane


# What makes a chapter's machine a recorded A2 server, and its engine the one with an emulated NPU.
RECORDED = {
    "QWEN_NPU_STACK": "emulated",
    "QWEN_NPU_MACHINE": str(ROOT / "qwen_npu_tut/machines/a2.json"),
    "QWEN_NPU_SERVER": "test-emulated",
}
# Chapter 06 is run whole in the browser, with all that its cells assert; else with the others.
BROWSER = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
ONCE = ("--skip_file_re", r"^06_call\.ipynb$") if BROWSER else ()


def pages(name: str, what: str, lane: str, *choice: str) -> Stage:
    "Notebooks from top to bottom, those that are chosen."
    skipped = () if "--skip_folder_re" in choice else MADE
    command = [str(BIN / "nbdev_test"), "--timing", "--n_workers", "1", *choice, *skipped]
    return Stage(name, what, command, lane, own=True)


def recorded() -> Stage:
    "The six chapters in their other lane, with an engine that the stage `device` makes."
    what = "the six chapters, as a recorded A2 on an emulated NPU"
    chapters = pages("recorded", what, "engine", "--flags", "npu", "--file_re", WALK)
    return replace(chapters, environment=RECORDED, needs="device")


def emulated() -> list[Stage]:
    """The emulated NPU: its engine, its tests with the chapters' `npu` cells, its pages.

    The engine links to the CPU stack's files and builds its device: no download. A process has
    one device, so pages on a native one and pages on a mapped one do not share theirs."""
    install = [str(BIN / "qwen-npu"), "install", "--stack", "emulated"]
    tests = [*PYTEST, "-m", "not slow", "tests/emulated"]
    native, mapped = ("--path", EMULATED, "--file_re"), ("--path", EMULATED, "--skip_file_re")
    return [
        Stage("device", "the emulated NPU, in an engine", install, needs="server"),
        Stage("emulated", "pytest, on an emulated NPU", tests, own=True),
        pages("native pages", "pages of the emulated NPU, native", "plain", *native, NATIVE),
        pages("mapped pages", "pages of the emulated NPU, mapped", "plain", *mapped, NATIVE),
    ]


def stages() -> list[Stage]:
    "What `make test` runs, each lane in order; the two take about as long as each other."
    up = [str(BIN / "qwen-npu"), "up", "--yes"]
    docs = [sys.executable, "tools/build_docs.py"]
    looked_at = ("browser", "docs", "accessibility")
    seen = [*PYTEST, "-m", "not slow", *(f"tests/browser/test_{name}.py" for name in looked_at)]
    panel = [*PYTEST, "tests/browser/test_panel.py"]
    in_engine, served = "pages that use the engine", "pages that call the service"
    others = ("--skip_file_re", f"{SERVED}|{IN_ENGINE}|{IN_PROOF}|{WALK}")
    others += ("--skip_folder_re", r"^([_.]|zh$|emulated$)")
    walk = ("--file_re", WALK, *ONCE)
    return [
        Stage("style", "ruff, and the chapters measured", [sys.executable, "tools/check_style.py"]),
        Stage("docs", "the docs site and its links", docs),
        Stage("sync", "modules, notebooks and READMEs", [sys.executable, "tools/check_sync.py"]),
        Stage("unit", "pytest, without an engine", [*UNIT, "tests/unit"]),
        *emulated(),
        pages("engine pages", in_engine, "plain", "--file_re", IN_ENGINE),
        pages("pages", "pages that need no engine", "plain", *others),
        Stage("server", "engine, model and service (downloads them the first time)", up, "engine"),
        pages("chapters", "the six chapters, on this processor", "engine", *walk),
        pages("served pages", served, "engine", "--file_re", SERVED),
        Stage("engine", "pytest, with the engine", [*PYTEST, "tests/engine"], "engine"),
        Stage("browser", "chapters and docs in a browser", seen, "engine", needs="docs"),
        Stage("panel", "the panel in a browser", panel, "engine"),
        recorded(),
    ]


def quick() -> list[Stage]:
    "What `make quick` runs: no engine, nothing slow; two lanes."
    known = {stage.name: stage for stage in stages()}
    unit = Stage("unit", "pytest, the fast ones", [*UNIT, "-m", "not slow", "tests/unit"])
    plain = known["pages"]
    beside = Stage(plain.name, plain.what, plain.command, "pages")
    return [known["style"], known["sync"], unit, beside]


# Each group of the proofs, and what it needs; none takes more than 40 minutes on 2 cores.
PROOFS = {
    "fuzzing": ("the property tests, with 10,000 cases each", ["tests/unit/test_fuzz.py"]),
    "contract": ("the contract before two servers", ["prove_contract.py"]),
    "engine": ("the real engine with a key, and behind a router", ["prove_engine.py"]),
    "serving": ("serving: parsers, ranks, kills, cycles", ["prove_serving.py", "prove_cycles.py"]),
    "download": ("what can happen to a download", ["prove_download.py"]),
    "diagnose": ("a log of ten gigabytes", ["prove_diagnose.py"]),
    "plans": ("every NPU plan, with stand-ins", ["prove_npu_plan.py", "prove_npu_record.py"]),
    "teaching": ("the teaching model's exam", ["prove_tutor.py", "-k", "not new and not sampled"]),
    "training": ("the teaching model, trained anew", ["prove_tutor.py", "-k", "new or sampled"]),
    "walk": ("the walk into an empty home, killed again and again", ["prove_walk.py"]),
    "emulated": ("the emulated NPU: replies, ranks, leaks, faults", ["prove_emulated.py"]),
    "emulated build": ("the emulated device, built anew", ["tests/emulated/test_switch.py"]),
    "emulated memory": ("SGLang's own figures of memory", ["prove_emulated_memory.py"]),
    "guide": ("the guide, replayed on its own SGLang", ["prove_guide.py"]),
    "browser": ("chapters and panel, several times", ["prove_browser.py"]),
    "chinese": ("the Chinese pages, run in Chinese", ["prove_chinese.py"]),
    "site": ("the docs for everybody, page by page", ["tests/browser/test_accessibility.py"]),
    "package": ("a wheel outside any clone", ["prove_wheel.py"]),
    "old home": ("a home of an earlier version", ["prove_old_home.py"]),
}


def proofs() -> list[Stage]:
    "The long proofs in groups, with the same service."
    found = [stage for stage in stages() if stage.name == "server"]
    for name, (what, words) in PROOFS.items():
        places = [f"tests/prove/{word}" if word.startswith("prove_") else word for word in words]
        more = {"QWEN_NPU_EXAMPLES": "10000"} if name == "fuzzing" else {}
        command = [*PYTEST, "-s", "--timeout=3600", *places]
        found.append(Stage(name, what, command, "engine", environment=more))
    return found


@dataclass(frozen=True)
class Result:
    "How a stage went."

    stage: Stage
    code: int
    seconds: float
    last: str  # the last line that it printed

    def __str__(self):
        verdict = "passed" if self.code == 0 else f"FAILED ({self.code})"
        why = self.last if self.code == 127 else ""
        return f"{self.stage.name:<15} {verdict:<14} {self.seconds:4.0f} s   {why}".rstrip()


def end(process: subprocess.Popen) -> None:
    "Stop a stage and whatever it started: asked first, killed after ten seconds."
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        os.killpg(process.pid, signal.SIGKILL)


class Run:
    "The stages of one call: their processes, and how each went."

    def __init__(self, chosen: list[Stage], environment: dict[str, str]):
        self.chosen, self.environment = chosen, environment
        self.results: dict[str, Result] = {}
        self.over = {stage.name: threading.Event() for stage in chosen}
        self.processes: dict[str, subprocess.Popen] = {}
        self.stopped = False

    def say(self, stage: Stage, line: str) -> None:
        "A line of a stage, behind its name where two lanes talk at once."
        told = f"{stage.name:>15} | {line}" if len(self.lanes()) > 1 else line
        print(f"{told}\n", end="", flush=True)  # in one piece: two lanes write at once

    def lanes(self) -> list[str]:
        "The lanes that have something to do."
        return list(dict.fromkeys(stage.lane for stage in self.chosen))

    def surroundings(self, stage: Stage) -> dict[str, str]:
        "A stage's environment: the engine's lane calls a server of its own."
        own = OWN_SERVER if stage.own or stage.lane == "engine" else {}
        return {**self.environment, **own, **stage.environment}

    def stage(self, stage: Stage) -> None:
        "Run one stage and show what it prints as it comes."
        self.say(stage, f"== {stage.name}: {stage.what}")
        started, last = time.monotonic(), ""
        try:
            process = self.processes[stage.name] = subprocess.Popen(
                stage.command,
                cwd=ROOT,
                env=self.surroundings(stage),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            what = f"{Path(stage.command[0]).name} could not be started: {error.strerror}"
            self.results[stage.name] = Result(stage, 127, 0, what)
        else:
            with process:
                for line in process.stdout:
                    self.say(stage, line.rstrip("\n"))
                    last = line.strip() or last
            seconds = time.monotonic() - started
            self.results[stage.name] = Result(stage, process.returncode, seconds, last)
        self.say(stage, f"-- {self.results[stage.name]}")

    def lane(self, name: str) -> None:
        "The stages of one lane, in order."
        for stage in self.chosen:
            if stage.lane != name or self.stopped:
                continue
            if stage.needs in self.over:
                self.over[stage.needs].wait()
            if not self.stopped:
                self.stage(stage)
            self.over[stage.name].set()

    def all(self) -> None:
        "Every lane to its end; Ctrl-C ends what runs."
        lanes = [threading.Thread(target=self.lane, args=[name]) for name in self.lanes()]
        for each in lanes:
            each.start()
        try:
            for each in lanes:
                while each.is_alive():
                    each.join(0.2)
        except BaseException:
            self.stopped = True
            for event in self.over.values():
                event.set()
            for process in list(self.processes.values()):
                if process.poll() is None:
                    end(process)
            raise


def arguments(known: dict[str, Stage]) -> argparse.Namespace:
    "What was asked for on the command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(known), metavar="STAGE")
    parser.add_argument("--quick", action="store_true", help="what needs no engine and is fast")
    parser.add_argument("--prove", action="store_true", help="the long proofs, in groups")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    return parser.parse_args()


def surroundings(options: argparse.Namespace, names: list[str], empty: str) -> dict[str, str]:
    "The environment of the stages."
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    chosen = {
        *OWN_SERVER,
        *(f"QWEN_NPU_{name}" for name in ("URL", "HOST", "MACHINE", "YES")),
    }  # by whoever runs this, for themselves
    found = {name: value for name, value in os.environ.items() if name not in chosen}
    found |= {"PATH": path, "QWEN_NPU_LANG": "en"}  # the tests compare English
    if options.prove:
        OWN_SERVER.pop("QWEN_NPU_API_KEY")  # the proofs start servers with and without a key
    if options.quick:
        found["QWEN_NPU_HOME"] = empty  # so that nothing can lean on an engine that happens to be
    if "docs" in names:
        found["QWEN_NPU_DOCS"] = str(ROOT / "_docs")  # the tests look at what this stage builds
    return found


def main() -> int:  # exit code
    "Run the stages, stop the server, say how it went."
    known = {stage.name: stage for stage in [*proofs(), *stages()]}
    options = arguments(known)
    every = proofs() if options.prove else quick() if options.quick else stages()
    named = {stage.name: stage for stage in every}
    chosen = [named.get(name, known[name]) for name in options.only or named]
    if options.list:
        print(*(f"{stage.name:<15} {stage.what}" for stage in chosen), sep="\n")
        return 0
    names = [stage.name for stage in chosen]
    if options.prove and "server" not in names:
        chosen.insert(0, known["server"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped then too
    # A shell starts a background job with SIGINT ignored, and what is ignored stays so in every
    # child; what is handled becomes the default there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qwen-npu-quick-") as empty:
        run = Run(chosen, surroundings(options, names, empty))
        try:
            run.all()
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            return 130
        finally:
            if "server" in run.over and (BIN / "qwen-npu").exists():
                stop = [str(BIN / "qwen-npu"), "stop"]
                environment = run.surroundings(known["server"])
                subprocess.run(stop, cwd=ROOT, env=environment, capture_output=True)
    results = [run.results[stage.name] for stage in chosen]
    failed = sum(result.code != 0 for result in results)
    print(f"\nAll stages, {time.monotonic() - started:.0f} s:", *results, sep="\n")
    print(f"stages: {len(results) - failed} passed, {failed} failed")
    for result in results:
        if "pytest" in result.stage.command:
            print(f"{result.stage.name}: {result.last}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
