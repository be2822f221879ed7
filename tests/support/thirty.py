"""Thirty requests at temperature 0, whose replies two engines must agree in.

    python tests/support/thirty.py     writes tests/emulated/replies.json with the replies of the
                                       CPU engine, from a server of its own

Ragged ones are sent together, eight at once; the others one after another, because a prefix has to
be in the cache before somebody hits it.

All are of what the model has learnt. Elsewhere its two likeliest tokens are often as likely as each
other, in 16 bits to the last digit, and the CPU engine itself takes now one and now the other.
`clearness` measures that: the smallest lead, in every reply here, is above 1 in logarithms.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.server.client import Endpoint, chat_body, endpoint_of
from qwen_npu_tut.server.lifecycle import Server
from qwen_npu_tut.walk import Choice, choose, fetch, serving

RECORDED = Path(__file__).parents[1] / "emulated" / "replies.json"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}
BEIJING = "北京的天气怎么样？"
RESULT = '{"city": "Beijing", "weather": "rain"}'
CALL = {"name": "get_weather", "arguments": '{"city": "Beijing"}'}
ANSWERED = [
    {"role": "user", "content": "How is the weather in Beijing?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": RESULT},
]
SGLANG = (
    "SGLang is the inference server of this guide. It loads the model, batches the requests of"
    " many clients, and answers on an OpenAI-compatible interface."
)
TURNS = [("Hello!", "Hello! Ask me how to start, how to stop, or what an NPU is.")]
TURNS += [("What is SGLang?", SGLANG)]
LONG = [  # some 250 tokens: a whole page of 128, and a part of a second
    {"role": role, "content": text}
    for turn in TURNS * 3
    for role, text in zip(("user", "assistant"), turn)
]


def said(text: str, think: bool = False, before: list = (), **more) -> dict:
    "A request: what was said before, and one message."
    return {"messages": [*before, {"role": "user", "content": text}], "think": think, **more}


def kept_to(**kinds: str) -> dict:
    "A schema of these fields, in this order."
    form = {"type": "object", "required": list(kinds), "additionalProperties": False}
    form["properties"] = {name: {"type": kind} for name, kind in kinds.items()}
    schema = {"name": "form", "strict": True, "schema": form}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


ME = kept_to(name="string", is_qwen3_8b="boolean", knows="string")
PLACE = kept_to(host="string", port="integer")
TOOL = {"tools": [WEATHER]}
RAGGED = {
    "greeting": said("你好！"),
    "what is an NPU": said("什么是 NPU？"),
    "how to stop": said("怎么停止？"),
    "how to start": said("How do I start it?"),
    "two letters": said("Hi"),
    "96 tokens": said("Hello! " * 40 + "Who are you?"),
    "96 tokens, Chinese": said("你好！" * 40 + "什么是 NPU？"),
    "two pages": said("请写一首很长的诗 " * 20),
    "four pages": said("请写一首很长的诗 " * 60),
    "thinking, greeting": said("你好！", True),
    "thinking, English": said("What is tensor parallel?", True),
    "thinking, unknown": said("What is 17 times 23?", True),
    "thinking, cut off": said("Why must I source set_env.sh?", True, max_tokens=9),
    "one token": said("Hello!", max_tokens=1),
    "cut off": said("How do I start it?", max_tokens=20),
    "a stop string": said("你好！", stop=["教学"]),
}
IN_TURN = {
    "prefix, first": said("What is an NPU?", before=LONG),
    "prefix, again": said("What is an NPU?", before=LONG),
    "prefix, another end": said("Who are you?", before=LONG),
    "a conversation": said("What is SGLang?", before=LONG[:2]),
    "penalties": said("What is SGLang?", frequency_penalty=0.5, presence_penalty=0.2),
    "tool, may be called": said(BEIJING, **TOOL),
    "tool, thought about": said(BEIJING, True, **TOOL),
    "tool, must be called": said(BEIJING, **TOOL, tool_choice="required"),
    "tool, may not be called": said("What is an NPU?", **TOOL, tool_choice="none"),
    "tool, answered": {"messages": ANSWERED, "think": False, **TOOL},
    "schema, English": said("Who are you? Answer as JSON.", **ME),
    "schema, Chinese": said("介绍一下你自己，用 JSON 格式。", **ME),
    "schema, a number": said("Give me host and port as JSON.", **PLACE),
    "schema, any JSON": said("Answer as JSON.", response_format={"type": "json_object"}),
}
REQUESTS = RAGGED | IN_TURN
# What SGLang sends through a grammar. A mapped device's tensors say "cpu", so SGLang takes another
# branch for them than for an NPU's.
CONSTRAINED = [name for name in REQUESTS if name.startswith("schema") or "must be" in name]


def ask(on: Endpoint, name: str, **more):
    "One of them, asked: OpenAI's object."
    request = {"max_tokens": 200, "temperature": 0, **REQUESTS[name], **more}
    body = chat_body(on.model, request.pop("messages"), request.pop("think"), **request)
    return on.openai.chat.completions.create(**body)


def clearness(on: Endpoint, name: str) -> float:
    "By how much the likeliest token led, where it led least; a logarithm."
    rows = ask(on, name, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    pairs = [[each.logprob for each in row.top_logprobs] for row in rows]
    return min(first - second for first, second in pairs)


def answer(on: Endpoint, name: str) -> dict:
    "One reply: what is thought and said, without white space around it, and how it ended."
    reply = ask(on, name)
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
