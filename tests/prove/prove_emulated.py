"""An emulated NPU beside the CPU engine, the long way: about half an hour on 2 cores.

The same thirty replies, native and mapped, on one device and on two, with graphs and without; a
recorded server's line, started; a thousand requests and a hundred that are given up; and what goes
wrong. Run by `make prove`, which has installed the CPU engine. It says nothing of a real NPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import thirty
from patience import patient
from shared import share_engine

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.settings import home
from qwen_npu_tut.server.client import endpoint_of
from qwen_npu_tut.contract import answer_of
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine, stack_folder
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.processes import session_of
from qwen_npu_tut.walk import choose, serving

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("qwen-npu"))
EMULATED = Engine(read_machine(Host()), stacks()["emulated"])
TIMES: dict[str, float] = {}  # seconds from the start to the first token


@pytest.fixture(scope="module", autouse=True)
def engine():
    "The emulated stack, installed."
    line = [COMMAND, "install", "--stack", "emulated"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def timed(stack: str, name: str, environment: dict | None = None, **settings):
    "A server, and how long its second start took: the first fills the caches of the system."
    if name not in TIMES:
        with thirty.served(stack, name, environment, **settings):
            TIMES[name] = 0
    began = time.monotonic()
    server = thirty.served(stack, name, environment, **settings)
    found = server.__enter__()
    TIMES[name] = time.monotonic() - began
    return server, found


@pytest.fixture(scope="module")
def cpu_replies():
    "What the CPU engine answers today, and how long it took to start."
    server, found = timed("cpu", "prove-cpu")
    try:
        return thirty.answers(endpoint_of(found))
    finally:
        server.__exit__(None, None, None)


def test_the_replies_are_the_cpu_engines(cpu_replies):
    server, found = timed("emulated", "prove-native")
    try:
        service = endpoint_of(found)
        replies = thirty.answers(service)
        least = min((thirty.clearness(service, name), name) for name in thirty.REQUESTS)
    finally:
        server.__exit__(None, None, None)
    cpu, native = TIMES["prove-cpu"], TIMES["prove-native"]
    print(f"\nstart: CPU engine {cpu:.1f} s, emulated {native:.1f} s, {native / cpu:.2f}x")
    print(f"the likeliest token led by {least[0]:.3f} at least, in {least[1]!r}")
    assert len(replies) == 30 and not thirty.differing(replies, cpu_replies)
    assert not thirty.differing(cpu_replies, json.loads(thirty.RECORDED.read_text("utf8")))
    assert least[0] > 1


def test_mapped_says_the_same_but_for_what_a_grammar_holds(cpu_replies):
    mapped = {"NPU_EMULATED_DEVICE": "mapped"}
    with thirty.served("emulated", "prove-mapped", mapped) as server:
        replies = thirty.answers(endpoint_of(server), but=thirty.CONSTRAINED)
    assert len(replies) == 30 - len(thirty.CONSTRAINED) == 25
    wanted = {name: reply for name, reply in cpu_replies.items() if name in replies}
    assert not thirty.differing(replies, wanted)


@pytest.mark.parametrize("flags", ["", "--disable-cuda-graph"], ids=["graphs", "no graphs"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_two_devices_say_what_one_says(cpu_replies, ranks, flags):
    more = {"tensor_parallel": ranks, "flags": flags or None}
    with thirty.served("emulated", "prove-ranks", **more) as server:
        replies = thirty.answers(endpoint_of(server))
        log = Path(server.log).read_text(encoding="utf8", errors="replace")
    assert ("TP1" in log, "npu graph: True" in log) == (ranks == 2, not flags)
    assert not thirty.differing(replies, cpu_replies)


@pytest.mark.parametrize("name", ["a2", "a3"])
def test_a_recorded_servers_line_is_started(cpu_replies, name):
    record = read_record(ROOT / f"qwen_npu_tut/machines/{name}.json")
    more = {"max_total_tokens": 4096, "flags": "--cuda-graph-max-bs-decode 8"}
    choice = choose(record, stack="emulated", server="prove-record", port=0, **more)
    server = serve.start(serving(choice))
    try:
        service = endpoint_of(server)
        found = {each: thirty.answer(service, each) for each in ("greeting", "schema, English")}
    finally:
        serve.stop(server)
    assert found == {each: cpu_replies[each] for each in found}


def resident(server: serve.Server) -> dict[str, float]:
    "Megabytes of each process of a server."
    family = [psutil.Process(pid) for pid in session_of(server.pid, server.born)]
    names = {each.pid: (each.cmdline() or ["?"])[0] for each in family}
    return {
        f"{Path(names[each.pid]).name} {each.pid}": each.memory_info().rss / 1e6 for each in family
    }


def given_up(service) -> None:
    "A long reply whose reader goes away after the first piece."
    endless = {"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}}
    stream = service.openai.chat.completions.create(
        model=service.model,
        messages=[{"role": "user", "content": "你好！"}],
        max_tokens=4000,
        stream=True,
        extra_body=endless,
    )
    with stream:
        next(iter(stream))


def running(service) -> float:
    "How many requests the scheduler works on, by its own metrics."
    rows = service.http.get("/metrics").text.splitlines()
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows if "sglang:num_running_reqs{" in row)


def load(service, requests: int, aborts: int) -> None:
    "So many requests, eight at once, and so many that are given up among them."
    names = [*thirty.RAGGED, "schema, English", "tool, must be called"]
    every = requests // aborts

    def one(number: int) -> None:
        thirty.ask(service, names[number % len(names)], max_tokens=8)
        if number % every == 0:
            given_up(service)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(requests)))


def test_a_thousand_requests_and_a_hundred_given_up_leave_nothing():
    # A small cache, so that it is in memory whole before the first look.
    with thirty.served("emulated", "prove-leaks", max_total_tokens=4096) as server:
        service = endpoint_of(server)
        load(service, 300, 30)
        before = resident(server)
        load(service, 1000, 100)
        deadline = time.monotonic() + patient(60)
        while running(service) and time.monotonic() < deadline:
            time.sleep(0.2)
        after = resident(server)
        grown = {name: after[name] - before[name] for name in before}
        print("\nMB:", {name: (round(after[name]), round(grown[name], 1)) for name in grown})
        assert running(service) == 0 and before.keys() == after.keys()
        # SGLang's gauge is renewed now and then: a reply may be over before it is seen to run.
        assert answer_of(service, "abort-frees-the-slot").result != "fail"
        with ThreadPoolExecutor(32) as pool:  # every slot takes a request
            texts = list(pool.map(lambda _: thirty.answer(service, "greeting")["said"], range(32)))
        assert len({*texts}) == 1
    assert all(each < 20 for each in grown.values()), grown


# What goes wrong


@pytest.fixture
def other(tmp_path):
    "A home with the CPU engine's files and the model, and no emulated engine yet."
    (tmp_path / "home/stacks").mkdir(parents=True)
    share_engine(home() / "stacks", tmp_path / "home/stacks")
    shutil.copytree(home() / "models", tmp_path / "home/models", symlinks=True)
    yield tmp_path / "home"
    stop = [COMMAND, "down"]
    subprocess.run(stop, env={**os.environ, "QWEN_NPU_HOME": str(tmp_path / "home")})


def install(there: Path, **variables: str) -> subprocess.CompletedProcess:
    "`qwen-npu install --stack emulated` into another home."
    line = [COMMAND, "install", "--stack", "emulated"]
    environment = {**os.environ, "QWEN_NPU_HOME": str(there), **variables}
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def devices(there: Path) -> set[str]:
    "What lies in an engine's folder of built devices."
    folder = there / "stacks/emulated/env/npu-device"
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def path_without(folder: Path, *names: str) -> str:
    "A PATH with all that is in this one but some commands."
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for file in Path(place).iterdir() if Path(place).is_dir() else ():
            if file.name not in names:
                with suppress(FileExistsError):
                    (folder / file.name).symlink_to(file)
    return str(folder)


def test_without_a_compiler_it_is_mapped_and_says_so(other, tmp_path, monkeypatch):
    done = install(other, PATH=path_without(tmp_path / "bin", "g++", "c++"), CXX="g++")
    assert done.returncode == 0, done.stdout + done.stderr
    assert devices(other) == {"made", "made-of"}
    made = other / "stacks/emulated/env/npu-device/made"
    assert made.read_text() == "mapped\n"
    monkeypatch.setenv("QWEN_NPU_HOME", str(other))
    with thirty.served("emulated", "prove-no-compiler") as server:
        said = thirty.answer(endpoint_of(server), "greeting")["said"]
        log = Path(server.log).read_text(encoding="utf8", errors="replace")
    assert "教学模型" in said and log.count("The emulated NPU is mapped") == 1


def test_a_compiler_that_fails_leaves_nothing_and_the_next_run_builds(other):
    failed = install(other, CXX="false")
    assert failed.returncode == 1 and "Traceback" not in failed.stdout + failed.stderr
    assert "false failed with 1 on device.cpp" in failed.stdout + failed.stderr
    assert devices(other) == set()
    again = install(other)
    assert again.returncode == 0, again.stdout + again.stderr
    version = stacks()["cpu"].version("torch")
    assert "made" in devices(other) and any(each.startswith(version) for each in devices(other))


def test_a_library_for_another_torch_is_not_taken(other, monkeypatch):
    done = install(other)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = other / "stacks/emulated/env/npu-device"
    (library,) = folder.glob("*.so")
    library.rename(folder / "2.6.0.so")
    python = other / "stacks/emulated/env/bin/python"
    ask = "import torch; print(torch.ones(1, device='npu').device)"

    def asked(**variables: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "NPU_EMULATED": "1", **variables}
        return subprocess.run([python, "-c", ask], env=environment, capture_output=True, text=True)

    mapped = asked()
    assert mapped.stdout == "cpu\n" and "The emulated NPU is mapped" in mapped.stderr
    native = asked(NPU_EMULATED_DEVICE="native")
    assert native.returncode == 1 and f"there is no {library}" in native.stderr
    # And the plan sees that the device is not whole: it is built again.
    assert install(other).returncode == 0 and library.is_file()
    assert asked().stdout == "npu:0\n"


def nothing_is_left(name: str, known: set[int]) -> None:
    "No server of that name lives, and no process that was not there before."
    assert serve.status(name)["state"] in ("stopped", "dead") and serve.find(name) is None
    deadline = time.monotonic() + patient(30)
    while (left := engines() - known) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, [psutil.Process(pid).cmdline() for pid in left]


def engines() -> set[int]:
    "The processes of emulated engines."
    found = set()
    for each in psutil.process_iter(["status", "environ"]):
        emulated = (each.info["environ"] or {}).get("NPU_EMULATED") == "1"
        if emulated and each.info["status"] != psutil.STATUS_ZOMBIE and each.pid != os.getpid():
            found.add(each.pid)
    return found


def test_more_ranks_than_devices(capfd):
    known, one = engines(), {"NPU_EMULATED_COUNT": "1"}
    with pytest.raises(Problem) as ended:
        with thirty.served("emulated", "prove-one", one, tensor_parallel=2):
            pass
    assert "(emulated): the devices are 0 to 0." in str(ended.value)
    nothing_is_left("prove-one", known)


def test_killed_in_a_capture(monkeypatch):
    name, known = "prove-killed", engines()
    library = next((stack_folder("emulated") / "env/npu-device").glob("*.so"))
    before = (library.stat().st_mtime_ns, library.stat().st_size)
    choice = choose(stack="emulated", server=name, port=0)
    own = {"QWEN_NPU_SERVER": name, "QWEN_NPU_PORT": "0", "QWEN_NPU_STACK": "emulated"}
    log = home() / "logs" / f"server-{name}.log"
    log.unlink(missing_ok=True)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([COMMAND, "serve"], env={**os.environ, **own}, **streams) as serving_it:
        deadline = time.monotonic() + patient(300)
        while not (log.is_file() and "Capture target decode NPU graph begin" in log.read_text()):
            assert time.monotonic() < deadline and serving_it.poll() is None
            time.sleep(0.01)
        assert "Capture target decode NPU graph end" not in log.read_text()
        server = serve.find(name)
        os.kill(server.pid, signal.SIGKILL)
        told = serving_it.stderr.read()
    assert serving_it.returncode == 1 and "Traceback" not in told and "ended" in told
    nothing_is_left(name, known)
    assert (library.stat().st_mtime_ns, library.stat().st_size) == before
    assert {each.name for each in library.parent.iterdir()} == {library.name, "made", "made-of"}
    again = serve.start(serving(replace(choice)))
    try:
        assert "教学模型" in thirty.answer(endpoint_of(again), "greeting")["said"]
    finally:
        serve.stop(again)
    nothing_is_left(name, known)
