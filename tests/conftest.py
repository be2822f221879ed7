"Fixtures: a private folder for engines and models, a running service, a browser, the built docs."

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import SLOW, patient

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "tests/screenshots"
sys.path.insert(0, str(ROOT / "tools"))  # tests of the tools import them by name
sys.path.insert(0, str(ROOT / "tests/support"))  # what tests share, by name too
# A shell starts a background job with SIGINT ignored, and so would be every process that a test
# means to stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    "Each test's time limit (pytest-timeout), longer on a slow machine."
    if SLOW == 1:
        return
    usual = float(config.getoption("timeout") or config.getini("timeout") or 0)  # 0: no limit
    for item in items:
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
    for name in ("MODEL", "PORT", "STACK", "SERVER", "HOST", "API_KEY", "URL"):
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
    from qwen_npu_tut.serve import READY, Server
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


@pytest.fixture(scope="session")
def live_server():
    'The service "test": that of `make test`, else one that is started and stopped here.'
    from qwen_npu_tut.serve import find

    own = {
        "QWEN_NPU_SERVER": "test",
        "QWEN_NPU_PORT": "0",
        "QWEN_NPU_STACK": "cpu",
        "QWEN_NPU_API_KEY": os.environ.get("QWEN_NPU_API_KEY", "sk-test"),
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    command = shutil.which("qwen-npu", path=str(Path(sys.executable).parent))
    started_here = find("test") is None
    try:
        if started_here:
            up = subprocess.run(
                [command, "up", "--yes"], stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if up.returncode:
                pytest.fail(f"no service could be started: {up.stdout[-2000:]}{up.stderr[-2000:]}")
        yield find("test")
    finally:
        if started_here and command:
            subprocess.run([command, "stop"], capture_output=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def browser():
    "Debian's Chromium, driven by Playwright: nothing is downloaded."
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not chromium:
        pytest.skip("Chromium is not here: make browser installs it on Debian")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots():
    "Where pictures are kept for people to look at."
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def docs(tmp_path_factory):
    "The docs site: the one that `make test` has just built, else one built here."
    if os.environ.get("QWEN_NPU_DOCS"):
        return Path(os.environ["QWEN_NPU_DOCS"])
    out = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "tools/build_docs.py", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if not (out / "index.html").exists():
        pytest.fail(f"the docs could not be built: {built.stderr[-2000:]}")
    return out
