"The real engine behind the running service: what its list of packages must do, beside chapter 06."

import json
import os
import re
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from patience import patient

from qwen_npu_tut.server.client import chat_body, endpoint_of
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.lifecycle import status

ROOT = Path(__file__).resolve().parents[2]
START_ON_ARM = ROOT / "tests/support/start_on_arm.py"


@pytest.fixture(scope="module")
def ask(live_server):
    "Send one chat of one message; gives OpenAI's object."
    openai_client = endpoint_of(live_server).openai

    def send(text, **more):
        return openai_client.chat.completions.create(
            **chat_body(
                live_server.model_name,
                [{"role": "user", "content": text}],
                think=False,
                **{"temperature": 0, **more},
            )
        )

    send.client, send.server = openai_client, live_server
    return send


def read(url: str) -> str:
    "A page of the service, without a proxy."
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        url, timeout=patient(30)
    ) as answer:
        return answer.read().decode()


def running_requests(server) -> float:
    "How many requests the scheduler works on, as its own metrics say."
    return sum(
        float(value)
        for value in re.findall(
            r"^sglang:num_running_reqs\{[^}]*\} (\S+)$", read(f"{server.url}/metrics"), re.M
        )
    )


def test_two_replies_at_once_and_a_stop_string(ask):
    both = ask("你好！", n=2)
    assert [choice.index for choice in both.choices] == [0, 1]
    cut = ask("你好！", stop=["教学"]).choices[0]
    assert (
        (cut.finish_reason, cut.matched_stop) == ("stop", "教学")
        and cut.message.content
        and "教学" not in cut.message.content
    )


def test_plain_completions(ask):
    made = ask.client.completions.create(
        model=ask.server.model_name,
        prompt="<|im_start|>user\n你好！<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        max_tokens=40,
        temperature=0,
    )
    assert made.choices[0].text == ask("你好！").choices[0].message.content.lstrip("\n")


def test_a_tool_that_must_be_called(ask):
    "`strict` matters: without it SGLang 0.5.23 forces the call and lets the arguments be any JSON."
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": parameters,
            "strict": True,
        },
    }
    choice = ask(
        "北京的天气怎么样？", tools=[tool], tool_choice="required", max_tokens=100
    ).choices[0]
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"] and list(
        json.loads(choice.message.tool_calls[0].function.arguments)
    ) == ["city"]


def test_the_question_decides_and_not_the_company(ask):
    "Many at once are computed together; nobody gets another's reply."
    questions = ["你好！", "Hello!", "什么是NPU？", "What is an NPU?"]
    alone = {question: ask(question).choices[0].message.content for question in questions}
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, questions * 8))
    assert len(set(alone.values())) == 4
    assert [reply.choices[0].message.content for reply in together] == [
        alone[question] for question in questions
    ] * 8


def test_a_reader_that_goes_away_frees_its_place(ask):
    stream = ask(
        "你好！",
        stream=True,
        max_tokens=20_000,
        extra_body={"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}},
    )
    next(iter(stream))
    deadline = time.monotonic() + patient(30)
    while running_requests(ask.server) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_requests(ask.server) == 1
    stream.close()
    while running_requests(ask.server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_requests(ask.server) == 0


def test_health_and_metrics(ask):
    assert read(f"{ask.server.url}/health") == ""
    before = read(f"{ask.server.url}/metrics")
    ask("Hello!")

    def tokens(text):
        return float(re.search(r"^sglang:generation_tokens_total\{[^}]*\} (\S+)$", text, re.M)[1])

    assert tokens(read(f"{ask.server.url}/metrics")) > tokens(before)


def test_it_starts_where_the_processor_is_an_arm():
    "SGLang 0.5.23 calls kernels there that PyPI has not: see rehearsal/cpu_platform."
    python = Engine(read_machine(Host()), stacks()["cpu"]).python
    if not python.exists():
        pytest.skip("the engine is not installed")
    here = {
        "SGLANG_PLATFORM": "qwen_npu_cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }  # this checkout's module
    done = subprocess.run(
        [python, "-W", "ignore", START_ON_ARM],
        env={**os.environ, **here},
        cwd=ROOT.anchor,
        capture_output=True,
        text=True,
        timeout=patient(300),
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1:] == ["started"], done.stderr[
        -2000:
    ]


def test_what_was_planned_is_what_it_printed(live_server):
    found = status(live_server.name)
    assert found["planned"]["max_running"] == found["printed"]["max_running"] == 32
    assert found["planned"]["max_total_tokens"] == found["printed"]["max_total_tokens"]
