"""SGLang's path for NPUs on the stack `emulated`, from `up` to a reply, and what must not happen.

The server is one of its own, on a free port; it has the name that chapter 05 gives to its server,
so that the chapter's cell for an NPU, which is run last, finds it as it does in the chapter. What
it answers is compared with what the CPU engine answered (replies.json, made by
tests/support/thirty.py)."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import thirty
from run_notebooks import REHEARSED, directives

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.server.client import endpoint_of
from qwen_npu_tut.contract import QUESTIONS, contract, server_facts
from qwen_npu_tut.engine.advisories import flags_of
from qwen_npu_tut.engine.plan import open_steps
from qwen_npu_tut.engine.stacks import fitting_stack, stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.launch import launch
from qwen_npu_tut.walk import choose, planned, serving

ROOT = Path(__file__).resolve().parents[2]
NBS, MACHINES = ROOT / "nbs", ROOT / "qwen_npu_tut" / "machines"
COMMAND = str(Path(sys.executable).with_name("qwen-npu"))
NAME, MODEL = "chapter-05", "teaching-qwen3-emulated-npu"
OURS = {
    "QWEN_NPU_SERVER": NAME,
    "QWEN_NPU_PORT": "0",
    "QWEN_NPU_STACK": "emulated",
    "QWEN_NPU_MODEL": "qwen-npu-tut/teaching-qwen3",
    "QWEN_NPU_API_KEY": os.environ.get("QWEN_NPU_API_KEY", "sk-test"),
}
EMULATED = Engine(read_machine(Host()), stacks()["emulated"])
ASCEND = ("torch_npu", "torchair", "sgl_kernel_npu", "acl")


def command(*words: str) -> subprocess.CompletedProcess:
    "`qwen-npu` with the emulated stack and this server."
    environment = {**os.environ, **OURS}
    return subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def up():
    "What `qwen-npu up --stack emulated` printed; the server stays until these tests are over."
    try:
        done = command("up", "--yes")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield done.stdout
    finally:
        command("stop")


@pytest.fixture(scope="module")
def server(up):
    return serve.find(NAME)


@pytest.fixture(scope="module")
def service(server):
    return endpoint_of(server)


@pytest.mark.timeout(900)
def test_up_ends_with_a_reply(up):
    chat = next(line for line in up.splitlines() if "] chat" in line)
    assert "你好！ → 你好！我是本指南的教学模型" in chat
    assert f"as {MODEL}" in up and "no NPU" in up


def test_it_says_that_it_is_emulated_and_takes_the_path_for_npus(server, service):
    assert service.openai.models.list().data[0].id == server.model_name == MODEL
    facts = server_facts(service)
    assert facts["version"] == EMULATED.stack.version("sglang")
    told = [facts[name] for name in ("device", "attention_backend", "page_size")]
    assert told == ["npu", "ascend", 128]
    assert "Capture target decode NPU graph end" in Path(server.log).read_text("utf8", "replace")
    told = json.loads(command("status", "--json").stdout)
    assert (told["state"], told["model"]) == ("running", MODEL)


def test_the_replies_are_the_cpu_engines(server, service):
    recorded = json.loads(thirty.RECORDED.read_text(encoding="utf8"))
    assert len(recorded) == len(thirty.REQUESTS) == 30
    assert not thirty.differing(thirty.answers(service), recorded)
    assert "npu graph: True" in Path(server.log).read_text("utf8", "replace")


def test_pages_of_128_tokens_are_found_again(service):
    def cached(text: str) -> int:
        body = {"text": text, "sampling_params": {"max_new_tokens": 1, "temperature": 0}}
        return service.http.post("/generate", json=body).json()["meta_info"]["cached_tokens"]

    text = "北京在哪里？" * 120  # 360 tokens: two whole pages
    assert [cached(text), cached(text), cached(text + "谢谢！")] == [0, 256, 256]


def test_a_chat(server):
    done = command("chat", "你好！", "--json", "--no-think")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["model"] == MODEL
    assert "教学模型" in reply["choices"][0]["message"]["content"]


@pytest.mark.timeout(300)
def test_the_contract(service):
    found = contract(service)
    assert len(found) == len(QUESTIONS) == 39
    other = {each.id: (each.result, each.evidence) for each in found if each.result != "pass"}
    assert {name: result for name, (result, _) in other.items()} == {
        "unknown-model-404": "unsupported"
    }, other


def in_engine(code: str, **variables: str) -> subprocess.CompletedProcess:
    "A line of Python in the emulated engine, without any of its variables but these."
    base = {name: value for name, value in os.environ.items() if "NPU_EMULATED" not in name}
    base.pop("PYTHONPATH", None)
    line = [str(EMULATED.python), "-c", code]
    return subprocess.run(line, env={**base, **variables}, capture_output=True, text=True)


FIND = f"""
import torch
from importlib.util import find_spec
print([name for name in {ASCEND!r} if find_spec(name)], hasattr(torch, "npu"))
"""


def test_nothing_of_an_npu_is_found_where_it_is_off(up):
    assert in_engine(FIND).stdout == "[] False\n"
    there = in_engine(FIND, NPU_EMULATED="1")
    assert there.stdout == f"{[*ASCEND]} True\n", there.stderr[-2000:]


def test_it_refuses_beside_a_torch_npu(up, tmp_path):
    about = tmp_path / "torch_npu-2.6.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch-npu\nVersion: 2.6.0\n")
    done = in_engine("import torch", NPU_EMULATED="1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "a real NPU is here (torch-npu)" in done.stderr


@pytest.mark.parametrize("name", ["a2", "a3"])
def test_a_recorded_server_is_rehearsed_with_its_own_line(up, name):
    record = read_record(MACHINES / f"{name}.json")
    choice = choose(record, stack="emulated", server=NAME, port=0)
    machine = read_machine(record)
    fitting = fitting_stack(machine)
    assert fitting.needs_npu and choice.machine.series == name.upper() == machine.series

    # The plan is this machine's, for the emulated engine, and all of it is done.
    steps = planned(choice, ask=False)
    assert steps and not open_steps(steps)
    assert choice.engine.python == EMULATED.python

    # The line is the recorded server's; what it starts is the emulated engine.
    ours = serving(choice)
    theirs = launch(choice.settings, Engine(machine, fitting), {}, refuse=False)
    assert ours.line[0] == str(EMULATED.python)
    mine, its = flags_of(ours.line), flags_of(theirs.line)
    assert mine.pop("--served-model-name") == f"{its.pop('--served-model-name')}-emulated-npu"
    assert mine.pop("--max-total-tokens") == "32768"  # what the processor's memory takes
    if fitting.version("sglang") == "0.5.3rc0":  # a cure for that release alone
        assert its.pop("--grammar-backend") == "llguidance"
    assert mine == its and its["--attention-backend"] == "ascend"

    # So is the environment, but for what makes the NPU an emulated one.
    assert ours.environment["NPU_EMULATED"] == "1"
    wanted = {**fitting.environment, **stacks()["emulated"].environment}
    wanted.pop("TORCH_COMPILE_DISABLE", None)  # of the same cure
    assert wanted.items() <= ours.environment.items()


@pytest.mark.parametrize("name", ["a2", "a3"])
def test_a_recorded_server_alone_is_never_installed(name):
    choice = choose(read_record(MACHINES / f"{name}.json"), stack=None)
    if choice.stack.emulated:  # by QWEN_NPU_STACK
        choice = choose(read_record(MACHINES / f"{name}.json"), stack="cann-9.0")
    with pytest.raises(Problem, match="record"):
        planned(choice)


def only_imports(source: str) -> bool:
    "Whether a cell does nothing but import."
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def npu_cells() -> list:
    "Each cell that is flagged `npu`: its chapter, itself, and the text behind it."
    found = []
    for path in sorted(NBS.glob("0*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for cell, text in zip(cells, cells[1:]):
            if cell.cell_type == "code" and "npu" in directives(cell.source):
                found.append(pytest.param(path, cell, text, id=path.stem))
    return found


@pytest.mark.parametrize("chapter, cell, text", npu_cells())
def test_a_chapters_npu_cell(up, monkeypatch, capsys, chapter, cell, text):
    """It passes on the emulated stack, alone behind the chapter's imports, and prints what is saved
    in the chapter; the text behind says where that was recorded. A server that it finds stays."""
    for variable, value in OURS.items():
        monkeypatch.setenv(variable, value)
    cells = nbformat.read(chapter, as_version=4).cells
    names = dict(vars(import_module(f"qwen_npu_tut.{chapter.stem[3:]}")))
    for each in cells:
        if each.cell_type == "code" and only_imports(each.source):
            exec(each.source, names)
    exec(cell.source, names)
    printed, saved = capsys.readouterr().out, "".join(each.text for each in cell.outputs)
    if text.source == REHEARSED:
        assert printed.strip() and printed == saved
    if chapter.stem == "05_serve":
        assert serve.find(NAME)
