"""A plan that is killed, doubled and lied to.

It finishes on the next call, and nothing half-done passes for whole.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from patience import patient

from qwen_npu_tut.base.events import Event, Problem
from qwen_npu_tut.engine import cpu
from qwen_npu_tut.engine.cpu import device_step, linked_steps, lock_rows, plugin_step
from qwen_npu_tut.engine.plan import FileDone, PackagesDone, Step, open_steps, run_plan
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine, origin_of, stack_folder
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.engine.environment import environment_step

WORK = """import sys, time
print('at work', flush=True)
time.sleep(float(sys.argv[2]))
open(sys.argv[1], 'w').write('done')
"""
RUN = """
    import os, sys
    from pathlib import Path
    from qwen_npu_tut.engine.plan import FileDone, Step, run_plan
    line = (sys.executable, "-c", sys.argv[3], sys.argv[1], sys.argv[2])
    step = Step("work", "to be killed", line, FileDone(Path(sys.argv[1]), "done"))
    run_plan([step], os.environ, lambda event: print(event.kind, event.text, flush=True))
"""


def runner(result: Path, seconds: float) -> subprocess.Popen:
    "A process that runs a plan of one step, which takes some seconds."
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), str(result), str(seconds), WORK],
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen, word: str) -> str:
    "The first line of a process's output that has a word."
    return next(line for line in process.stdout if word in line)


def test_killed_between_two_instructions_and_finished_by_the_next_run(private_home, tmp_path):
    first = runner(tmp_path / "result", 60)
    wait_for(first, "at work")
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "result").exists()
    for child in children:
        # What the killed run left at work would take its minute; that it is waited for is below.
        child.kill()
    second = runner(tmp_path / "result", 0)
    assert second.wait(patient(30)) == 0 and (tmp_path / "result").read_text() == "done"


def test_a_step_that_outlives_its_killed_run_is_waited_for(private_home, tmp_path):
    first = runner(tmp_path / "result", 1.5)
    wait_for(first, "at work")
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = runner(tmp_path / "result", 0)
    said = second.communicate(timeout=patient(30))[0]
    assert "waiting" in said and "skipped" in said, (
        said
    )  # the orphan did the work, nobody did it twice


def test_two_at_once_do_the_work_once(private_home, tmp_path):
    both = [runner(tmp_path / "result", 0.5) for _ in range(2)]
    said = "".join(each.communicate(timeout=patient(30))[0] for each in both)
    assert [each.returncode for each in both] == [0, 0]
    assert said.count("begun") == 1 and said.count("waiting") == 1 and said.count("skipped") == 1


def test_control_c_ends_the_step_too(private_home, tmp_path):
    first = runner(tmp_path / "result", 60)
    wait_for(first, "at work")
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    assert first.wait(patient(10)) != 0
    assert children and psutil.wait_procs(children, timeout=patient(5))[1] == []


def test_packages_of_an_interrupted_pip_are_cleared_away(private_home, tmp_path):
    """A wheel installed by the real pip, then robbed of its RECORD as a kill does.

    The next run installs it again."""
    wheel = make_wheel(tmp_path, "sample", "1.0")
    site = tmp_path / "site"
    command = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    )
    step = Step("packages", "a test", command, PackagesDone(site, {"sample": "1.0"}))
    run_plan([step], os.environ)
    assert step.done.gap() == ""
    (site / "sample-1.0.dist-info" / "RECORD").unlink()
    assert "sample 1.0" in step.done.gap()
    run_plan([step], os.environ)
    assert step.done.gap() == "" and (site / "sample.py").is_file()


@pytest.mark.parametrize("name", ["ruamel..yaml__x", "Ruamel.Yaml-X", "ruamel-yaml-x"])
def test_a_name_is_found_however_it_is_spelled(tmp_path, name):
    "A run of separators is one (packaging.python.org, name normalization)."
    about = tmp_path / "ruamel..yaml__x-1.0.dist-info"
    about.mkdir()
    (about / "RECORD").write_text("")
    assert PackagesDone(tmp_path, {name: "1.0"}).gap() == ""
    assert "has to go" in PackagesDone(tmp_path, {}, (name,)).gap()


def make_wheel(folder: Path, name: str, version: str) -> Path:
    "A wheel of one module, made by hand."
    import zipfile

    file = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{about}/RECORD", "")
    return file


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "file" / "home"))
    step = Step("any", "a test", (sys.executable, "-c", ""), FileDone(tmp_path / "never"))
    with pytest.raises(Problem, match="Nothing can be written below"):
        run_plan([step], os.environ)


def test_a_failed_step_names_its_log_and_its_last_lines(private_home, tmp_path):
    events: list[Event] = []
    step = Step(
        "broken build",
        "a test",
        (sys.executable, "-c", "print('error: no compiler'); raise SystemExit(2)"),
        FileDone(tmp_path / "never"),
    )
    with pytest.raises(Problem) as raised:
        run_plan([step], os.environ, events.append)
    assert (
        "exit code 2" in raised.value.what
        and "error: no compiler" in raised.value.fix
        and "install-broken-build.log" in raised.value.fix
    )
    assert events[-1].kind == "failed"


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch=="])
def test_a_lock_has_exact_versions_only(tmp_path, line):
    hashes = f"--hash=sha256:{'0' * 64}"
    (tmp_path / "lock.txt").write_text(f"# made by hand\nnumpy==2.0 {hashes}\n{line} {hashes}\n")
    with pytest.raises(Problem, match="no exact version"):
        lock_rows(tmp_path / "lock.txt")


def test_a_failed_step_names_its_known_cause(private_home, tmp_path):
    "And not the one of an earlier run, which stands in the same log."

    def failing(said: str) -> Step:
        return Step(
            "work",
            "to fail",
            (sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"),
            FileDone(tmp_path / "never"),
        )

    with pytest.raises(Problem) as first:
        missing = "libatb.so: cannot open shared object file: No such file or directory"
        run_plan([failing(f"ImportError: {missing}")], os.environ)
    assert "NNAL" in first.value.fix and "Its last lines:" in first.value.fix
    with pytest.raises(Problem) as second:
        run_plan([failing("something that nobody knows")], os.environ)
    assert "NNAL" not in second.value.fix and "something that nobody knows" in second.value.fix


# An engine that shares the files of another one


@pytest.fixture
def linking(private_home):
    """The emulated stack's engine beside a small engine of the stack `cpu`: steps that make both.

    The packages are a few files; the environments, the links and the plugins are the real ones."""
    engine = Engine(read_machine(Host()), stacks()["emulated"])
    site, about = origin_of(engine).site, origin_of(engine).site / "one-1.0.dist-info"
    files = (site / "one.py", site / "two" / "x.py", about / "RECORD")
    script = "import pathlib, sys\nfor each in map(pathlib.Path, sys.argv[1:]):\n"
    script += "    each.parent.mkdir(parents=True, exist_ok=True)\n    each.touch()"
    laying = (sys.executable, "-c", script, *map(str, files))
    python = origin_of(engine).python
    making = (sys.executable, "-m", "venv", "--without-pip", str(python.parents[1]))
    own = [
        Step("environment", "a test", making, FileDone(python)),
        Step("packages", "a test", laying, PackagesDone(site, {"one": "1.0"})),
        plugin_step(origin_of(engine)),
    ]
    return engine, [*linked_steps(engine, own), plugin_step(engine)]


def with_environment(engine: Engine, steps: list[Step]) -> list[Step]:
    "Where `installation` has it: before the links."
    *others, linking, plugin = steps
    return [*others, environment_step(engine), linking, plugin]


def importable(engine: Engine) -> subprocess.CompletedProcess:
    "What the engine's own interpreter finds, and that it has no pip but a linked one."
    asking = """import importlib.metadata as meta, one, sys
