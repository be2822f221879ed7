"""What our stream printer and the panel add, against bare peers on the same server, in one run.

    python tests/bench/bench_call.py [--rounds N]

The server is the running one of QWEN_NPU_SERVER, or what QWEN_NPU_URL names. Two figures:
- time to first token: `stream_reply` against `curl -N`, the same question in turns. curl's own
  start and end are taken off its time.
- a stream of 500 tokens drawn by the panel, in a real kernel, against the same stream thrown away;
  then once more with JupyterLab open in Chromium, whose drawing runs on the engine's processors.
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import nbformat
import support_path  # noqa: F401  for the modules of tests/support
from nbclient import NotebookClient
from lab import RUN_ALL, jupyterlab

from qwen_npu_tut.server.client import chat_body, curl_line, endpoint, stream_reply
from qwen_npu_tut.base.settings import read_settings

ASK = [{"role": "user", "content": "你好！"}]
TOKENS = 500
STREAMS = f"""
import json, statistics, time
import ipywidgets as W
from qwen_npu_tut.faces import views
from qwen_npu_tut.server.client import endpoint, stream_reply
from qwen_npu_tut.faces.panel import Turn, ask_turn
from qwen_npu_tut.base.settings import read_settings
from qwen_npu_tut.faces.terminal import Conversation
service = endpoint(read_settings())
more = dict(temperature=0, max_tokens={TOKENS}, extra_body={{"ignore_eos": True}})
place = W.VBox()
def drawn():
    turn = Turn({{"question": "你好！"}}, views.words("en"))
    place.children = [turn.box]
    began = time.monotonic()
    ask_turn(turn, Conversation(service, **more))
    assert turn.said["figures"]["tokens"] == {TOKENS}, turn.said
    return time.monotonic() - began
def bare():
    began = time.monotonic()
    question = [{{"role": "user", "content": "你好！"}}]
    stream_reply(service, question, False, out=lambda piece: None, **more)
    return time.monotonic() - began
place
"""
MEASURE = """
bare(), drawn()
pairs = [(bare(), drawn()) for _ in range({rounds})]
print("MEASURED", json.dumps(pairs))
"""


def by_curl(service, body: dict) -> float:
    "Seconds until curl -N has handed on the answer's first piece, without its own start and end."
    arguments = [
        part.replace("$QWEN_NPU_API_KEY", service.key or "")
        for part in shlex.split(curl_line(service, body).replace("\\\n", ""))
    ]
    began, first, total = time.monotonic(), 0.0, 0.0
    with subprocess.Popen(
        [*arguments, "-s", "-N", "-w", "\nTOTAL %{time_total}\n"], stdout=subprocess.PIPE
    ) as curl:
        for line in curl.stdout:
            if not first and b'"content":"' in line and b'"content":""' not in line:
                first = time.monotonic() - began
            if line.startswith(b"TOTAL"):
                total = float(line.split()[1])
    return first - (time.monotonic() - began - total)


def first_token(service, rounds: int) -> None:
    body = chat_body(service.model, ASK, False, stream=True, temperature=0)
    ours = []
    curls = []
    for number in range(rounds + 2):  # the first two warm up
        pair = (
            by_curl(service, body),
            stream_reply(service, ASK, False, out=lambda piece: None, temperature=0).first_seconds,
        )
        if number >= 2:
            curls.append(pair[0])
            ours.append(pair[1])
    curl, our = statistics.median(curls) * 1000, statistics.median(ours) * 1000
    print(
        f"time to first token, median of {rounds}: curl -N {curl:.1f} ms,"
        f" stream_reply {our:.1f} ms, {our - curl:+.1f} ms, {our / curl:.2f}x (goal: at most +5 ms)"
    )


def told(pairs: list, where: str) -> None:
    ratios = sorted(drawn / bare for bare, drawn in pairs)
    thrown_away = statistics.median(bare for bare, _ in pairs)
    drawn = statistics.median(drawn for _, drawn in pairs)
    print(
        f"a stream of {TOKENS} tokens drawn by the panel, {where}: {thrown_away:.2f} s thrown away,"
        f" {drawn:.2f} s drawn, median ratio {statistics.median(ratios):.3f}x (goal: at most 1.02x)"
        f"; ratios {' '.join(f'{each:.3f}' for each in ratios)}"
    )


def in_a_kernel(rounds: int) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(STREAMS),
            nbformat.v4.new_code_cell(MEASURE.format(rounds=rounds)),
        ]
    )
    NotebookClient(notebook, timeout=1800).execute()
    told(json.loads(notebook.cells[1].outputs[0]["text"].partition("MEASURED ")[2]), "in a kernel")


def in_a_browser(rounds: int) -> None:
    from playwright.sync_api import sync_playwright

    cells = [
        nbformat.v4.new_code_cell(STREAMS),
        nbformat.v4.new_code_cell(MEASURE.format(rounds=rounds)),
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = stack.enter_context(jupyterlab(Path(folder)))
        notebook = nbformat.v4.new_notebook(
            cells=cells,
            metadata={
                "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}
            },
        )
        nbformat.write(notebook, Path(folder) / "nbs/bench.ipynb")
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.set_default_timeout(1_800_000)
        page.goto(f"{url}/lab/tree/bench.ipynb?reset")
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for()
        page.evaluate(RUN_ALL)
        contents = page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.toJSON()"
        )
        text = "".join(
            "".join(output.get("text", "")) for output in contents["cells"][1]["outputs"]
        )
        browser.close()
    told(json.loads(text.partition("MEASURED ")[2]), "with JupyterLab open in Chromium")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    service = endpoint(read_settings())
    if service.key:
        os.environ["QWEN_NPU_API_KEY"] = service.key
    first_token(service, 5 * options.rounds)
    in_a_kernel(options.rounds)
    in_a_browser(options.rounds)


if __name__ == "__main__":
    main()
