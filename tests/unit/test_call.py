"Clients and curl lines against the stand-in for an engine: see fake_engine.py."

import json
import os
import shlex
import shutil
import socket
import subprocess
import threading

import pytest
from fake_engine import said_later

from qwen_npu_tut.server.client import (
    Endpoint,
    call_problem,
    chat_body,
    curl_line,
    endpoint_of,
    split_thinking,
    stream_reply,
)
from qwen_npu_tut.server.processes import free_port
from qwen_npu_tut.base.events import Problem

WEIRD = (
    "it's \"quoted\" $HOME `id` \\n \\ ! & | ; #\nsecond line\t你好 😊 $(touch /tmp/never) %s 'end"
)


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    "text, parts",
    [
        ("plain", ("", "plain")),
        ("<think>\na\n</think>\n\nb", ("a", "b")),
        ("\n<think>a</think>b", ("a", "b")),
        ("<think>\n\n</think>\n\nb", ("", "b")),
        ("<think>cut off", ("cut off", "")),
        ("<think>", ("", "")),
        ("", ("", "")),
        ("what is <think>?", ("", "what is <think>?")),
        ("<think>a</think>b</think>c", ("a", "b</think>c")),
        ("<think>你好 😊\n</think>\n\n 答", ("你好 😊", " 答")),
    ],
)
def test_split_thinking(text, parts):
    assert split_thinking(text) == parts


