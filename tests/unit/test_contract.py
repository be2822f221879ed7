"The contract before servers that break it, each in one way."

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from qwen_npu_tut.base.events import table
from qwen_npu_tut.server.client import Endpoint
from qwen_npu_tut.contract import QUESTIONS, answer_of, contract, not_asked


class Broken(BaseHTTPRequestHandler):
    "A server that answers every chat alike, and wrongly where told so."

    fault = ""

    def log_message(self, *words):
        "Quiet."

    def send(self, text: str, code: int = 200, kind: str = "application/json"):
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.fault == "page":
            return self.send("<html>Please log in</html>", kind="text/html")
        if self.path == "/v1/models":
            return self.send(
                json.dumps(
                    {
                        "object": "list",
                        "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}],
                    }
                )
            )
        self.send("{}", 200 if self.path == "/health" else 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        text = "<think>hm</think>hi" if self.fault == "think" else "hi"
        usage = {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 9 if self.fault == "usage" else 4,
        }
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            return self.send(
                json.dumps(
                    {
                        "id": "1",
                        "object": "chat.completion",
                        "created": 1,
                        "model": "m",
                        "usage": usage,
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    }
                )
            )
        base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunks = [
            {
                **base,
                "choices": [
                    {
                        "index": 0,
                        "delta": {"role": "assistant", "content": text},
                        "finish_reason": None,
                    }
                ],
            },
            {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + (
            [] if self.fault == "end" else ["data: [DONE]\n\n"]
        )
        self.send("".join(lines), kind="text/event-stream")


@pytest.fixture
def broken(monkeypatch):
    "The address of a server with a fault."
    servers = []

    def start(fault: str) -> str:
        monkeypatch.setattr(Broken, "fault", fault)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Broken))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(
    "fault, name", [("usage", "chat-usage"), ("think", "thinking-off"), ("end", "stream-order")]
)
def test_each_fault_is_found(broken, fault, name):
    assert answer_of(Endpoint(broken(""), retries=0), name).result == "pass"
    assert answer_of(Endpoint(broken(fault), retries=0), name).result == "fail"


def test_what_is_not_there_fails_and_nothing_raises(broken):
    found = {each.id: each for each in contract(Endpoint(broken(""), retries=0))}
    assert list(found) == list(QUESTIONS) and {each.result for each in found.values()} == {
        "pass",
        "fail",
        "unsupported",
    }
    assert (
        found["thinking-on"].result
        == found["tool-required"].result
        == found["logprobs"].result
        == "fail"
    )
    assert found["wrong-key-401"].result == "unsupported" and all(
        each.evidence for each in found.values()
    )


def test_what_is_seen_is_told_in_the_readers_language(broken, monkeypatch):
    "Names and values stay; what is ours of it is Chinese."
    service = Endpoint(broken(""), retries=0)
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    seen = {each.id: each.evidence for each in contract(service)}
    assert seen["models-list"] == "模型：['m']"
    assert seen["finish-length"] == "stop，2 个 token"
    assert seen["stream-order"].startswith("2 个 chunk，role 为 assistant")
    assert seen["tool-required"].startswith("没有调用工具；content 为 'hi'")
    assert seen["wrong-key-401"] == "该地址不要求密钥，或没有提供密钥"
    ours = {name: text for name, text in seen.items() if re.search("[\u4e00-\u9fff]", text)}
    assert len(ours) > 15 and not [each for each in ours.values() if "of the" in each]


def test_why_a_question_is_spared_is_told_in_chinese(monkeypatch):
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    ascend = {"version": "0.5.3rc0", "device": "npu", "grammar_backend": "xgrammar"}
    assert not_asked(ascend)["json-schema"].startswith("未测试，因为会使服务退出：")


def test_the_command(run, broken):
    url = broken("")
    code, out, _ = run("contract", url)
    assert code == 1 and out.count("\n") == len(QUESTIONS) + 1 and "fail" in out.splitlines()[-1]
    code, out, _ = run("contract", f"{url}/v1/", "--json")
    assert code == 1 and [set(each) for each in json.loads(out)["checks"]] == [
        {"id", "result", "evidence"}
    ] * len(QUESTIONS)


@pytest.mark.parametrize(
    "url, words", [("127.0.0.1:1", "is no address"), ("http://127.0.0.1:9", "Nothing answers")]
)
def test_no_server(run, url, words):
    code, out, err = run("contract", url)
    assert code in (1, 2) and words in err and not out and "Traceback" not in err


def test_a_login_page(run, broken):
    code, _, err = run("contract", broken("page"))
    assert code == 1 and "Traceback" not in err and len(err.strip().splitlines()) == 3


@pytest.mark.parametrize(
    "name, row", table("contract.toml").items(), ids=lambda each: str(each)[:30]
)
def test_every_question_says_what_should_be(name, row):
    assert name in QUESTIONS and row.keys() <= {"should", "send", "like"}
    assert row["should"].keys() == {"en", "zh"} and row["should"]["en"].endswith(".")
    assert row["should"]["zh"].endswith("。")


def test_every_question_has_its_row_in_order():
    assert list(QUESTIONS) == list(table("contract.toml"))
