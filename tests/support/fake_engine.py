"""A stand-in for an engine's interpreter: takes `-m sglang.launch_server …`, loads nothing.

It logs and answers like SGLang.

The environment variable FAKE_ENGINE holds JSON that makes it misbehave:
    seconds      how long each phase takes (0.05)
    die          a phase in which it ends with an error: imports, weights, KV cache, warm-up, ready
                 (after it said so)
    said         what it says before that
    hang         a phase in which it stops making progress
    deaf         true: it ignores SIGTERM, and so do its children
    children     how many processes it starts, as SGLang starts a scheduler and a detokenizer (2)
    silent       true: it says that it is ready and answers nothing
    reply        the text of every reply
    pace         seconds between two pieces of a stream (0)
    cut          the stream ends, as a killed server's does, after so many pieces
    crumbs       true: a stream is sent byte by byte, so that letters arrive in halves
    collect      true: all of a stream is sent at once, as a proxy that buffers does
    says         what /get_server_info tells, beside the flags
    fatal        true: a request with a schema or a tool ends it
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READY = "The server is fired up and ready to roll!"
WORDS = {
    "imports": "server_args={'model_path': '…'}",
    "weights": "Load weight begin. avail mem=18.33 GB",
    "KV cache": "Load weight end. elapsed=0.30 s, type=Qwen3ForCausalLM\n"
    "[2026-11-22 20:45:37] KV Cache is allocated. #tokens: 32768",
    "warm-up": "INFO:     Application startup complete.",
    "ready": READY,
}


def say(text: str) -> None:
    print(f"[2026-11-22 20:45:33] {text}", file=sys.stderr, flush=True)


def said_later(log: str, text: str, seconds: float = 15) -> bool:
    "Whether a stand-in says something within this time."
    from patience import patient  # here, because the stand-in runs without its neighbours

    deadline = time.monotonic() + patient(seconds)
    while not (found := text in open(log, encoding="utf8").read()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def options(line: list[str]) -> dict[str, str]:
    "The flags of a launch line; those of --config FILE come in between."
    found = {flag: value for flag, value in zip(line, [*line[1:], ""]) if flag.startswith("--")}
    if "--config" in found:
        with open(found["--config"], encoding="utf8") as file:
            found["--api-key"] = json.loads(file.read().partition(":")[2])
    return found


class Answers(BaseHTTPRequestHandler):
    "The endpoints that the package uses."

    flags: dict[str, str] = {}
    faults: dict = {}
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *values):
        say(f'INFO:     127.0.0.1 - "{self.requestline}"')

    def send(self, body: object, code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refused(self) -> bool:
        key = self.flags.get("--api-key")
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self.send({"error": "Unauthorized"}, 401)
        return True

    def do_GET(self):
        name = self.flags["--served-model-name"]
        if self.path == "/health":
            return self.send({})
        if self.refused():
            return None
        if self.path == "/get_server_info":
            return self.send(self.faults.get("says", {}))
        if self.path == "/v1/models":
            return self.send(
                {
                    "object": "list",
                    "data": [{"id": name, "object": "model", "owned_by": "sglang", "root": name}],
                }
            )
        return self.send({"detail": "Method Not Allowed"}, 405)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.faults.get("silent"):
            return time.sleep(600)
        if self.refused():
            return None
        if self.path == "/generate":
            return self.send({"text": "1", "meta_info": {}})
        if self.faults.get("fatal") and (
            body.get("response_format") or body.get("tools") and body.get("tool_choice") != "none"
        ):
            os._exit(9)
        if self.path != "/v1/chat/completions":
            return self.send({"detail": "Not Found"}, 404)
        return self.stream(body) if body.get("stream") else self.send(self.whole(body))

    def texts(self, body: dict) -> tuple[str, str]:
        thinks = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        last = body["messages"][-1]["content"]
        return ("想一想。" if thinks else ""), self.faults.get("reply", f"echo: {last}")

    def whole(self, body: dict) -> dict:
        reasoning, text = self.texts(body)
        message = {
            "role": "assistant",
            "content": text,
            "reasoning_content": reasoning or None,
            "tool_calls": None,
        }
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
            "choices": [
                {"index": 0, "message": message, "finish_reason": "stop", "matched_stop": 151645}
            ],
        }

    def stream(self, body: dict) -> None:
        reasoning, text = self.texts(body)
        deltas = [
            {"role": "assistant", "content": ""},
            *({"reasoning_content": letter} for letter in reasoning),
            *({"content": letter} for letter in text),
        ]
        base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        chunks = [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            for delta in deltas
        ]
        chunks.append(
            {
                **base,
                "choices": [
                    {"index": 0, "delta": {}, "finish_reason": "stop", "matched_stop": 151645}
                ],
            }
        )
        chunks.append(
            {
                **base,
                "choices": [],
                "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
            }
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        events = [
            f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode() for chunk in chunks
        ] + [b"data: [DONE]\n\n"]
        if self.faults.get("collect"):
            events = [b"".join(events)]
        if self.faults.get("crumbs"):
            events = [bytes([byte]) for byte in b"".join(events)]
        try:
            for event in events[: self.faults.get("cut")]:
                self.wfile.write(event)
                time.sleep(self.faults.get("pace", 0))
        except OSError:
            say("the client has gone")


def main() -> None:
    faults, flags = json.loads(os.environ.get("FAKE_ENGINE", "{}")), options(sys.argv[1:])
    sleeper = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        if faults.get("deaf")
        else "import time; time.sleep(600)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", sleeper]) for _ in range(faults.get("children", 2))
    ]

    def end(*_):
        for child in children:
            child.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if faults.get("deaf") else end)
    server = None
    for phase, words in WORDS.items():
        time.sleep(faults.get("seconds", 0.05))
        if phase == faults.get("hang"):
            time.sleep(600)
        if phase == "warm-up":  # SGLang too listens only when everything is loaded
            Answers.flags, Answers.faults = flags, faults
            server = ThreadingHTTPServer((flags["--host"], int(flags["--port"])), Answers)
        say(words)
        if phase == faults.get("die"):
            sys.stderr.buffer.write(
                b"half a letter: \xe4\xbd\n"
                + faults.get("said", "").encode()
                + b"\nRuntimeError: it died on purpose at "
                + phase.encode()
                + b"\n"
            )
            sys.stderr.flush()
            os._exit(3)  # its children stay, as after kill -9
    server.serve_forever()


if __name__ == "__main__":
    main()
