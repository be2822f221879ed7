"Starting, waiting and stopping, with a stand-in for the engine: see fake_engine.py."

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import machines
import pytest
from patience import patient, until
from starts import CPU, made, start

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.engine.image import interpreter_text
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.model.folder import Receipt, keep, listed
from qwen_npu_tut.server import processes
from qwen_npu_tut.server.launch import container_name, key_file, launch
from qwen_npu_tut.server.processes import birth, session_of


def launch_only(settings, engine, **faults):
    "What a start leaves that is killed right after the launch: a server, and nobody who waits."
    chosen = replace(settings, port=serve.free_port(settings.host, 0))
    return serve._begin(made(chosen, engine, **faults))


def test_start_and_stop(settings, engine, private_home):
    events = []
    server = serve.start(made(settings, engine), tell=events.append)
    assert [event.name for event in events if event.kind == "done"] == [
        "imports",
        "weights",
        "KV cache",
        "warm-up",
        "first token",
    ]
    assert len(session_of(server.pid, server.born)) == 3
    assert serve.status("tested") == {
        "state": "running",
        "url": server.url,
        "pid": server.pid,
        "model": "model",
        "log": server.log,
        "planned": {},
        "printed": {},
    }
    assert oct(serve.SERVERS.file("tested").stat().st_mode & 0o777) == "0o600"
    assert os.getsid(server.pid) == server.pid != os.getsid(0)
    assert serve.stop("tested") is True
    assert session_of(server.pid, server.born) == {}
    assert serve.status("tested")["state"] == "stopped" and serve.stop("tested") is False
    assert sorted(path.name for path in (private_home / "servers").iterdir()) == ["tested.lock"]


def test_twice_is_the_same_server(settings, engine):
    first = start(settings, engine)
    port = int(first.url.rpartition(":")[2])
    assert start(settings, engine) == first
    assert start(replace(settings, port=port), engine) == first
    with pytest.raises(
        Problem, match="other settings: --context-length is not set there and 512 here"
    ):
        start(replace(settings, context_length=512), engine)
    with pytest.raises(Problem, match="already runs with other settings"):
        start(replace(settings, served_name="other"), engine)
    assert first.alive


def test_a_server_whose_model_was_replaced_is_named(settings, engine):
    folder = Path(settings.model)

    def downloaded(config: str) -> None:
        (folder / "config.json").write_text(config)
        keep(Receipt("owner/name", str(folder.resolve()), "a hub", "main", listed(folder)))

    downloaded("{}")
    first = start(settings, engine)
    assert serve.outdated(folder) == [] and start(settings, engine) == first
    downloaded('{"another": "model"}')
    assert serve.outdated(folder) == [first]
    with pytest.raises(Problem, match="serves the model that lay in .* when it started"):
        start(settings, engine)
    assert first.alive and serve.status("tested")["state"] == "running"
    serve.stop("tested")
    start(settings, engine)
    assert serve.outdated(folder) == []


START = """
import sys, types
from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.launch import launch
model, python = sys.argv[1:3]
serve.verify = lambda path, depth: types.SimpleNamespace(or_problem=lambda: None)
chosen = Settings(model=model, port=0, server="tested")
made = launch(chosen, Engine(read_machine(Host()), stacks()["cpu"]), python=python)
print(serve.start(made, tell=lambda event: print(event.kind, event.name, flush=True)).pid)
"""


