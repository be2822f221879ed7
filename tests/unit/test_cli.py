"The command as a shell sees it: one sentence and an exit code for each thing that can be wrong."

import ast
import io
import json
import os
import re
import socket
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import machines

from qwen_npu_tut import walk
from qwen_npu_tut.base.events import table
from qwen_npu_tut.engine.findings import deep_findings
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.faces import cli
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host

COMMANDS = [
    "up",
    "down",
    "check",
    "plan",
    "install",
    "remove",
    "download",
    "verify",
    "serve",
    "status",
    "logs",
    "stop",
    "chat",
    "stack",
]


@pytest.fixture
def machine(monkeypatch):
    "Let the command see another machine than this one."

    def become(simulated=None, **differences):
        seen = replace(read_machine(simulated.host() if simulated else Host()), **differences)
        monkeypatch.setattr(walk, "read_machine", lambda host: seen)

    return become


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert [name for name in COMMANDS if f"  {name} " not in out] == []


@pytest.mark.parametrize(
    "words",
    [
        ("chek",),
        ("up", "--prot", "1"),
        ("plan", "--format", "xml"),
        ("check", "--stack", "cann-1"),
        ("serve", "--port", "70000"),
    ],
)
def test_wrong_usage_is_2_and_says_what_to_do(run, words):
    code, out, err = run(*words)
    assert (code, out) == (2, "") and len(err.strip().splitlines()) >= 2


@pytest.mark.parametrize(
    "differences, sentence",
    [
        (dict(system="Darwin"), "SGLang serves on Linux"),
        (dict(python="3.13", makers={}), "Python 3.11 or 3.12 is needed"),
        (dict(glibc="2.28"), "glibc 2.34 or newer is needed"),
        (dict(architecture="riscv64"), "has packages for x86_64 and aarch64"),
        (dict(disk_bytes=1_000_000_000), "QWEN_NPU_HOME"),
    ],
)
def test_up_refuses_an_unfit_machine_before_it_writes(
    run, machine, tmp_path, differences, sentence
):
    machine(npus=(), **differences)
    code, _, err = run("up", "--port", "0")
    assert code == 1 and sentence in err and "Traceback" not in err
    assert not (tmp_path / "home").exists()


def test_up_refuses_what_could_not_be_served_before_it_installs(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusals = [
            run("up", "--stack", "cpu", "--port", str(port)),
            run("up", "--stack", "cpu", "--port", "0", "--model", str(tmp_path / "model")),
        ]
    assert [code for code, *_ in refusals] == [1, 1]
    assert (
        f"Port {port} is taken by process {os.getpid()}" in refusals[0][2]
        and "tokenizer.json: It is missing" in refusals[1][2]
    )
    assert not (tmp_path / "home").exists()


def test_on_an_npu_a_model_of_unknown_size_is_asked_for(run, machine, monkeypatch):
    machine(machines.A2)
    monkeypatch.setattr(walk, "planned", lambda choice: [])  # an engine that is whole
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, out, _ = run("up", "--stack", "cann-9.0", "--port", "0", "--model", "somebody/some-model")
    assert (
        code == 130
        and "have not been run on an NPU" in out
        and "its hub tells how large it is" in out
    )  # nobody said yes


def test_errors_are_json_where_json_was_asked_for(run):
    code, out, err = run("stack", "show", "cann-1", "--json")
    assert (code, err) == (2, "") and set(json.loads(out)["error"]) == {"what", "fix"}


def test_check_reports_this_machine(run, machine):
    machine(replace(machines.A2, container=True, nodes=False))
    code, out, _ = run("check", "--json")
    report = json.loads(out)
    assert code == 1 and report["stack"] == "cann-9.0"
    assert [each["id"] for each in report["findings"] if each["level"] == "block"] == [
        "device-nodes"
    ]
    assert all(each["fix"] for each in report["findings"] if each["level"] != "ok")


def test_plan_touches_nothing(run, tmp_path):
    code, out, _ = run("plan", "--stack", "cpu", "--format", "json")
    steps = json.loads(out)
    assert code == 0 and [step["name"] for step in steps] == [
        "environment",
        "torch",
        "packages",
        "plugin",
    ]
    assert not any(step["done"] for step in steps) and not (tmp_path / "home").exists()


def test_the_guide_is_refused_with_its_reason(run, machine):
    machine(npus=("A2",))
    code, _, err = run("install", "--stack", "guide")
    assert code == 1 and "CUDA build" in err and "cann-8.2" in err


def test_nothing_runs_and_nothing_is_there(run):
    assert run("status")[0] == 1
    assert run("stop")[1].strip() == "No server was running."
    assert run("logs")[0] == 1
    assert "qwen-npu up" in run("chat", "hello")[2]
    assert run("remove", "--yes", "--stack", "cpu")[0] == 1


def test_a_folder_that_is_no_model(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, _ = run("verify", str(tmp_path / "empty"), "--json")
    assert (
        code == 1
        and json.loads(out)["whole"] is False
        and "config.json" in json.loads(out)["missing"]
    )


def test_settings_file_with_a_typing_error(run, tmp_path):
    (tmp_path / "qwen-npu.toml").write_text("prot = 31000\n")
    code, _, err = run("status")
    assert code == 2 and "'prot'" in err and "Known settings" in err


def test_control_c_is_130(monkeypatch, run):
    def interrupted(*host, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr(walk, "choose", interrupted)
    code, out, err = run("plan")
    assert (code, out) == (130, "") and err.startswith("Stopped.\n")
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    assert run("plan")[2].startswith("已停止。\n")


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ("stack", "list"),
        ("stack", "show", "cpu", "--json"),
        ("chek", "--json"),
        ("check", "--machine", "nosuch", "--json"),
        ("check", "--machine", "nosuch"),
    ],
)
def test_a_reader_that_goes_away_is_no_traceback(words, buffered):
    "A short output lies in Python's buffer until the exit; without one it meets the pipe at once."
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    reader, writer = os.pipe()
    os.close(reader)
    both = "--json" not in words  # without it an error goes to stderr
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from qwen_npu_tut.faces.cli import main; main()", *words],
            env=environment,
            stdout=writer,
            stderr=writer if both else subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, None if both else b"")


