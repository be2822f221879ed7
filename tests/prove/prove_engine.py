"""The real engine with a key, and behind SGLang's own router: about a minute on 2 cores.

Run by `make prove`, which has started the service and installed the engine."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import openai
import psutil
import pytest
from patience import patient

from qwen_npu_tut.server.launch import key_of, launch
from qwen_npu_tut.server.client import chat_body, endpoint_of
from qwen_npu_tut.server.processes import birth, end_session, free_port, session_of
from qwen_npu_tut.server.lifecycle import start, stop
from qwen_npu_tut.base.settings import Settings, read_settings
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.walk import choose, fetch

CPU = Engine(read_machine(Host()), stacks()["cpu"])
KEY = "sk-prove-never-shown"
HELLO = [{"role": "user", "content": "你好！"}]


def reply(openai_client, name: str) -> str:
    "The likeliest reply to the guide's question."
    return (
        openai_client.chat.completions.create(**chat_body(name, HELLO, think=False, temperature=0))
        .choices[0]
        .message.content
    )


def answers(openai_client) -> bool:
    "Whether somebody lists a model there."
    try:
        return bool(openai_client.models.list().data)
    except openai.OpenAIError:
        return False


@pytest.fixture(scope="module")
def guarded():
    "A server of its own, with a key."
    choice = choose()
    fetch(choice)
    chosen = replace(read_settings(), server="prove-key", port=0, api_key=KEY)
    server = start(launch(chosen, CPU))
    yield server
    stop(server)


def test_the_key_is_nowhere_to_be_seen(guarded):
    family = [psutil.Process(pid) for pid in session_of(guarded.pid, guarded.born)]
    assert len(family) >= 3
    for process in family:
        assert KEY not in " ".join(process.cmdline()) + str(process.environ())
    assert KEY not in Path(guarded.log).read_text(encoding="utf8", errors="replace")


def test_the_key_is_asked_for(guarded):
    assert reply(endpoint_of(guarded).openai, guarded.name)
    with pytest.raises(openai.AuthenticationError):
        endpoint_of(guarded).openai.with_options(api_key="another").models.list()


def test_behind_the_router(live_server):
    port = free_port("127.0.0.1", 0)
    line = [
        str(CPU.python),
        "-m",
        "sglang_router.launch_router",
        "--worker-urls",
        live_server.url,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    key = key_of(live_server.name)
    if key:
        line += ["--api-key", key]  # the test server's own, of no use to anybody
    router = subprocess.Popen(
        line,
        env=launch(Settings(), CPU).environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    born, deadline = birth(router.pid), time.monotonic() + patient(120)
    routed = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=key or "EMPTY",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    try:
        while not answers(routed):
            assert router.poll() is None and time.monotonic() < deadline, (
                "the router did not come up"
            )
            time.sleep(0.2)
        assert reply(routed, live_server.name) == reply(
            endpoint_of(live_server).openai, live_server.name
        )
    finally:
        end_session(router.pid, born, grace=5)
        router.wait()
