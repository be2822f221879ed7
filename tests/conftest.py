"Fixtures: a private folder for engines and models, a running service, a browser, the built docs."

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import SLOW, patient

# These assert too: a failure shows the values, as in a test.
pytest.register_assert_rewrite("lab", "npu_plans", "outcomes", "panel_page")
ROOT = Path(__file__).resolve().parent.parent
# A shell starts a background job with SIGINT ignored, and so would be every process that a test
# means to stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What is compared is English, whatever the developer's own machine speaks.
os.environ["QWEN_NPU_LANG"] = "en"


def pytest_collection_modifyitems(config, items):
    "A tier's marker from its folder; each test's time limit, longer on a slow machine."
    usual = float(config.getoption("timeout") or config.getini("timeout") or 0)  # 0: no limit
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(getattr(pytest.mark, tier))
        if SLOW == 1:
            continue
        own = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout(patient(own.args[0] if own else usual)), append=False)


@pytest.fixture
def private_home(tmp_path, monkeypatch):
    "An empty $QWEN_NPU_HOME, so that a test neither sees nor leaves anything in the user's."
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    "Call the command in this process with a home of its own; gives exit code, stdout and stderr."
    from qwen_npu_tut.faces import cli

    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home"))
    for name in ("MODEL", "PORT", "STACK", "SERVER", "HOST", "API_KEY", "URL", "MACHINE", "YES"):
        monkeypatch.delenv(f"QWEN_NPU_{name}", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["qwen-npu", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def server(monkeypatch):
    "A simulated Ascend server with docker."
    from dataclasses import replace

    import machines

    from qwen_npu_tut import walk
    from qwen_npu_tut.host.machine import read_machine

    machine = read_machine(replace(machines.A3, docker=True).host())
    monkeypatch.setattr(walk, "read_machine", lambda host: machine)
    return machine


@pytest.fixture
def serving(tmp_path, private_home):
    "A function that starts the stand-in for an engine (fake_engine.py), as `start` would."
    from qwen_npu_tut.server.launch import hand_over_key
    from qwen_npu_tut.server.processes import free_port
    from qwen_npu_tut.server.lifecycle import READY, Server
    from qwen_npu_tut.base.settings import Settings

    running = []

    def begin(key=None, name="tested", **faults):
        port = free_port("127.0.0.1", 0)
        hand_over_key(Settings(server=name, api_key=key))
        line = [
            sys.executable,
            str(Path(__file__).parent / "support" / "fake_engine.py"),
            "--served-model-name",
            "weird name",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        if key:
            line += ["--config", str(private_home / "servers" / f"{name}.yaml")]
        log = tmp_path / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                line,
                stdout=out,
                stderr=out,
                env={
                    **os.environ,
                    "FAKE_ENGINE": json.dumps({"seconds": 0.01, "children": 0, **faults}),
                },
            )
        running.append(process)
        deadline = time.monotonic() + patient(15)
        while READY not in log.read_text(errors="replace"):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        return Server(
            name, "weird name", f"http://127.0.0.1:{port}", process.pid, "", "", str(log), (), 0.0
        )

    yield begin
    for process in running:
        process.kill()
        process.wait()
