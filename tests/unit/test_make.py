"""`make` finds a Python that fits, says what to do where there is none, and repairs what an
interrupted run left."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run_tests
from chapters import SUBJECTS
from nbdev.doclinks import nbglob
from patience import patient

ROOT = Path(__file__).resolve().parents[2]
REAL = getattr(sys, "_base_executable", None) or sys.executable

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("make"), reason="needs make and a POSIX shell"
)


@pytest.fixture
def project(tmp_path):
    """A copy of what `make` needs, with a package that has no requirements: pip has nothing to
    download."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "tools", copy / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    (copy / "settings.ini").write_text("[DEFAULT]\nlib_name = nothing\n")
    (copy / "setup.py").write_text(
        'from setuptools import setup\nsetup(name="nothing", version="1", packages=[], '
        'extras_require={"dev": []})\n'
    )
    return copy


@pytest.fixture
def tools_path(tmp_path):
    "A PATH with the shell's tools and no Python."
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (
        "sh",
        "make",
        "uname",
        "dirname",
        "sed",
        "expand",
        "id",
        "rm",
        "find",
        "echo",
        "env",
        "cat",
    ):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def python(folder: Path, name: str, body: str):
    "A command that stands for a Python."
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def make(project: Path, path: Path, *arguments: str) -> subprocess.CompletedProcess:
    "make with a PATH of its own."
    return subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={"PATH": str(path), "HOME": str(project)},
        capture_output=True,
        text=True,
    )


def environment(project: Path, part: str = "package") -> list[str]:
    "The command that makes .venv."
    return [REAL, str(project / "tools/environment.py"), part]


def test_no_python_at_all(project, tools_path):
    done = make(project, tools_path, "up")
    assert done.returncode != 0
    assert (
        "Python 3.11 or 3.12 is needed" in done.stderr and "uv python install 3.12" in done.stderr
    )
    assert "Traceback" not in done.stderr and not (project / ".venv").exists()


def test_shims_that_only_print_an_error(project, tools_path):
    for name in ("python3.12", "python3.11", "python3"):
        python(tools_path, name, f'echo "pyenv: {name}: command not found" >&2; exit 127')
    done = make(project, tools_path, "up")
    assert (
        done.returncode != 0
        and "Python 3.11 or 3.12 is needed" in done.stderr
        and "pyenv" not in done.stderr
    )


def test_another_python_only(project, tools_path):
    python(
        tools_path, "python3", "exit 1"
    )  # what the question for the version answers on 3.9 or 3.13
    done = make(project, tools_path, "up")
    assert done.returncode != 0 and "Python 3.11 or 3.12 is needed" in done.stderr


def test_the_named_python_does_not_fit(project, tools_path):
    done = make(project, tools_path, "up", "PYTHON=python9")
    assert done.returncode != 0 and "PYTHON=python9" in done.stderr


def test_python_without_venv(project, tools_path):
    python(
        tools_path, "python3", f'case "$2" in *ensurepip*) exit 1 ;; *) exec {REAL} "$@" ;; esac'
    )
    done = make(project, tools_path, "up")
    version = "%d.%d" % sys.version_info[:2]
    assert done.returncode != 0 and f"apt-get install python{version}-venv" in done.stderr


def test_help_needs_no_python(project, tools_path):
    done = make(project, tools_path)
    assert (
        done.returncode == 0
        and re.search(r"make up +\S", done.stdout)
        and "make test" in done.stdout
    )


@pytest.mark.slow
def test_killed_then_made_by_two_at_once(project):
    killed = subprocess.Popen(
        environment(project), stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + patient(60)
    while not (project / ".venv/.making").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (project / ".venv/.package").exists(), "nothing half-made may be taken for whole"
    both = [
        subprocess.Popen(environment(project), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert (
        sum("made anew" in text for text in said) == 1
        and sum("is ready" in text for text in said) == 1
    )
    again = subprocess.run(environment(project), capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, ""), "what is whole is left alone"
    assert subprocess.run([project / ".venv/bin/python", "-c", "import pip"]).returncode == 0


def test_wrong_usage(project):
    done = subprocess.run(environment(project, "everything"), capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr


# SIGINT ignored, as a shell starts a background job
IN_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable]
ASLEEP = "import time; print('asleep', flush=True); time.sleep(60)"
STAGES = """
import sys
import run_tests
stage = run_tests.Stage("sleep", "a minute", [sys.executable, "-c", sys.argv.pop()])
run_tests.stages, run_tests.proofs = lambda: [stage], list
sys.exit(run_tests.main())
"""


@pytest.mark.slow
def test_ctrl_c_reaches_what_the_tests_start_in_the_background():
    one = "tests/unit/test_plan.py::test_control_c_ends_the_step_too"
    pytest_in_background = [*IN_BACKGROUND, "-m", "pytest", "-q", "-p", "no:cacheprovider", one]
    done = subprocess.run(pytest_in_background, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ctrl_c_ends_the_stages_in_the_background():
    "The stage ends by the signal itself; it would be killed only ten seconds later."
    with subprocess.Popen(
        [*IN_BACKGROUND, "-c", STAGES, ASLEEP],
        cwd=ROOT / "tools",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as stages:
        assert "asleep\n" in stages.stdout
        stages.send_signal(signal.SIGINT)
        try:
            assert (stages.wait(8), stages.stderr.read()) == (130, "\nStopped.\n")
        finally:
            stages.kill()


def chosen_by(stage: run_tests.Stage) -> list[str]:
    "The notebooks that a stage of pages runs."
    words = stage.command[stage.command.index("1") + 1 :]
    options = {word.lstrip("-"): value for word, value in zip(words[::2], words[1::2])}
    options.pop("flags", None)
    nbs = ROOT / options.pop("path", "nbs")
    return [str(path.relative_to(ROOT)) for path in nbglob(nbs, as_path=True, **options)]


def test_every_page_is_run_once_and_the_chapters_in_both_lanes():
    "nbdev_test passes where nothing is chosen; so a stage must name what is there."
    found = {
        stage.name: chosen_by(stage)
        for stage in run_tests.stages()
        if Path(stage.command[0]).name == "nbdev_test"
    }
    assert all(found.values()) and len(found) == 7
    chapters = [Path(page).stem for page in found.pop("recorded")]
    assert sorted(chapters) == sorted(SUBJECTS)  # each runs in two lanes
    ours = nbglob(ROOT / "nbs", as_path=True, skip_folder_re=run_tests.MADE[1])
    known = [str(path.relative_to(ROOT)) for path in ours]
    once = sorted(page for pages in found.values() for page in pages)
    elsewhere = {"nbs/rehearsal/guide.ipynb", *(["nbs/06_call.ipynb"] * bool(run_tests.ONCE))}
    assert once == sorted({*known} - elsewhere)
    assert all("/emulated/" in page for page in found["native pages"] + found["mapped pages"])


def test_every_group_of_proofs_names_what_is_there():
    for name, (_, words) in run_tests.PROOFS.items():
        files = [word for word in words if word.endswith(".py")]
        assert files, name
        for word in files:
            place = ROOT / ("tests/prove" if word.startswith("prove_") else "") / word
            assert place.is_file(), f"{name}: {word}"
