"""Thirty requests at temperature 0, whose replies two engines must agree in.

    python tests/support/thirty.py     writes tests/emulated/replies.json with the replies of the
                                       CPU engine, from a server of its own

Ragged ones are sent together, eight at once; the others one after another, because a prefix has to
be in the cache before somebody hits it.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from qwen_npu_tut import serve
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.call import Endpoint, chat_body, endpoint_of
from qwen_npu_tut.serve import Server
from qwen_npu_tut.walk import Choice, choose, fetch, serving

RECORDED = Path(__file__).parents[1] / "emulated" / "replies.json"
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The present time",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "enum": ["UTC", "Asia/Shanghai"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}
CALLED = [
    {"role": "user", "content": "现在几点？"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_time", "arguments": '{"zone": "UTC"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
]
LONG = "北京在哪里？" * 120  # some 370 tokens: two whole pages of 128, and a part of a third


def said(text: str, think: bool = False, **more) -> dict:
    "A request of one message."
    return {"messages": [{"role": "user", "content": text}], "think": think, **more}


def kept_to(name: str, **schema) -> dict:
    "A request whose reply keeps to a schema of one field."
    whole = {"type": "object", "required": ["it"], "additionalProperties": False}
    whole["properties"] = {"it": schema}
    form = {"name": name, "strict": True, "schema": whole}
    return said("你好！", response_format={"type": "json_schema", "json_schema": form})


RAGGED = {
    "greeting": said("你好！"),
    "what is an NPU": said("什么是 NPU？"),
    "how to stop": said("怎么停止？"),
    "how to start, English": said("How do I start it?"),
    "one letter": said("a"),
    "long and repeated": said("Hello! " * 40 + "who are you?"),
    "a poem, cut off": said("请写一首很长的诗 " * 20, max_tokens=48),
    "seven pages": said("Explain the KV cache. " * 150, max_tokens=48),
    "thinking, greeting": said("你好！", True),
    "thinking, English": said("What is tensor parallel?", True),
    "thinking, unknown": said("What is 17 times 23?", True),
    "thinking, cut off": said("Why must I source set_env.sh?", True, max_tokens=9),
    "thinking, long": said("什么是 CANN？" * 60, True, max_tokens=64),
    "one token": said("Hello!", max_tokens=1),
    "to the last token": said("怎么启动？", max_tokens=64, extra_body={"ignore_eos": True}),
    "a stop string": said("你好！", stop=["教学"]),
}
IN_TURN = {
    "prefix, first": said(LONG + "你好！", max_tokens=24),
    "prefix, again": said(LONG + "你好！", max_tokens=24),
    "prefix, another end": said(LONG + "Who are you?", max_tokens=24),
    "a conversation": {
        "messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello! What do you want to know?"},
            {"role": "user", "content": "What is SGLang?"},
        ],
        "think": False,
    },
    "penalties": said("你好！", max_tokens=24, frequency_penalty=0.5, presence_penalty=0.2),
    "tool, may be called": said("现在几点？", tools=[TIME]),
    "tool, must be called": said("现在几点？", tools=[TIME], tool_choice="required"),
    "tool, may not be called": said("现在几点？", tools=[TIME], tool_choice="none"),
    "tool, answered": {"messages": CALLED, "think": False, "tools": [TIME]},
    "tool, after thinking": said("What time is it in UTC?", True, tools=[TIME]),
    "schema, a number": kept_to("number", type="integer", minimum=1, maximum=9),
    "schema, one of three": kept_to("choice", enum=["CANN", "NPU", "SGLang"]),
    "schema, a short text": kept_to("text", type="string", maxLength=8),
    "schema, any JSON": said(
        "Answer as JSON.", max_tokens=40, response_format={"type": "json_object"}
    ),
}
REQUESTS = RAGGED | IN_TURN
# What SGLang sends through a grammar. A mapped device's tensors say "cpu", so SGLang takes another
# branch for them than for an NPU's.
CONSTRAINED = [name for name in REQUESTS if name.startswith("schema") or "must be" in name]


def answer(on: Endpoint, name: str) -> dict:
    "One reply: what is thought and said, without white space around it, and how it ended."
    request = {"max_tokens": 200, **REQUESTS[name]}
    body = chat_body(on.model, request.pop("messages"), request.pop("think"), **request)
    reply = on.openai.chat.completions.create(**body, temperature=0)
    (choice,) = reply.choices
    message, usage = choice.message, reply.usage
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return {
        "thought": (getattr(message, "reasoning_content", None) or "").strip(),
        "said": (message.content or "").strip(),
        "calls": [[tool, json.loads(arguments)] for tool, arguments in calls],
        "ended": choice.finish_reason,
        "tokens": [usage.prompt_tokens, usage.completion_tokens],
    }


def answers(on: Endpoint, but: list[str] = ()) -> dict[str, dict]:
    "The replies to all of them, but those that are left out: request to reply."
    asked = [name for name in RAGGED if name not in but]
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(asked, pool.map(lambda name: answer(on, name), asked), strict=True))
    return found | {name: answer(on, name) for name in IN_TURN if name not in but}


def differing(these: dict[str, dict], those: dict[str, dict]) -> list[str]:
    "Where two engines differ: a line a request, with both replies."
    return [
        f"{name}: {these.get(name)} and {those.get(name)}"
        for name in these | those
        if these.get(name) != those.get(name)
    ]


@contextmanager
def served(stack: str, name: str, environment: dict | None = None, **settings) -> Iterator[Server]:
    "A server of a stack, with the teaching model, on a free port; it is stopped afterwards."
    choice: Choice = choose(stack=stack, server=name, port=0, **settings)
    fetch(choice, keep_served=True)
    made = serving(choice)
    server = serve.start(replace(made, environment={**made.environment, **(environment or {})}))
    try:
        yield server
    finally:
        serve.stop(server)


def main() -> None:
    "Record the CPU engine's replies."
    os.environ.pop("QWEN_NPU_API_KEY", None)
    with served("cpu", "record-replies") as server:
        found = answers(endpoint_of(server))
    write_atomic(RECORDED, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    print(f"{len(found)} replies are in {RECORDED.name}.")


if __name__ == "__main__":
    main()