def start_elsewhere(settings, engine, **faults):
    "A start in a process of its own."
    return subprocess.Popen(
        [sys.executable, "-c", START, settings.model, str(engine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "FAKE_ENGINE": json.dumps(faults)},
        start_new_session=True,
    )


def test_model_removed_while_it_serves(settings, engine, monkeypatch):
    "What is loaded goes on answering; the next start says what is missing."
    from qwen_npu_tut.model.folder import verify

    server = start(settings, engine)
    shutil.rmtree(settings.model)
    assert serve.status("tested")["state"] == "running"
    monkeypatch.setattr(serve, "verify", verify)
    with pytest.raises(Problem, match="neither a folder nor|There is no folder"):
        start(settings, engine)
    assert server.alive


def test_log_removed_while_it_serves(settings, engine):
    server = start(settings, engine)
    Path(server.log).unlink()
    assert start(settings, engine) == server


def test_two_at_the_same_instant(settings, engine):
    both = [start_elsewhere(settings, engine, seconds=0.3) for _ in range(2)]
    said = [process.communicate(timeout=patient(30))[0].split("\n") for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({lines[-2] for lines in said}) == 1  # one pid
    assert sum("waiting " in lines for lines in said) == 1


def test_port_taken(settings, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Problem) as problem:
            start(replace(settings, port=port), engine)
    assert (
        f"Port {port} is taken by process {os.getpid()} (" in problem.value.what
        and "--port 0" in problem.value.fix
    )
    assert not serve.SERVERS.file("tested").exists()


def test_port_promised_to_a_server_that_still_loads(settings, engine):
    loading = launch_only(settings, engine, hang="weights")
    port = int(loading.url.rpartition(":")[2])
    with pytest.raises(Problem, match=f"taken by the server 'tested' .process {loading.pid}"):
        start(replace(settings, server="second", port=port), engine)


@pytest.mark.parametrize("phase", ["imports", "weights", "KV cache", "warm-up"])
def test_died_at_a_phase(settings, engine, phase, monkeypatch):
    launched = []
    monkeypatch.setattr(
        serve,
        "_begin",
        lambda given, begin=serve._begin: launched.append(begin(given)) or launched[0],
    )
    with pytest.raises(Problem) as problem:
        start(settings, engine, die=phase)
    assert f"while it was at: {phase}" in problem.value.what
    assert (
        f"it died on purpose at {phase}" in problem.value.fix
        and "server-tested.log" in problem.value.fix
    )
    assert session_of(launched[0].pid, launched[0].born) == {}  # its orphans too
    assert serve.status("tested")["state"] == "stopped"


def test_a_server_that_died_says_its_known_cause(settings, engine):
    with pytest.raises(Problem) as problem:
        start(settings, engine, die="imports", said="SafetensorError: HeaderTooLarge")
    assert "damaged" in problem.value.fix.splitlines()[0] and "qwen-npu verify" in problem.value.fix


def test_no_part_of_an_npu_explains_a_server_without_one(settings, engine):
    said = "ImportError: libhccl.so: cannot open shared object file: No such file or directory"
    with pytest.raises(Problem) as problem:
        start(settings, engine, die="imports", said=said)
    assert problem.value.fix.startswith("The shared library libhccl.so is not found")
    assert "CANN" not in problem.value.fix


def test_died_after_it_was_ready(settings, engine):
    with pytest.raises(Problem, match="made no token"):
        start(settings, engine, die="ready")
    assert serve.status("tested")["state"] == "stopped"


def test_never_ready(settings, engine):
    with pytest.raises(
        Problem, match=f"not ready after {patient(1):.0f} seconds; it was at: weights"
    ):
        serve.start(made(settings, engine, hang="KV cache"), timeout=patient(1))
    assert serve.status("tested")["state"] == "stopped"


def test_ready_and_silent(settings, engine):
    with pytest.raises(Problem, match="said that it is ready, and made no token"):
        serve.start(made(settings, engine, silent=True), timeout=patient(2))
    assert serve.status("tested")["state"] == "stopped"


def test_launcher_killed(settings, engine):
    server = start(settings, engine)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive)
    assert serve.status("tested")["state"] == "dead"
    assert len(session_of(server.pid, server.born)) == 2  # orphans
    assert serve.stop("tested") is True
    assert session_of(server.pid, server.born) == {}


def test_start_after_a_dead_server_clears_its_orphans(settings, engine):
    first = start(settings, engine)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not first.alive)
    second = start(settings, engine)
    assert second.pid != first.pid and session_of(first.pid, first.born) == {}
    assert Path(second.log).with_suffix(".previous.log").is_file()


def test_deaf_server_is_ended_by_force(settings, engine):
    server = start(settings, engine, deaf=True)
    assert serve.stop(server, grace=0.5) is True
    assert session_of(server.pid, server.born) == {}


