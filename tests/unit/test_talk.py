"The conversation in a terminal: a real pseudo-terminal, against the stand-in for an engine."

import io
import json
import os
import signal
import subprocess

import pytest
from fake_engine import said_later
from patience import patient
from pseudo_terminal import COMMAND


def test_a_conversation(serving, terminal):
    talk = terminal(serving().url, "--think")
    talk.expect("weird name at http://127.0.0.1:")
    talk.expect("> ")
    talk.type("你好 😊\n")
    assert "想一想。" in talk.expect("echo: 你好 😊")
    talk.expect("3 tokens")
    talk.type("/no-think\n")
    talk.expect("answers at once")
    talk.type("again\n")
    assert "想一想" not in talk.expect("echo: again")
    talk.type("/nonsense\n")
    talk.expect("is not known here")
    talk.expect("> ")
    talk.type("\x04")
    assert talk.process.wait(patient(10)) == 0


@pytest.mark.slow
def test_ctrl_c_stops_the_reply_and_not_the_conversation(serving, terminal):
    server = serving(pace=0.05)
    talk = terminal(server.url)
    talk.expect("> ")
    talk.type(f"{'a' * 500}\n")
    talk.expect("echo: aaa")
    os.killpg(talk.process.pid, signal.SIGINT)
    talk.expect("(stopped)")
    assert said_later(server.log, "the client has gone")
    talk.expect("> ")
    talk.type("b\n")
    talk.expect("echo: b")
    talk.expect("> ")
    talk.press("\x03", "Ctrl-D ends the conversation")
    talk.expect("> ")
    talk.type("\x04")
    assert talk.process.wait(patient(10)) == 0


@pytest.mark.slow
def test_a_server_that_dies_between_two_questions(serving, terminal):
    server = serving()
    talk = terminal(server.url)
    talk.expect("> ")
    talk.type("one\n")
    talk.expect("echo: one")
    os.kill(server.pid, signal.SIGKILL)
    talk.type("two\n")
    talk.expect("Nothing answers")
    talk.expect("> ")
    talk.type("\x1b[A")  # the arrow key brings the question back
    talk.expect("two")
    talk.type("\x15\x04")
    assert talk.process.wait(patient(10)) == 0


def chat(url: str, *words: str, data: bytes = b"", **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *words],
        input=data,
        capture_output=True,
        env={**os.environ, "QWEN_NPU_URL": url, **more},
        timeout=patient(60),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
def test_one_reply_and_what_is_piped_in(serving):
    url = serving().url
    assert chat(url, "a") == (0, "echo: a\n", "")
    assert chat(url, "--think", "a") == (0, "想一想。\n\necho: a\n", "")
    assert chat(url, data="来自文件\n第二行\n".encode()) == (0, "echo: 来自文件\n第二行\n", "")
    assert chat(url, "Shorten:", "-", data=b"a long text") == (
        0,
        "echo: Shorten:\n\na long text\n",
        "",
    )
    assert chat(url, "a", data=b"not asked for") == (0, "echo: a\n", "")


def test_one_reply_as_json(serving):
    code, out, _ = chat(serving().url, "--json", "--think", "a")
    assert code == 0 and json.loads(out)["choices"][0]["message"]["content"] == "echo: a"
    assert json.loads(out)["choices"][0]["message"]["reasoning_content"] == "想一想。"


def test_the_system_and_the_advice_go_along(serving, monkeypatch):
    from qwen_npu_tut.server.client import Endpoint
    from qwen_npu_tut.faces.terminal import Conversation

    sent = {}
    monkeypatch.setattr(
        "qwen_npu_tut.faces.terminal.stream_reply",
        lambda service, messages, think, *rest, **more: (
            sent.update(messages=messages, think=think, **more) or type("R", (), {"text": "x"})
        ),
    )
    Conversation(Endpoint("http://127.0.0.1:9", model="m"), "Be short.", think=True).ask(
        "a", print, print
    )
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "a"},
    ]
    assert (sent["think"], sent["temperature"], sent["extra_body"]["top_k"]) == (True, 0.6, 20)


@pytest.mark.parametrize(
    "words, data, code, said",
    [
        (("",), b"", 2, "no question"),
        ((" \n",), b"", 2, "no question"),
        ((), b"", 2, "no question"),
        (("-",), b"\xff\xfe", 2, "no UTF-8"),
        (("--json",), b"", 2, "no question"),
    ],
)
def test_what_is_no_question(serving, words, data, code, said):
    found = chat(serving().url, *words, data=data)
    assert (
        found[0] == code
        and said in found[2]
        and "Traceback" not in found[2]
        and not found[1].strip()
        or "--json" in words
    )


@pytest.mark.parametrize("key", ["two words", "line\nend", "-dash"])
def test_a_key_that_cannot_be_sent(serving, key):
    code, out, err = chat(serving().url, "a", QWEN_NPU_API_KEY=key)
    assert code == 2 and "begins with a dash" in err and key not in err and not out


@pytest.mark.parametrize("url", ["127.0.0.1:30000", "http://me:secret@127.0.0.1:1", "ftp://x"])
def test_an_address_that_is_none(url):
    code, out, err = chat(url, "a")
    assert code == 2 and "address" in err and "secret" not in err and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("words", [("a",), ("--json", "a")])
def test_nobody_there_is_said_in_words(words):
    code, out, err = chat("http://127.0.0.1:9", *words)
    assert code == 1 and "Nothing answers" in out + err and "Traceback" not in err


def test_a_long_pipe(serving):
    assert chat(serving(reply="read").url, data="好".encode() * 350_000) == (0, "read\n", "")


def test_a_terminal_that_is_none_shows_no_colours():
    from qwen_npu_tut.faces.terminal import _figures, say_reply
    from qwen_npu_tut.server.client import Reply

    reply = Reply("x", "y", {"completion_tokens": 3}, "length", 0.1, 0.2)

    class Told:
        def ask(self, text, out, out_thinking):
            out_thinking("y")
            out("x")
            return reply

    out = io.StringIO()
    say_reply(Told(), "q", out)
    assert out.getvalue() == "y\n\nx\n" and "cut off" in _figures(reply)