# ---- commands.toml and phrases.toml, and the code that names their rows: neither without the other
HELPS = table("commands.toml")
PROGRAMS = {name for name in HELPS if name.startswith("qwen-npu")}  # and their commands
GIVEN = {name: row for name, row in HELPS.items() if name not in PROGRAMS}
EVENTS, WORDS = (table("phrases.toml")[name] for name in ("event", "word"))
PHRASES = {
    name: row for name, row in table("phrases.toml").items() if name not in ("event", "word")
}
TREES = [
    ast.parse(path.read_text(encoding="utf8"))
    for path in sorted(Path(walk.__file__).parent.rglob("*.py"))
]


def calls_of(name: str, trees=TREES) -> list[ast.Call]:
    "The calls of a function by its plain name."
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [each for each in calls if getattr(each.func, "id", "") == name]


def texts(node: ast.expr) -> set[str]:
    "The texts that an expression can be, as far as they stand in it."
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    if isinstance(node, ast.JoinedStr):  # a name of which a part is a value: every row that fits
        parts = [getattr(each, "value", "") for each in node.values]
        form = ".+".join(re.escape(each) if isinstance(each, str) else "" for each in parts)
        return {row for row in PHRASES if re.fullmatch(form.replace(".+.+", ".+"), row)}
    return {node.value} if isinstance(node, ast.Constant) else set()


def assigned(function: ast.FunctionDef, name: str) -> set[str]:
    "The texts that a function assigns to a name."
    found = set()
    for node in (each for each in ast.walk(function) if isinstance(each, ast.Assign)):
        targets = getattr(node.targets[0], "elts", node.targets)
        values = getattr(node.value, "elts", [node.value])
        for target, value in zip(targets, values):
            found |= texts(value) if getattr(target, "id", "") == name else set()
    return found


def phrases() -> list[tuple[str, set[str], set[str]]]:
    "Each call of `phrase`: how it is written, the rows that it may name, the values it gives."
    found = []
    for function in (node for tree in TREES for node in ast.walk(tree)):
        if isinstance(function, ast.FunctionDef):
            for call in calls_of("phrase", [function]):
                (named,) = call.args
                rows = texts(named) or assigned(function, getattr(named, "id", ""))
                if isinstance(named, ast.JoinedStr):
                    rows = {row for row in PHRASES if row.startswith(named.values[0].value)}
                found.append((ast.unparse(call), rows, {each.arg for each in call.keywords}))
    return found


def fields(text: str) -> set[str]:
    names = [name for _, name, _, _ in string.Formatter().parse(text) if name]
    return {re.split(r"[.\[]", name)[0] for name in names}


def test_every_option_has_its_row_and_every_row_is_used():
    named = [text for call in calls_of("_given") for each in call.args[1:] for text in texts(each)]
    assert sorted(named) == sorted(GIVEN)
    helped = [text for call in calls_of("_help") for text in texts(call.args[0])]
    entered = [text for call in calls_of("_command") for text in texts(call.args[0])]
    assert {*helped, *(f"qwen-npu {name}" for name in entered)} == PROGRAMS