@pytest.mark.parametrize("born", ["another-boot 1", ""], ids=["another boot", "no birth"])
def test_document_of_another_process(settings, engine, born):
    "The number that was written down is a living process, but not ours: it must survive."
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        boot, _, ticks = birth(bystander.pid).rpartition(" ")
        facts = {
            "record": "tested",
            "name": "m",
            "url": "http://127.0.0.1:1",
            "pid": bystander.pid,
            "born": born or f"{boot} {int(ticks) - 1}",
            "model": "m",
            "log": "/dev/null",
            "line": [],
            "started": 0,
        }
        write_atomic(serve.SERVERS.file("tested"), json.dumps(facts))
        assert serve.find("tested") is None and serve.status("tested")["state"] == "dead"
        assert serve.stop("tested") is False and not serve.SERVERS.file("tested").exists()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "line": 3}', "\x00\xff"]
)
def test_damaged_document(settings, engine, text):
    write_atomic(serve.SERVERS.file("tested"), text)
    assert (
        serve.status("tested")["state"] == "stopped"
        and serve.find("tested") is None
        and serve.stop("tested") is False
    )
    assert start(settings, engine).alive


@pytest.mark.parametrize("phase", ["weights", "KV cache", "warm-up", "ready"])
def test_interrupted_start_stops_its_server(settings, engine, phase):
    starting = start_elsewhere(settings, engine, hang=phase)
    until(lambda: serve.find("tested"))
    server = serve.find("tested")
    until(lambda: starting.stdout.readline() == "begun imports\n")
    os.kill(starting.pid, signal.SIGINT)
    starting.communicate(timeout=patient(20))
    assert (
        session_of(server.pid, server.born) == {} and serve.status("tested")["state"] == "stopped"
    )


@pytest.mark.slow
def test_killed_start_leaves_a_server_that_is_found(settings, engine):
    starting = start_elsewhere(settings, engine, seconds=0.6)
    until(lambda: serve.find("tested"))
    os.kill(starting.pid, signal.SIGKILL)
    starting.communicate()
    server = serve.find("tested")
    assert serve.status("tested")["state"] == "starting"
    assert start(settings, engine) == server and serve.status("tested")["state"] == "running"


def test_key_is_used_and_not_shown(settings, engine):
    guarded = replace(settings, api_key="sk-very-secret")
    server = start(guarded, engine)
    assert "sk-very-secret" not in Path(f"/proc/{server.pid}/cmdline").read_text() + Path(
        f"/proc/{server.pid}/environ"
    ).read_text(errors="replace")
    written = Path(server.log).read_text() + serve.SERVERS.file("tested").read_text()
    assert "sk-very-secret" not in written + repr(server)
    assert start(guarded, engine) == server
    with pytest.raises(Problem, match="its engine or its key"):
        start(replace(settings, api_key="another"), engine)
    serve.stop(server)
    assert not key_file("tested").exists()


def test_refusals_start_nothing(settings, engine, tmp_path, private_home):
    for wrong, python, words in (
        (replace(settings, flags="--api-key x"), engine, "does not belong"),
        (settings, tmp_path / "none", "is not installed"),
    ):
        with pytest.raises(Problem, match=words):
            start(wrong, python)
    assert not list(private_home.glob("servers/*.json"))


def test_foreground_beside_a_running_server(settings, engine):
    server = start(replace(settings, api_key="sk-kept"), engine)
    with pytest.raises(Problem, match=f"already runs, as process {server.pid}"):
        serve.foreground(made(settings, engine))
    assert key_file("tested").exists()


