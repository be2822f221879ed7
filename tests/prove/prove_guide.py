"""The guide's own line on the guide's SGLang 0.5.3rc0, on an emulated NPU; and what it revealed.

Run by `make prove`, which has made the model. The first run installs the engine (some 4 minutes);
then some 6 minutes on 2 cores. Nothing here was run on an NPU."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from patience import patient, until

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.server.client import endpoint_of
from qwen_npu_tut.contract import QUESTIONS, contract
from qwen_npu_tut.engine.plan import open_steps, run_plan
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.server.processes import birth, end_session, free_port, session_of, spawn
from qwen_npu_tut.walk import choose, fetch, planned, serving

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "nbs" / "rehearsal" / "guide.ipynb"
READY = "The server is fired up and ready to roll!"
HELLO = {"model": "Qwen3-8B", "messages": [{"role": "user", "content": "你好！"}]}
LONG = "What is an NPU? " + "Please answer in one sentence. " * 60  # more than two pages of 128
AGE = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["age"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": AGE, "strict": True}}


@pytest.fixture(scope="module")
def choice():
    "The stack, installed and with its model."
    chosen = choose(stack="emulated-guide", server="prove-guide", port=0)
    run_plan(open_steps(planned(chosen)), os.environ)
    fetch(chosen)
    return chosen


@pytest.fixture
def folder(choice, tmp_path):
    "Where the guide's relative path leads to the teaching model."
    path = tmp_path / "autodl-tmp/Qwen/Qwen3-8B"
    path.parent.mkdir(parents=True)
    path.symlink_to(fetch(choice))
    return tmp_path


class Typed:
    "The guide's line, started as a program is: its address, its log, its process."

    def __init__(self, choice, folder: Path, *more: str, **variables: str):
        self.port = free_port("127.0.0.1", 0)
        self.log = folder / f"server-{self.port}.log"  # its own: READY of another is no sign
        page_line = stacks()["guide"].page_line.replace("0.0.0.0", "127.0.0.1")
        line = [*shlex.split(page_line.replace("30000", str(self.port))), *more]
        search = f"{choice.engine.python.parent}{os.pathsep}{os.environ['PATH']}"
        # no more than the switch, and no GPU: the stack's other variables are not the guide's
        own = {"NPU_EMULATED": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": search}
        self.pid, self.born = spawn(line, self.log, {**os.environ, **own, **variables}, folder)

    def text(self) -> str:
        return self.log.read_text(encoding="utf8", errors="replace")

    def alive(self) -> bool:
        return birth(self.pid) == self.born

    def over(self, seconds: float) -> bool:
        "Whether it ends by itself within this time."
        deadline = time.monotonic() + patient(seconds)
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        return not self.alive()

    def ask(self, path: str, body: dict | None = None) -> dict:
        url, own = f"http://127.0.0.1:{self.port}{path}", {"timeout": 300, "trust_env": False}
        return (httpx.post(url, json=body, **own) if body else httpx.get(url, **own)).json()

    def says(self, text: str) -> str:
        "The likeliest reply to a text."
        body = {**HELLO, "messages": [{"role": "user", "content": text}], "temperature": 0}
        reply = self.ask("/v1/chat/completions", {**body, "max_tokens": 40})
        return reply["choices"][0]["message"]["content"]


@contextlib.contextmanager
def typed(choice, folder, *more, **variables):
    "Ready, or the log's end; ended afterwards, whole."
    server = Typed(choice, folder, *more, **variables)
    try:
        until(lambda: READY in server.text() or not server.alive(), 600)
        assert READY in server.text(), server.text()[-2000:]
        yield server
    finally:
        end_session(server.pid, server.born, grace=10)
    assert not session_of(server.pid, server.born)


def printed() -> list[dict]:
    "The two answers that the guide printed, as the page has them."
    cells = json.loads(PAGE.read_text(encoding="utf8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found = re.findall(
        r"^guides_\w+ = json\.loads\(r?'''(.*?)'''\)", text, re.DOTALL | re.MULTILINE
    )
    return [json.loads(each) for each in found]


def keys(value, way="") -> list[str]:
    "The way to each value, in the order of the JSON."
    if isinstance(value, dict):
        return [each for name, one in value.items() for each in keys(one, f"{way}/{name}")]
    if isinstance(value, list):
        return [each for number, one in enumerate(value) for each in keys(one, f"{way}/{number}")]
    return [way]


def test_the_page(choice):
    "All that it asserts, with the engine there: its line, requests, client and four slips."
    done = subprocess.run(
        [Path(sys.executable).with_name("nbdev_test"), "--path", PAGE, "--n_workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patient(1500),
    )
    assert done.returncode == 0 and "Success" in done.stdout + done.stderr, done.stderr[-3000:]


def test_a_page_that_breaks_off_leaves_no_server(choice, tmp_path):
    "The cell behind the start raises; the server ends with the notebook's process all the same."
    page, note = json.loads(PAGE.read_text(encoding="utf8")), tmp_path / "started"
    starts = next(cell for cell in page["cells"] if "= spawn(" in "".join(cell["source"]))
    starts["source"] += [
        f"\n    Path({str(note)!r}).write_text(f'{{pid}}\\n{{born}}')\n",
        "    1 / 0\n",
    ]
    broken = tmp_path / "broken.ipynb"
    broken.write_text(json.dumps(page), encoding="utf8")
    run = [Path(sys.executable).with_name("nbdev_test"), "--path", broken, "--n_workers", "1"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=patient(300))
    assert "ZeroDivisionError" in done.stdout + done.stderr
    pid, born = note.read_text().splitlines()
    assert born and not session_of(int(pid), born)


def test_the_guides_line(choice, folder):
    """Its answers key by key; then one question for JSON, and the server is gone.

    On this release the default grammar backend knows cuda and cpu alone."""
    guides_list, guides_reply = printed()
    with typed(choice, folder) as server:
        listed = server.ask("/v1/models")
        reply = server.ask("/v1/chat/completions", HELLO)
        assert keys(listed) == keys(guides_list) and keys(reply) == keys(guides_reply)
        assert listed["data"][0]["id"] == guides_list["data"][0]["id"]
        assert reply["usage"]["prompt_tokens"] == guides_reply["usage"]["prompt_tokens"] == 10
        ended = [each["choices"][0]["matched_stop"] for each in (reply, guides_reply)]
        assert ended == [151645, 151645]
        assert "attention_backend='ascend'" in server.text() and "device='npu'" in server.text()

        with pytest.raises(httpx.HTTPError):
            server.ask("/v1/chat/completions", {**HELLO, "response_format": FORM})
        assert server.over(60)
        assert "Unsupported device: npu" in server.text()


LOOSE = {"json-schema", "letters-survive-the-stream", "tool-required"}


def test_the_repaired_line_answers_it(choice):
    "Our line names llguidance, and its environment TORCH_COMPILE_DISABLE: form and tools answer."
    server = serve.start(serving(choice))
    try:
        client, name = endpoint_of(server).openai, server.model_name
        assert "emulated" in name
        asked = {**HELLO, "model": name, "temperature": 0, "max_tokens": 60}
        reply = client.chat.completions.create(**asked, response_format=FORM)
        assert 0 <= json.loads(reply.choices[0].message.content)["age"] <= 99
        tool = {"name": "now", "description": "the time", "parameters": AGE}
        client.chat.completions.create(
            **asked, tools=[{"type": "function", "function": tool}], tool_choice="required"
        )
        assert client.chat.completions.create(**asked).choices[0].finish_reason == "stop"

        # Of the contract three fail. With thinking off this release holds a reply to no grammar:
        # its reasoner_grammar_backend.py waits for a </think> that stands in the prompt already.
        found = {each.id: each.result for each in contract(endpoint_of(server))}
        failed = {name for name, result in found.items() if result == "fail"}
        assert len(found) == len(QUESTIONS) and failed == LOOSE
    finally:
        serve.stop(server)


def test_a_prefix_hit_with_and_without_fia(choice, folder):
    """The same prompt twice: equal as the line is, another answer with ASCEND_USE_FIA=1.

    Its prefill then attends to the new tokens alone (read in the release's ascend_backend.py).
    None of our stacks sets it on this release."""
    with typed(choice, folder) as server:
        first, second = server.says(LONG), server.says(LONG)
        assert re.search(r"#cached-token: (?!0,)\d+", server.text())
        assert first == second
    with typed(choice, folder, ASCEND_USE_FIA="1") as server:
        fia_first, fia_second = server.says(LONG), server.says(LONG)
        assert re.search(r"#cached-token: (?!0,)\d+", server.text())
    assert fia_first == first and fia_second != first
    ours = (stacks()[each].environment for each in ("cann-8.2", "emulated-guide"))
    assert not any("ASCEND_USE_FIA" in each for each in ours)


def test_which_heads_load(choice, folder):
    """A head of 32 numbers does not load without vllm; the teaching model's 64 does, see above.

    SGLang 0.5.3rc0 has a rotary embedding of its own for 64, 128, 256 and 512 alone."""
    path = folder / "autodl-tmp/Qwen/Qwen3-8B"
    real = path.resolve()
    path.unlink()
    shutil.copytree(real, path)
    config = json.loads((path / "config.json").read_text())
    assert config["head_dim"] == 64
    (path / "config.json").unlink()
    (path / "config.json").write_text(json.dumps({**config, "head_dim": 32}))
    server = Typed(choice, folder, "--load-format", "dummy", "--disable-cuda-graph")
    try:
        assert server.over(300), "it loads"
        assert "No module named 'vllm'" in server.text()
    finally:
        end_session(server.pid, server.born, grace=5)


@pytest.mark.parametrize("pyarrow, imports", [("26.0.1", False), ("21.0.0", True)])
def test_numpy_and_pyarrow(choice, tmp_path, pyarrow, imports):
    "Beside numpy 1.26.4, which pyarrow 26 does not name: `import datasets` begins with this."
    python = choice.engine.python
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", tmp_path, f"pyarrow=={pyarrow}"], check=True)
    done = subprocess.run(
        [python, "-c", "import numpy, pyarrow; print(numpy.__version__)"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == imports
    assert done.stdout.strip() == "1.26.4" if imports else "NumPy 2.0 or newer" in done.stderr


def test_stacks_with_an_old_numpy_hold_pyarrow_back():
    "Unless a lock says what is installed: then pyarrow is there only if it names it."
    old = [each for each in stacks().values() if "numpy" in each.pins and not each.lock]
    old = [each for each in old if each.version("numpy").startswith("1.")]
    assert old and {each.version("pyarrow") for each in old} == {"21.0.0"}
