"A command in a pseudo-terminal of its own, for tests that type and look."

import os
import pty
import select
import subprocess
import sys
import time

import pytest
from patience import patient

COMMAND = [sys.executable, "-c", "from qwen_npu_tut.faces.cli import main; main()", "chat"]


class Terminal:
    "A command in a terminal of its own."

    def __init__(self, url: str, *words: str, **more: str):
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "QWEN_NPU_URL": url, "TERM": "xterm", **more},
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str):
        os.write(self.ours, text.encode())

    def expect(self, text: str, seconds: float = 20):
        "Wait until this is on the screen, after what came before; gives what is between."
        deadline = time.monotonic() + patient(seconds)
        while text not in self.seen:
            assert time.monotonic() < deadline, (
                f"{text!r} did not come; the screen has: {self.seen!r}"
            )
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:
                    assert text in self.seen, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def press(self, key: str, text: str) -> str:
        """Press a key until this is on the screen, as a person would.

        What is typed between a prompt and readline's look at the terminal is lost."""
        for _ in range(9):
            self.type(key)
            try:
                return self.expect(text, 2)
            except AssertionError:
                pass
        self.type(key)
        return self.expect(text)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def terminal():
    "A function that opens a conversation in a terminal; all are closed afterwards."
    opened = []

    def begin(url, *words, **more):
        opened.append(Terminal(url, *words, **more))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()