def test_what_the_commands_take_is_what_the_rows_say():
    taken = set()
    for command in cli.app.registered_commands + cli.stack_app.registered_commands:
        for hint in command.callback.__annotations__.values():
            for each in getattr(hint, "__metadata__", ()):
                flags = (each.default, *each.param_decls) if each.default is not ... else ()
                taken.add((flags, each.help))
    rows = {(tuple(row.get("flags", ())), row["help"]["en"]) for row in GIVEN.values()}
    assert taken == rows


@pytest.mark.parametrize("call, rows, values", phrases())
def test_a_phrase_that_is_named_is_there_and_gets_its_values(call, rows, values):
    assert rows and rows <= PHRASES.keys()
    assert values == set().union(*(fields(PHRASES[row]["en"]) for row in rows))


def test_every_phrase_is_named_by_somebody():
    assert set().union(*(rows for _, rows, _ in phrases())) == PHRASES.keys()


def test_the_lines_that_stay_are_of_events_that_somebody_tells():
    told = {text for call in calls_of("Event") if call.args for text in texts(call.args[0])}
    assert EVENTS.keys() <= told


@pytest.mark.parametrize(
    "rows", [EVENTS, WORDS, PHRASES, {name: row["help"] for name, row in HELPS.items()}]
)
def test_both_languages_want_the_same_values(rows):
    for name, row in rows.items():
        assert row.keys() == {"en", "zh"} and row["en"] and row["zh"], name
        assert fields(row["zh"]) == fields(row["en"]), name


# An emulated NPU says of itself what it is


def test_remove_counts_what_goes_and_names_what_is_shared(run, tmp_path, monkeypatch):
    site = "env/lib/python3.11/site-packages"
    here, there = (tmp_path / "home" / "stacks" / name / site for name in ("emulated", "cpu"))
    for each in (here, there):
        each.mkdir(parents=True)
    (there / "shared.bin").write_bytes(os.urandom(40_000_000))
    os.link(there / "shared.bin", here / "shared.bin")
    (here / "own.bin").write_bytes(os.urandom(20_000_000))
    os.sync()
    code, out, _ = run("remove", "--yes", "--stack", "emulated")
    freed = float(re.search(r"([\d.]+) MB freed", out)[1])
    assert code == 0 and 20 <= freed < 21 and "40.0 MB of it are files that another folder" in out
    assert (there / "shared.bin").stat().st_size == 40_000_000 and not here.exists()
    code, out, _ = run("remove", "--yes", "--stack", "cpu")
    freed = float(re.search(r"([\d.]+) MB freed", out)[1])
    assert code == 0 and 40 <= freed < 41 and "another folder" not in out


def test_lists_and_shows_say_emulated(run):
    listed = {each["name"]: each for each in json.loads(run("stack", "list", "--json")[1])}
    for name in ("emulated", "emulated-guide"):
        assert "emulated" in listed[name]["title"] and "emulated" in listed[name]["proved"]
        rows = run("stack", "show", name)[1].splitlines()[2:][: len(stacks()[name].pins)]
        assert [row.split()[2] for row in rows] == ["emulated"] * len(stacks()[name].pins)


def test_a_check_for_an_emulated_stack_says_so(run):
    code, out, _ = run("check", "--stack", "emulated", "--json")
    found = {each["id"]: each for each in json.loads(out)["findings"]}
    assert found["emulated"]["level"] == "warn" and "emulated" in found["emulated"]["what"]
    assert "nothing of a real NPU" in found["emulated"]["what"] and found["stack"]["level"] == "ok"
    plain = json.loads(run("check", "--stack", "cpu", "--json")[1])["findings"]
    assert "emulated" not in {each["id"] for each in plain}


@pytest.mark.parametrize(
    "stack, said, level",
    [
        ("emulated", "Ascend910B3 (emulated)", "ok"),
        ("emulated", "Ascend910B3", "block"),
        ("cann-9.0", "Ascend910B3", "ok"),
        ("cann-9.0", "Ascend910B3 (emulated)", "block"),
        ("cpu", "the processor, torch 2.14.1", "ok"),
    ],
)
def test_an_emulated_device_never_passes_for_a_real_one(stack, said, level):
    seen = replace(read_machine(machines.A2.host()), probe=f"probe ok: {said}\n")
    (found,) = deep_findings(seen, stacks()[stack])
    assert (found.id, found.level) == ("torch" if stack == "cpu" else "torch_npu", level)
    if level == "ok":
        assert said in found.what