def test_curl_line_carries_any_text_through_a_shell(serving):
    server = serving()
    line = curl_line(endpoint_of(server), chat_body(server.model_name, ask(WEIRD), think=False))
    arguments = subprocess.run(
        ["bash", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    body = json.loads(arguments[arguments.index("-d") + 1])
    assert body == {
        "model": "weird name",
        "messages": ask(WEIRD),
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert arguments[0] == f"{server.url}/v1/chat/completions"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_itself(serving):
    server = serving()
    line = curl_line(endpoint_of(server), chat_body(server.model_name, ask(WEIRD), think=False))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == f"echo: {WEIRD}"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_with_a_key_that_is_never_written(serving):
    server = serving(key="sk-$secret'")
    line = curl_line(endpoint_of(server), chat_body(server.model_name, ask("a"), think=False))
    assert "secret" not in line and "$QWEN_NPU_API_KEY" in line
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "QWEN_NPU_API_KEY": "sk-$secret'"},
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "echo: a"


def test_curl_passes_a_proxy_by(serving, monkeypatch):
    server = serving()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert shlex.split(curl_line(endpoint_of(server), {}).replace("\\\n", ""))[-4:-2] == [
        "--noproxy",
        "*",
    ]
    assert [model.id for model in endpoint_of(server).openai.models.list()] == ["weird name"]


def test_stream_with_thinking(serving):
    server, seen = serving(), []
    reply = stream_reply(endpoint_of(server), ask("你好 😊"), think=True, out=seen.append)
    assert (reply.reasoning, reply.text, reply.finish_reason) == (
        "想一想。",
        "echo: 你好 😊",
        "stop",
    )
    assert reply.usage == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert "".join(seen) == "想一想。\n\necho: 你好 😊" and len(seen) > 5
    assert 0 < reply.first_seconds <= reply.seconds


def test_stream_without_thinking(serving, capsys):
    server = serving()
    assert stream_reply(endpoint_of(server), ask("a"), think=False).reasoning == ""
    assert capsys.readouterr().out == "echo: a"


def test_letters_in_halves(serving):
    seen = []
    assert (
        stream_reply(endpoint_of(serving(crumbs=True)), ask("你好 😊🇨🇳"), out=seen.append).text
        == "echo: 你好 😊🇨🇳"
    )
    assert "\ufffd" not in "".join(seen)


def test_a_proxy_that_collects_the_pieces(serving):
    reply = stream_reply(endpoint_of(serving(collect=True)), ask("你好"), out=str)
    assert (reply.text, reply.reasoning) == (
        "echo: 你好",
        "想一想。",
    ) and reply.seconds - reply.first_seconds < 0.5


def test_a_server_that_is_killed_in_its_reply(serving):
    "Every byte that came was right, and the end is missing."
    seen = []
    with pytest.raises(Problem, match="broke off in the middle"):
        stream_reply(endpoint_of(serving(cut=8)), ask("你好"), out=seen.append)
    assert "".join(seen).startswith("想一想。")


def test_whoever_listens_may_end_the_reply(serving):
    "The connection is closed then, which is how a server notices."
    server = serving(pace=0.02)

    def enough(piece):
        raise KeyError(piece)

    with pytest.raises(KeyError):
        stream_reply(endpoint_of(server), ask("a" * 200), think=False, out=enough)
    assert said_later(server.log, "the client has gone")


def test_a_message_of_a_megabyte_and_an_empty_one(serving):
    assert (
        stream_reply(
            endpoint_of(serving(reply="read")), ask("好" * 350_000), think=False, out=str
        ).text
        == "read"
    )
    assert (
        stream_reply(endpoint_of(serving(name="another")), ask(""), think=False, out=str).text
        == "echo: "
    )


@pytest.mark.parametrize("written", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_every_spelling_of_an_address(serving, written):
    server = serving()
    assert (
        stream_reply(Endpoint(server.url + written), ask("a"), think=False, out=str).text
        == "echo: a"
    )


def test_client_sends_the_key(serving):
    server = serving(key="sk-right")
    assert stream_reply(endpoint_of(server), ask("a"), think=False, out=str).text == "echo: a"
    with pytest.raises(Problem, match="wants another key") as problem:
        stream_reply(Endpoint(server.url, "sk-wrong", server.model_name), ask("a"), out=str)
    assert "sk-" not in str(problem.value)


def answer_once(data: bytes) -> str:
    "A server that answers one request with given bytes and closes; its address."
    listening = socket.create_server(("127.0.0.1", 0))

    def serve_one():
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(data)

    threading.Thread(target=serve_one, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": None}],
}
PIECE = f"data: {json.dumps(CHUNK)}\n\n".encode()
GATEWAY = b"<html><h1>502 Bad Gateway</h1></html>\r\n"


@pytest.mark.parametrize(
    "data, words",
    [
        (HEAD + b"Content-Length: 9999\r\n\r\n" + PIECE, "broke off in the middle"),
        (HEAD + b"Connection: close\r\n\r\n" + PIECE + b"data: {broken\n\n", "cannot be read"),
        (response("404 Not Found", "text/html", b"<html></html>"), "does not know"),
        (
            response("400 Bad Request", "application/json", b'{"message": "no!"}'),
            "refused the request .400",
        ),
        (b"", "Nothing answers"),
        (
            response("502 Bad Gateway", "text/html", GATEWAY),
            "failed .502.: an HTML page came back",
        ),
        (
            response("200 OK", "text/html", b"<html>Log in</html>\r\n"),
            "sent nothing that is a reply",
        ),
        (
            HEAD
            + b"Connection: close\r\n\r\n"
            + PIECE
            + b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
            "cannot be read: out of memory",
        ),
        (HEAD + b"Connection: close\r\n\r\n" + PIECE, "broke off in the middle"),
        (HEAD + b"Connection: close\r\n\r\ndata: [1, 2]\n\ndata: 7\n\n", "cannot be read"),
    ],
    ids=[
        "cut off",
        "malformed",
        "an HTML page",
        "refused",
        "closed",
        "a proxy's page",
        "a login page",
        "an error in the stream",
        "an early end",
        "not a chunk",
    ],
)
def test_what_breaks_is_explained(data, words):
    service = Endpoint(answer_once(data), model="m", timeout=5, retries=0)
    with pytest.raises(Problem, match=words) as problem:
        stream_reply(service, ask("a"), out=str)
    assert service.url in problem.value.what and problem.value.fix


def test_nobody_there():
    service = Endpoint(f"http://127.0.0.1:{free_port('127.0.0.1', 0)}", model="m", retries=0)
    with pytest.raises(Problem, match="Nothing answers"):
        stream_reply(service, ask("a"), out=str)


def test_call_problem_never_fails():
    assert "cannot be read" in str(call_problem(ValueError("x"), "http://127.0.0.1:1"))
