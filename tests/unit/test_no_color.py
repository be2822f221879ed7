"NO_COLOR (no-color.org) is honoured, and a colour tells nothing that words do not tell."

import os
import pty
import re
import subprocess
import sys

import pytest
from patience import patient

COLOUR = re.compile(r"\x1b\[[\d;]*m")
TIME = re.compile(r"\d+(\.\d)?( s| GB)")
COMMANDS = [
    "check",
    "up --help",
    "plan --help",
    "plan --stack none",
]
COMMAND = "from qwen_npu_tut.faces.cli import main; main()"
STAGES = """
import time
from qwen_npu_tut.faces.terminal import Screen
with Screen().stage(1, 1, "wait"): time.sleep(0.4)
"""


def on_a_terminal(folder, program: str, *words: str, **more: str) -> str:
    "What a program writes to a terminal that shows colours."
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_COLOR")}
    started = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**plain, "TERM": "xterm-256color", "QWEN_NPU_HOME": str(folder), **more},
    )
    os.close(theirs)
    seen = []
    while not seen or seen[-1]:
        try:
            seen.append(os.read(ours, 65536))
        except OSError:  # the program has closed its side
            break
    os.close(ours)
    started.wait(patient(10))
    return b"".join(seen).decode()


@pytest.mark.parametrize("words", COMMANDS)
def test_no_colour_where_none_is_wanted_and_the_same_words(tmp_path, words):
    coloured = on_a_terminal(tmp_path, COMMAND, *words.split())
    plain = on_a_terminal(tmp_path, COMMAND, *words.split(), NO_COLOR="1")
    assert plain and "\x1b" not in plain
    assert TIME.sub("", COLOUR.sub("", coloured)) == TIME.sub("", plain)


def test_a_stage_that_moves(tmp_path):
    "The moving line erases itself, which is no colour."
    assert COLOUR.search(on_a_terminal(tmp_path, STAGES))
    plain = on_a_terminal(tmp_path, STAGES, NO_COLOR="1")
    assert "[1/1] wait" in plain and not COLOUR.search(plain)


def test_a_conversation_with_thinking(serving, terminal):
    "Thinking is dim where styles are wanted, and a paragraph of its own in any case."
    for wanted, more in [(True, {}), (False, {"NO_COLOR": "1"})]:
        talk = terminal(serving().url, "--think", **more)
        talk.expect("> ")
        talk.type("hello\n")
        said = talk.expect("echo: hello")
        assert bool(COLOUR.search(said)) == wanted
        assert re.search(r"想一想。\s*?(\x1b\[0m)?\r\n\r\n", said), repr(said)
        talk.expect("3 tokens")
