"""Serving, the long way, on the CPU engine.

Each generated line before SGLang's own parser of three versions; several ranks, nodes and replicas;
kills and cycles.

Run by `make prove`, which has installed the engine. Nothing here was run on an NPU."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import machines
import openai
import psutil
import pytest
from patience import patient

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.settings import Settings, home, read_settings
from qwen_npu_tut.server.client import chat_body, endpoint_of
from qwen_npu_tut.engine.stacks import presets, stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server import handover
from qwen_npu_tut.server.launch import key_file, launch, made_key_file
from qwen_npu_tut.server.processes import birth, end_session, free_port, session_of
from qwen_npu_tut.walk import choose, fetch

HELLO = [{"role": "user", "content": "你好！"}]
PARSER = """
import argparse, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
parser.parse_args(sys.argv[1:])
"""
CPU = Engine(read_machine(Host()), stacks()["cpu"])
BESIDE = {
    "0.5.16": ("transformers==5.12.1", "tokenizers==0.22.2")
}  # what that version imports in other versions than the engine has


def reply(openai_client, name: str) -> str:
    return (
        openai_client.chat.completions.create(**chat_body(name, HELLO, think=False, temperature=0))
        .choices[0]
        .message.content
    )


@pytest.fixture(scope="module", autouse=True)
def model():
    "The teaching model, whole; what a test leaves running is stopped."
    yield fetch(choose())
    for name in ("prove-serving", "prove-second"):
        serve.stop(name)


def settings(**changes) -> Settings:
    return replace(
        read_settings(),
        **{"server": "prove-serving", "port": 0, "model": "qwen-npu-tut/teaching-qwen3", **changes},
    )


def begin(**changes) -> serve.Server:
    return serve.start(launch(settings(**changes), CPU))


@pytest.fixture(scope="module")
def parsers(tmp_path_factory):
    "For each version of SGLang the environment in which its parser imports; 0.5.23 is installed."
    folder, found = tmp_path_factory.mktemp("versions"), {"0.5.23": {}}
    for version in ("0.5.16", "0.5.3rc0"):
        place = folder / version
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run(
            [
                *pip,
                "download",
                "--no-deps",
                "--ignore-requires-python",
                "-d",
                folder,
                f"sglang=={version}",
            ],
            check=True,
        )
        with zipfile.ZipFile(next(folder.glob(f"sglang-{version}-*.whl"))) as wheel:
            wheel.extractall(place)
        if BESIDE.get(version):
            subprocess.run(
                [*pip, "install", "--no-deps", "--target", place, *BESIDE[version]], check=True
            )
        found[version] = {"PYTHONPATH": str(place)}
    return found


def lines() -> list[tuple[str, list[str]]]:
    "A line for every stack that serves, plain and with all choices; the version that reads it."
    made = []
    for each in stacks().values():
        if each.refused:
            continue
        version = (
            each.version("sglang")
            if each.version("sglang") in ("0.5.3rc0", "0.5.16", "0.5.23")
            else "0.5.16"
        )  # those of the other stacks are not to be had without an NPU
        chosen = [
            Settings(),
            Settings(
                tensor_parallel=2,
                memory_fraction=0.8,
                context_length=4096,
                flags="--log-level warning",
            ),
        ]
        chosen += [
            Settings(preset=preset.name)
            for preset in presets().values()
            if each.name in preset.stacks
        ]
        chosen = [replace(one, model="models/m") for one in chosen]
        made += [(version, launch(one, Engine(CPU.machine, each), {}).line[3:]) for one in chosen]
    return made


@pytest.mark.parametrize(
    "version, line", lines(), ids=lambda value: value if isinstance(value, str) else str(len(value))
)
def test_sglangs_own_parser_takes_the_line(parsers, version, line):
    done = subprocess.run(
        [str(CPU.python), "-c", PARSER, *line],
        env={**os.environ, **stacks()["cpu"].environment, **parsers[version]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-600:]


def test_a_flag_that_does_not_exist_is_seen(parsers):
    for version, variables in parsers.items():
        done = subprocess.run(
            [str(CPU.python), "-c", PARSER, "--model-path", "/m", "--no-such-flag"],
            env={**os.environ, **stacks()["cpu"].environment, **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and "--no-such-flag" in done.stderr, version


def test_two_ranks_on_one_machine():
    server = begin(tensor_parallel=2)
    try:
        assert "你好" in reply(endpoint_of(server).openai, server.model_name)
    finally:
        serve.stop(server)


def test_two_nodes_on_loopback(model):
    port, meeting = free_port("127.0.0.1", 0), free_port("127.0.0.1", 0)
    chosen = settings(
        port=port, tensor_parallel=2, flags=f"--nnodes 2 --dist-init-addr 127.0.0.1:{meeting}"
    )
    nodes = []
    try:
        for rank in (0, 1):
            one = replace(
                chosen,
                flags=f"{chosen.flags} --node-rank {rank}",
                port=port if rank == 0 else free_port("127.0.0.1", 0),
            )
            made = launch(one, CPU)
            nodes.append(
                subprocess.Popen(
                    made.line,
                    env=made.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        born = [birth(node.pid) for node in nodes]
        talk = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="EMPTY",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )
        wait_for(lambda: answers(talk), 240, nodes)
        assert "你好" in reply(talk, chosen.model_name)
    finally:
        for node, when in zip(nodes, born):
            end_session(node.pid, when, grace=5)
        for node in nodes:
            node.wait()


def answers(openai_client) -> bool:
    try:
        return bool(openai_client.models.list().data)
    except openai.OpenAIError:
        return False


def wait_for(question, seconds: float, processes=()) -> None:
    deadline = time.monotonic() + patient(seconds)
    while not question():
        assert time.monotonic() < deadline and all(each.poll() is None for each in processes), (
            "it did not come up"
        )
        time.sleep(0.2)


def test_two_replicas_behind_the_router():
    first, second = (begin(server=name) for name in ("prove-serving", "prove-second"))
    port = free_port("127.0.0.1", 0)
    line = [
        str(CPU.python),
        "-m",
        "sglang_router.launch_router",
        "--worker-urls",
        first.url,
        second.url,
        "--policy",
        "round_robin",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    router = subprocess.Popen(
        line,
        env=launch(settings(), CPU).environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    born = birth(router.pid)
    routed = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="EMPTY",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    try:
        wait_for(lambda: answers(routed), 120, [router])
        before = [
            Path(each.log).read_text().count("POST /v1/chat/completions")
            for each in (first, second)
        ]
        for _ in range(4):
            assert "你好" in reply(routed, first.model_name)
        after = [
            Path(each.log).read_text().count("POST /v1/chat/completions")
            for each in (first, second)
        ]
        assert all(now > then for now, then in zip(after, before)), (
            before,
            after,
        )  # both have worked
    finally:
        end_session(router.pid, born, grace=5)
        router.wait()
        for each in (first, second):
            serve.stop(each)


def test_an_open_address_is_guarded_by_a_key_that_was_made():
    server = begin(host="0.0.0.0")
    try:
        made = made_key_file("prove-serving").read_text().strip()
        for process in (psutil.Process(pid) for pid in session_of(server.pid, server.born)):
            assert made not in " ".join(process.cmdline()) + str(process.environ())
        assert made not in Path(server.log).read_text(errors="replace") and "你好" in reply(
            endpoint_of(server).openai, server.model_name
        )
        codes = {
            path: status_of(f"{server.url}{path}")
            for path in (
                "/v1/models",
                "/get_server_info",
                "/health",
                "/health_generate",
                "/metrics",
            )
        }
        assert codes == {
            "/v1/models": 401,
            "/get_server_info": 401,
            "/health": 200,
            "/health_generate": 200,
            "/metrics": 200,
        }
    finally:
        serve.stop(server)
        made_key_file("prove-serving").unlink()


def status_of(url: str) -> int:
    import httpx

    return httpx.get(url, trust_env=False, timeout=patient(60)).status_code


@pytest.mark.parametrize("who", ["launcher", "scheduler", "detokenizer"])
def test_kill_9_of_each(who):
    "A part that is killed takes the server down, which is seen; the next start is a clean one."
    server = begin()
    family = {pid: psutil.Process(pid) for pid in session_of(server.pid, server.born)}
    victim = (
        server.pid
        if who == "launcher"
        else next(pid for pid, process in family.items() if who in " ".join(process.cmdline()))
    )
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    try:
        wait_for(lambda: serve.status("prove-serving")["state"] == "dead", 60)
        assert "Its last lines:" in serve.last_words(server.log)
    finally:
        serve.stop("prove-serving")
    print(f"{who} killed: the server had ended after {time.monotonic() - began:.0f} s")
    assert (
        session_of(server.pid, server.born) == {}
        and serve.status("prove-serving")["state"] == "stopped"
    )


def test_twenty_cycles():
    port = free_port("127.0.0.1", 0)
    seen = []
    for _ in range(20):
        server = begin(port=port)
        serve.stop(server)
        seen.append(
            (
                len(session_of(server.pid, server.born)),
                len(list((home() / "servers").glob("prove-serving*"))),
                len(list(Path("/dev/shm").glob("sglang_*"))),
            )
        )
        assert free_port("127.0.0.1", port) == port
    print(
        "20 cycles: processes, files, shared memory after the first "
        f"{seen[0]} and the last {seen[-1]}"
    )
    assert seen[-1] == seen[0] and seen[0][:2] == (0, 1)


def test_ready_is_seen_at_once():
    "Between the log's word, which is its last write then, and our seeing it."
    late = []
    log = home() / "logs" / "server-prove-serving.log"

    def watch(event):
        if (event.kind, event.name) == ("begun", "first token"):
            late.append(time.time() - log.stat().st_mtime)

    for _ in range(3):
        serve.stop(serve.start(launch(settings(), CPU), watch))
    print(f"seen {', '.join(f'{each:.2f}' for each in late)} s after it was written")
    assert max(late) < 0.2


def test_the_unit_is_sound_and_its_line_serves(tmp_path):
    made = launch(settings(port=free_port("127.0.0.1", 0)), CPU)
    unit = tmp_path / "qwen.service"
    command = str(Path(sys.executable).with_name("qwen-npu"))
    unit.write_text(handover.systemd_unit(made, command, "root"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert verified.returncode == 0 and not [
        line for line in verified.stderr.splitlines() if "qwen.service" in line
    ], verified.stderr
    text = unit.read_text()
    line = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])
    variables = (shlex.split(each)[0] for each in re.findall("^Environment=(.*)$", text, re.M))
    process = subprocess.Popen(
        line,
        env={**os.environ, **dict(each.split("=", 1) for each in variables)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=re.search("^WorkingDirectory=(.*)$", text, re.MULTILINE)[1],
    )
    try:
        assert any(serve.READY in each for each in process.stdout)
    finally:
        process.terminate()
        process.communicate(timeout=patient(30))
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_compose_file_fits_its_schema(tmp_path, host):
    "The compose specification's schema, as docker-compose 1.29.2 ships it."
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "--disable-pip-version-check",
            "download",
            "--no-deps",
            "-d",
            tmp_path,
            "docker-compose==1.29.2",
        ],
        check=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("docker_compose-*.whl"))) as wheel:
        schema = json.loads(wheel.read("compose/config/compose_spec.json"))
    machine = read_machine(replace(machines.A3, docker=True).host())
    image = Engine(machine, stacks()["cann-9.0-image"])
    for preset in (None, "w8a8-eagle3"):
        made = launch(settings(host=host, port=30000, preset=preset), image)
        jsonschema.validate(json.loads(handover.compose_file(made)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"qwen": {"imagee": "x"}}}, schema)
    for file in (key_file("prove-serving-compose"), made_key_file("prove-serving")):
        file.unlink(missing_ok=True)


def test_keys_files_are_gone():
    assert not key_file("prove-serving").exists()
    assert json.loads(json.dumps(serve.status("prove-serving")))["state"] == "stopped"
