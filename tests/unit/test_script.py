"A plan as a bash script: clean by shellcheck, and it does what the plan does."

import os
import subprocess
import sys

import machines
import pytest
from shellcheck import SHELLCHECK, needs_shellcheck
from standins import installed

from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.engine.plan import FileDone, Step, run_plan, script_text
from qwen_npu_tut.engine.stacks import stacks

CANN = {"ASCEND_HOME_PATH": "/usr/local/Ascend/a b", "LD_LIBRARY_PATH": "/cann/lib64"}


@needs_shellcheck
@pytest.mark.parametrize(
    "series, name", [("A2", "cann-8.2"), ("A3", "cann-8.5"), ("A2", "cann-9.0"), ("", "cpu")]
)
def test_shellcheck_has_nothing_to_say(series, name, monkeypatch, tmp_path):
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "a home 昇腾 'quoted' $HOME"))
    machine = read_machine(
        (
            machines.A3
            if series == "A3"
            else machines.A2
            if series
            else machines.MACHINES["none"][0]
        ).host()
    )
    steps = installed(machine, stacks()[name], environment=CANN)
    text = script_text(steps, f"The engine of the stack {name}")
    (tmp_path / "plan.sh").write_text(text)
    checked = subprocess.run(
        [SHELLCHECK, str(tmp_path / "plan.sh")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    assert text.count("# The guide: ") >= 3 and "set -euo pipefail" in text


def test_nothing_of_a_user_is_taken_for_shell(tmp_path):
    evil = tmp_path / "$(touch pwned); `touch pwned` 'x' \"y\""
    steps = [
        Step(
            "a $(touch pwned) name\nand `more`",
            "why; touch pwned\n touch pwned",
            ("mkdir", "-p", str(evil)),
            FileDone(evil / "file"),
        ),
    ]
    subprocess.run(
        ["bash", "-c", script_text(steps, "title\ntouch pwned")], cwd=tmp_path, capture_output=True
    )
    assert evil.is_dir() and not (tmp_path / "pwned").exists()


def test_the_script_and_the_plan_take_each_others_place(private_home, tmp_path):
    def steps():
        return [
            Step(
                name,
                "A file.",
                (
                    sys.executable,
                    "-c",
                    "import sys; open(sys.argv[1], 'w').write('done')",
                    str(tmp_path / name),
                ),
                FileDone(tmp_path / name, "done"),
            )
            for name in ("one", "two")
        ]

    run_plan(steps()[:1], os.environ)
    done = subprocess.run(
        ["bash", "-c", script_text(steps(), "Two files.")], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines() == ["one: done", "two: to do"]
    events = []
    run_plan(steps(), os.environ, lambda event: events.append(event.kind))
    assert events == ["skipped", "skipped"]


def test_no_key_of_ours_stands_in_a_plan(monkeypatch):
    "The environment of an NPU's steps is ours with CANN's variables in it."
    monkeypatch.setenv("SOME_API_KEY", "hunter2")
    machine, environment = read_machine(machines.A2.host()), {**os.environ, **CANN}
    steps = installed(machine, stacks()["cann-8.2"], environment=environment)
    assert any("hunter2" in step.environment.values() for step in steps)  # it is there to be found
    assert "hunter2" not in script_text(steps, "") and "hunter2" not in str(
        [step.asdict() for step in steps]
    )
    assert "/cann/lib64" in script_text(steps, "")
