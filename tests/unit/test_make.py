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

import environment as venv
import pytest
import run_tests
from chapters import SUBJECTS
from nbdev.doclinks import nbglob
from patience import patient

from qwen_npu_tut.base.events import language

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


def make(project: Path, path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    "make with a PATH of its own, and no variable but those given."
    return subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={"PATH": str(path), "HOME": str(project), **more},
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
        and done.stdout.isascii()
    )


# ---- in Chinese, before anything of ours is installed

CHINESE = {"LANG": "zh_CN.UTF-8"}
HAN = re.compile("[\u3400-\u9fff]")


def lines(text: str) -> list[str]:
    "The lines of ours; make says itself that a recipe failed."
    return [each for each in text.splitlines() if each.strip() and "make" not in each[:8]]


def test_help_is_chinese_and_lists_the_same_commands(project, tools_path):
    english, chinese = (make(project, tools_path, **more).stdout for more in ({}, CHINESE))
    names = [re.findall(r"^  make ([a-z]+) +\S", each, re.M) for each in (english, chinese)]
    assert names[0] == names[1] and len(names[0]) > 10 and " ## " not in english + chinese
    assert all(map(HAN.search, chinese.splitlines()))


@pytest.mark.parametrize(
    "body, arguments, told",
    [
        ("exit 1", [], "uv python install 3.12"),
        ("exit 1", ["PYTHON=python9"], "PYTHON=python9"),
        (f'case "$2" in *ensurepip*) exit 1 ;; *) exec {REAL} "$@" ;; esac', [], "-venv"),
    ],
    ids=["no Python", "another Python", "no venv"],
)
def test_what_is_said_without_a_python_is_chinese(project, tools_path, body, arguments, told):
    python(tools_path, "python3", body)
    done = make(project, tools_path, "up", *arguments, **CHINESE)
    assert done.returncode != 0 and told in done.stderr
    assert lines(done.stderr) and all(map(HAN.search, lines(done.stderr)))


@pytest.mark.parametrize("goal", ["down", "clean"])
def test_what_make_says_itself_is_chinese(project, tools_path, goal):
    assert HAN.search(make(project, tools_path, goal, **CHINESE).stdout)


@pytest.mark.slow
def test_a_venv_that_fails_says_so_in_chinese(project):
    (project / "setup.py").write_text("raise SystemExit('broken')\n")
    more = {"env": {**os.environ, **CHINESE, "QWEN_NPU_LANG": ""}, "capture_output": True}
    done = subprocess.run(environment(project), text=True, **more)
    assert done.returncode == 1 and HAN.search(done.stderr.splitlines()[-1])
    assert done.stdout and all(map(HAN.search, done.stdout.splitlines()))


@pytest.mark.parametrize("name", venv.SENTENCES)
def test_a_sentence_of_the_script_has_both_languages(name):
    english, chinese = venv.SENTENCES[name]
    values = [sorted(re.findall(r"{(.*?)}", each)) for each in (english, chinese)]
    assert values[0] == values[1] and HAN.search(chinese) and english.isascii()


def wanted(script: str) -> list[tuple[str, str]]:
    "The two texts of each `said.sh` in a script."
    joined = re.sub(r"\\\n\s*", "", script)
    return re.findall(r'said\.sh "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"', joined)


@pytest.mark.parametrize("name", ["Makefile", "tools/environment.sh"])
def test_every_text_of_a_script_has_both_languages(name):
    script = (ROOT / name).read_text(encoding="utf8")
    pairs = wanted(script)
    assert len(pairs) == script.count('said.sh "') + script.count("said.sh \\\n") > 1
    for english, chinese in pairs:
        assert english.isascii() and HAN.search(chinese)
        values = [sorted(re.findall(r"\$\w+", each)) for each in (english, chinese)]
        assert values[0] == values[1]
    assert not re.search(r"\becho\b(?! \"== )", re.sub("#.*", "", script).replace("&& echo", ""))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        CHINESE,
        {"LANG": "en_US.UTF-8"},
        {"LANG": "zh_TW.UTF-8"},
        {"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"},
        {"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.utf8"},
        {"LC_MESSAGES": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"},
        {"LANG": "zh_CN.UTF-8", "QWEN_NPU_LANG": "en"},
        {"LANG": "C", "QWEN_NPU_LANG": "zh"},
        {"LANG": "en_US.UTF-8", "QWEN_NPU_LANG": "Chinese"},
        {"LANG": "zh_CN.UTF-8", "LC_ALL": ""},
    ],
    ids=str,
)
def test_the_scripts_choose_as_the_command_does(variables, monkeypatch):
    for name in ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LC_CTYPE", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ask = "import environment; print(environment.language())"
    commands = (["sh", "tools/said.sh", "en", "zh"], [sys.executable, "-c", ask])
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    answers = [subprocess.check_output(each, cwd=ROOT, env=env, text=True) for each in commands]
    assert answers == [language() + "\n"] * 2


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "zh_CN.GBK"}])
def test_a_terminal_without_utf_8_gets_english(variables):
    line = ["sh", str(ROOT / "tools/said.sh"), "en", "中"]
    assert subprocess.check_output(line, env={**os.environ, **CHINESE, **variables}) == b"en\n"


@pytest.mark.parametrize("encoding", ["ascii", "big5"])
def test_a_terminal_without_chinese_gets_english_of_python_too(project, encoding):
    more = {**CHINESE, "QWEN_NPU_LANG": "zh", "PYTHONIOENCODING": encoding}
    line, env = environment(project, "everything"), {**os.environ, **more}
    done = subprocess.run(line, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")


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


def test_ctrl_c_while_pip_is_put_there_says_one_sentence(project):
    "A terminal sends it to ensurepip as well, whose traceback is nothing to read."
    made = subprocess.Popen(
        environment(project), stdout=-1, stderr=-1, text=True, start_new_session=True
    )
    deadline = time.monotonic() + patient(60)
    while not (project / ".venv/.making").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(made.pid, signal.SIGINT)
    said = made.communicate()[1]
    assert (
        made.returncode == 130
        and said.split() == "Stopped; the same command begins .venv anew.".split()
    )


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