def test_foreground_becomes_the_server(settings, engine):
    code = re.sub(r"print\(serve.start.*", "serve.foreground(made)", START)
    process = subprocess.Popen(
        [sys.executable, "-c", code, settings.model, str(engine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert any(serve.READY in line for line in process.stdout)
    finally:
        process.terminate()
        process.communicate(timeout=patient(10))


OLD = {  # as the release before wrote it: `record` is the server, `name` the model
    "record": "tested",
    "name": "Qwen3-8B",
    "url": "http://127.0.0.1:30000",
    "model": "/models/Qwen3-8B",
    "log": "/dev/null",
    "line": ["python", "-m", "sglang.launch_server"],
    "started": 1.0,
}


def test_a_server_of_the_release_before_is_known_and_stopped(private_home):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        old = {**OLD, "pid": process.pid, "born": birth(process.pid)}
        write_atomic(serve.SERVERS.file("tested"), json.dumps(old))
        server = serve.find("tested")
        assert (server.name, server.model_name, server.container) == ("tested", "Qwen3-8B", "")
        assert serve.running() == [server]
        assert serve.status("tested") == {
            "state": "starting",
            "url": "http://127.0.0.1:30000",
            "pid": process.pid,
            "model": "Qwen3-8B",
            "log": "/dev/null",
            "planned": {},
            "printed": {},
        }
        assert serve.stop("tested") is True and process.wait() == -signal.SIGTERM
        assert not serve.SERVERS.file("tested").exists()
    finally:
        process.kill()
        process.wait()


IMAGE_PYTHON = "/home/a/stacks/cann-9.0-image/env/bin/python"


@pytest.mark.parametrize(
    "facts, removed",
    [
        ({**OLD, "line": [IMAGE_PYTHON]}, "its own"),  # an older one named no container
        ({**OLD, "line": ["/home/a/stacks/cann-9.0/env/bin/python"]}, None),
        ({"name": "tested", "model_name": "m", "container": "named"}, "named"),
        ({"name": "tested", "model_name": "m", "line": [IMAGE_PYTHON]}, None),  # only a path
    ],
)
def test_a_container_is_removed_by_its_name(private_home, monkeypatch, facts, removed):
    gone = []
    monkeypatch.setattr(serve, "remove_container", gone.append)
    rest = {name: OLD[name] for name in ("url", "model", "log", "line", "started")}
    document = {**rest, "pid": 1, "born": "another-boot 1", **facts}
    write_atomic(serve.SERVERS.file("tested"), json.dumps(document))
    assert serve.stop("tested") is False
    own = container_name("tested") if removed == "its own" else removed
    assert gone == ([own] if own else [])


def test_a_draft_model_has_to_be_whole_too(settings, engine, monkeypatch, private_home):
    asked = []

    class Missing(Exception):
        pass

    def verify(folder, depth):
        asked.append(str(folder))
        if "Eagle3" in str(folder):
            raise Missing
        return types.SimpleNamespace(or_problem=lambda: None)

    monkeypatch.setattr(serve, "verify", verify)
    npu = Engine(CPU.machine, stacks()["cann-9.0"])
    guessing = replace(settings, preset="w8a8-eagle3")
    with pytest.raises(Missing):
        serve.start(launch(guessing, npu, python=engine))
    assert len(asked) == 2 and not list(private_home.glob("servers/*.json"))


def test_a_server_works_in_our_folder_whoever_starts_it(settings, engine, private_home):
    server = start(settings, engine)
    assert Path(f"/proc/{server.pid}/cwd").resolve() == private_home.resolve()


def test_an_open_address_without_a_key_gets_one_made(settings, engine, private_home):
    server = start(replace(settings, host="0.0.0.0"), engine)
    assert server.url.startswith("http://127.0.0.1:") and "--config" in server.line
    assert start(replace(settings, host="0.0.0.0"), engine) == server  # with the same key
    assert serve.stop(server)


def test_the_handle_of_one_that_ended_is_not_kept(settings, engine):
    for _ in range(3):
        serve.stop(start(settings, engine))
    start(settings, engine)
    assert len(processes._HANDLES) == 1


def test_a_container_is_given_the_draft_model_too(docker, settings):
    "Run with a stand-in for docker; nothing here was run on an NPU."
    machine = read_machine(replace(machines.A2, docker=True, canns=(), nnal="").host())
    image = Engine(machine, stacks()["cann-9.0-image"])
    (docker / "images").mkdir()
    (docker / "images" / image.stack.images["A2"].replace("/", "_")).touch()
    write_atomic(image.python, interpreter_text(machine, image.stack), 0o755)
    made = launch(replace(settings, preset="w8a8-eagle3"), image)
    made.draft.mkdir(parents=True)  # the stand-in looks whether a path of the line was given
    server = serve.start(made)
    given = json.loads((docker / "last.json").read_text())["given"]
    read_only = {each for each in given["--volume"] if each.endswith(":ro")}
    assert {f"{folder}:{folder}:ro" for folder in made.folders} < read_only
    assert server.container == container_name("tested") == given["--name"][0]
    assert serve.stop(server) and not list(docker.glob("containers/*"))