print(one.__file__.startswith(sys.prefix), sorted(
    each.name for group in ("sglang.srt.platforms", "torch.backends")
    for each in meta.entry_points(group=group)))"""
    line = [str(engine.python), "-I", "-c", asking]
    return subprocess.run(line, capture_output=True, text=True)


BOTH = "True ['qwen_npu_cpu', 'qwen_npu_emulated']\n"


@pytest.mark.parametrize("gone", ["cpu", "emulated"])
def test_either_of_two_engines_that_share_files_stays_whole(linking, gone):
    engine, steps = linking
    steps = with_environment(engine, steps)
    run_plan(steps, os.environ)
    assert open_steps(steps) == []
    assert (engine.site / "one.py").samefile(origin_of(engine).site / "one.py")
    plugins = [each.site / "qwen_npu_tut" / "__init__.py" for each in (engine, origin_of(engine))]
    assert not plugins[0].samefile(plugins[1])
    shutil.rmtree(stack_folder(gone))
    if gone == "cpu":  # and nobody installs it again for the other's sake
        assert open_steps(steps) == [] and importable(engine).stdout == BOTH
    else:
        assert importable(origin_of(engine)).stdout == "True ['qwen_npu_cpu']\n"
        assert [each.name for each in open_steps(steps)] == ["environment", "linked", "plugin"]
        run_plan(steps, os.environ)
        assert importable(engine).stdout == BOTH


def test_links_that_were_interrupted_are_made_by_the_next_run(linking):
    engine, steps = linking
    steps = with_environment(engine, steps)
    run_plan(steps, os.environ)
    (engine.site / "one-1.0.dist-info" / "RECORD").unlink()
    (engine.site / "one.py").unlink()
    assert [each.name for each in open_steps(steps)] == ["linked"]
    run_plan(steps, os.environ)
    assert importable(engine).stdout == BOTH
    assert (origin_of(engine).site / "one-1.0.dist-info" / "RECORD").is_file()


def test_the_emulation_is_in_the_emulated_engines_alone(private_home):
    machine = read_machine(Host())
    for name, stack in stacks().items():
        if stack.needs_npu:
            continue
        record, entries = plugin_step(Engine(machine, stack)).command[-1::-2][:2]
        files = [line.split(",")[0] for line in record.splitlines()]
        mine = [each for each in files if each.startswith("qwen_npu_tut/rehearsal/emulated/")]
        assert bool(mine) == ("qwen_npu_tut/devices.toml" in files) == stack.emulated, name
        assert not [each for each in files if "__pycache__" in each]
        if stack.emulated:
            ends = {Path(each).suffix for each in mine}
            assert {".py", ".cpp", ".toml"} == ends and mine[0].endswith("/__init__.py")


def test_the_device_is_built_again_for_another_torch_or_source(private_home, monkeypatch, tmp_path):
    engine = Engine(read_machine(Host()), stacks()["emulated"])
    texts = {device_step(engine).done.command[-1]}
    pins = engine.stack.pins
    newer = replace(pins["torch"], version="2.15.0")
    stack = replace(engine.stack, pins=pins | {"torch": newer})
    texts.add(device_step(replace(engine, stack=stack)).done.command[-1])
    other = tmp_path / "build_device.py"
    other.write_text("another")
    monkeypatch.setattr(cpu, "program", lambda name: other)
    texts.add(device_step(engine).done.command[-1])
    assert len(texts) == 3 and all(text.startswith("torch 2.1") for text in texts)
