"Clients and curl lines against the stand-in for an engine: see fake_engine.py."
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qwen_npu_tut.access import hand_over_key
from qwen_npu_tut.call import call_problem, chat_body, client, curl_line, split_thinking, stream_reply
from qwen_npu_tut.processes import free_port
from qwen_npu_tut.serve import READY, Server
from qwen_npu_tut.settings import Problem, Settings

FAKE = Path(__file__).with_name("fake_engine.py")
WEIRD = "it's \"quoted\" $HOME `id` \\n \\ ! & | ; #\nsecond line\t你好 😊 $(touch /tmp/never) %s 'end"


@pytest.fixture
def serving(tmp_path, private_home):
    "A function that starts the stand-in and gives its record, as `start` would."
    running = []

    def begin(key=None, name="tested", **faults):
        port = free_port("127.0.0.1", 0)
        variables = hand_over_key(Settings(server=name, api_key=key))
        line = [sys.executable, str(FAKE), "--served-model-name", "weird name", "--host", "127.0.0.1", "--port", str(port)]
        if key: line += ["--config", str(private_home / "servers" / f"{name}.yaml")]
        log = tmp_path / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(line, stdout=out, stderr=out, env={**os.environ, **variables, "FAKE_ENGINE": json.dumps({"seconds": 0.01, "children": 0, **faults})})
        running.append(process)
        deadline = time.monotonic() + 15
        while READY not in log.read_text(errors="replace"):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        return Server(name, "weird name", f"http://127.0.0.1:{port}", process.pid, "", "", str(log), (), 0.0)

    yield begin
    for process in running:
        process.kill()
        process.wait()


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("text, parts", [
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
])
def test_split_thinking(text, parts): assert split_thinking(text) == parts


def test_curl_line_carries_any_text_through_a_shell(serving):
    server = serving()
    line = curl_line(server, chat_body(server.name, ask(WEIRD), think=False))
    arguments = subprocess.run(["bash", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, text=True, check=True).stdout.split("\0")
    body = json.loads(arguments[arguments.index("-d") + 1])
    assert body == {"model": "weird name", "messages": ask(WEIRD), "chat_template_kwargs": {"enable_thinking": False}}
    assert arguments[0] == f"{server.url}/v1/chat/completions"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_itself(serving):
    server = serving()
    line = curl_line(server, chat_body(server.name, ask(WEIRD), think=False))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == f"echo: {WEIRD}"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_with_a_key_that_is_never_written(serving):
    server = serving(key="sk-$secret'")
    line = curl_line(server, chat_body(server.name, ask("a"), think=False))
    assert "secret" not in line and "$QWEN_NPU_API_KEY" in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, env={**os.environ, "QWEN_NPU_API_KEY": "sk-$secret'"})
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "echo: a"


def test_curl_passes_a_proxy_by(serving, monkeypatch):
    server = serving()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert shlex.split(curl_line(server, {}).replace("\\\n", ""))[-4:-2] == ["--noproxy", "*"]
    assert [model.id for model in client(server).models.list()] == ["weird name"]


def test_stream_with_thinking(serving):
    server, seen = serving(), []
    reply = stream_reply(client(server), server.name, ask("你好 😊"), think=True, out=seen.append)
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("想一想。", "echo: 你好 😊", "stop")
    assert reply.usage == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert "".join(seen) == "想一想。\n\necho: 你好 😊" and len(seen) > 5
    assert 0 < reply.first_seconds <= reply.seconds


def test_stream_without_thinking(serving, capsys):
    server = serving()
    assert stream_reply(client(server), server.name, ask("a"), think=False).reasoning == ""
    assert capsys.readouterr().out == "echo: a"


def test_client_sends_the_key(serving):
    server = serving(key="sk-right")
    assert stream_reply(client(server), server.name, ask("a"), think=False, out=str).text == "echo: a"
    with pytest.raises(Problem, match="wants another key") as problem: stream_reply(client(server).with_options(api_key="sk-wrong"), server.name, ask("a"), out=str)
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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PIECE = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize("data, words", [
    (HEAD + b"Content-Length: 9999\r\n\r\n" + PIECE, "broke off in the middle"),
    (HEAD + b"Connection: close\r\n\r\n" + PIECE + b"data: {broken\n\n", "cannot be read"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>", "does not know"),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"message\": \"no!\"}", "refused the request .400"),
    (b"", "Nothing answers"),
], ids=["cut off", "malformed", "an HTML page", "refused", "closed"])
def test_what_breaks_is_explained(data, words):
    server = Server("none", "m", answer_once(data), 0, "", "", "", (), 0.0)
    with pytest.raises(Problem, match=words) as problem: stream_reply(client(server, timeout=5).with_options(max_retries=0), "m", ask("a"), out=str)
    assert server.url in problem.value.what and problem.value.fix


def test_nobody_there():
    server = Server("none", "m", f"http://127.0.0.1:{free_port('127.0.0.1', 0)}", 0, "", "", "", (), 0.0)
    with pytest.raises(Problem, match="Nothing answers"): stream_reply(client(server).with_options(max_retries=0), "m", ask("a"), out=str)


def test_call_problem_never_fails(): assert "cannot be read" in str(call_problem(ValueError("x"), "http://127.0.0.1:1"))
