"A home that commit 48de023 made, with its server running, is taken over: see support/old_home.py."

import json
import os
import socket
import sys
from dataclasses import replace

import old_home
import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.server.launch import key_of, made_key_file, with_key
from qwen_npu_tut.faces.jobs import find_job
from qwen_npu_tut.rehearsal.hub import Hub
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.faces.panel import kept
from qwen_npu_tut.server.processes import free_port, session_of
from qwen_npu_tut.base.settings import read_settings

# Settings that have another name now, by the name that the old commit gave them.
RENAMED = {"endpoint": "hub"}
OLD_SETTINGS = json.loads((old_home.FORM / "settings.json").read_text())
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    "Whoever asks another machine fails: here at the socket, elsewhere since nobody listens there."
    for name in (
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "http_proxy",
        "https_proxy",
        "MODELSCOPE_ENDPOINT",
        "HF_ENDPOINT",
    ):
        monkeypatch.setenv(name, NOBODY)
    monkeypatch.delenv("QWEN_NPU_ENDPOINT", raising=False)
    connect = socket.socket.connect

    def only_here(self, address):
        here = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1")
        assert here, f"somebody asked {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


@pytest.fixture
def home(run, tmp_path, monkeypatch):
    "The old home as $QWEN_NPU_HOME, on the kind of machine that it was recorded on."
    machine = replace(
        read_machine(Host()),
        architecture="x86_64",
        python="3.11",
        makers={"python3.11": sys.executable},
    )
    monkeypatch.setattr(walk, "read_machine", lambda host: machine)
    monkeypatch.setenv("QWEN_NPU_STACK", "cpu")
    monkeypatch.setenv("QWEN_NPU_MODEL", old_home.MODEL)
    monkeypatch.setenv("QWEN_NPU_PORT", "0")
    monkeypatch.setenv("QWEN_NPU_SERVER", "default")
    yield old_home.lay(tmp_path / "home")
    run("stop")


@pytest.fixture
def server(home):
    "The process of its server."
    process = old_home.begin(home, free_port("127.0.0.1", 0))
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def untouched(home):
    "What would differ if a file of the model had been written again."
    found = {file.name: file.stat() for file in (home / old_home.MODEL_FOLDER).iterdir()}
    return {name: (each.st_ino, each.st_mtime_ns) for name, each in found.items()}


def test_status(run, server, home):
    code, out, err = run("status", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["state"], found["pid"], found["model"]) == ("running", server.pid, "tiny")
    assert found["log"] == str(home / "logs/server-default.log")
    assert found["url"].startswith("http://127.0.0.1:")
    code, out, _ = run("logs", "-n", "5")
    assert code == 0 and old_home.READY in out


def test_chat(run, server):
    code, out, err = run("chat", "你好")
    assert code == 0 and "echo: 你好" in out, err


def test_stop_ends_all_of_it(run, server, home):
    family = session_of(server.pid, old_home.born(server.pid))
    assert len(family) == 3
    code, out, err = run("stop")
    assert (code, out) == (0, "Stopped.\n"), err
    server.wait(5)
    assert not session_of(server.pid, next(iter(family.values())))
    left = sorted(file.name for file in (home / "servers").iterdir())
    assert left == ["default.lock", "guarded.key", "guarded.yaml", "quiet-logging"]
    assert run("status")[0] == 1


def test_a_server_that_died_is_called_dead(run, server, home):
    family = session_of(server.pid, old_home.born(server.pid))
    for pid in family:
        os.kill(pid, 9)
    server.wait(5)
    assert json.loads(run("status", "--json")[1])["state"] == "dead"
    assert run("stop")[0] == 0 and not (home / "servers/default.json").exists()


def test_remove_sees_the_server(run, server, home):
    code, _, err = run("remove", "--stack", "cpu", "--yes")
    assert code == 1 and "runs from" in err and (home / old_home.PYTHON).is_file()


def test_the_model_is_whole_and_not_fetched_again(run, home):
    before = untouched(home)
    code, out, err = run("verify", str(home / old_home.MODEL_FOLDER), "--json")
    assert code == 0 and json.loads(out)["whole"] and json.loads(out)["files"] == 3, err
    code, _, err = run("download", old_home.MODEL)
    assert code == 0 and untouched(home) == before, err


def test_a_hurt_file_comes_from_where_the_old_record_says(run, home, tmp_path):
    folder, before = home / old_home.MODEL_FOLDER, untouched(home)
    (folder / "config.json").write_text("{")
    assert run("verify", str(folder))[0] == 1
    record = home / f"models/records/{folder.name}.json"
    with Hub(old_home.tiny_model(tmp_path / "original"), old_home.MODEL) as hub:
        old = json.loads(record.read_text())
        record.write_text(json.dumps(old | {"source": hub.url}))
        code, _, err = run("verify", str(folder), "--repair")
    assert code == 0, err
    after = untouched(home)
    assert {name for name in after if after[name] != before[name]} == {"config.json"}


def test_only_the_plugin_is_laid_anew(run, home):
    code, out, err = run("plan", "--format", "json")
    assert code == 0, err
    done = {step["name"]: step["done"] for step in json.loads(out)}
    assert done == {"environment": True, "torch": True, "packages": True, "plugin": False}


def laid_plugin(home):
    "The engine's copy of ours: what describes it, and what its entry point names."
    site = home / old_home.SITE
    (about,) = site.glob("qwen_npu_tut-*.dist-info")
    rows = {row.partition(",")[0] for row in (about / "RECORD").read_text().splitlines()}
    there = {
        str(file.relative_to(site))
        for file in (site / "qwen_npu_tut").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    module = (about / "entry_points.txt").read_text().partition("=")[2].partition(":")[0].strip()
    return rows, there, f"{module.replace('.', '/')}.py"


def test_up_finds_the_running_server(run, server, home):
    before = untouched(home)
    (home / old_home.SITE / "qwen_npu_tut/moved_since.py").touch()  # as a module of the old plugin
    code, out, err = run("up", "--yes")
    assert code == 0, out + err
    assert f"process {server.pid} answers as tiny" in out and "echo: 你好！" in out
    assert untouched(home) == before and server.poll() is None
    rows, there, module = laid_plugin(home)
    assert module in rows
    assert there == {row for row in rows if ".dist-info/" not in row}  # nothing is left beside it
    assert all(step["done"] for step in json.loads(run("plan", "--format", "json")[1]))


def test_up_after_stop(run, server, home):
    before = untouched(home)
    assert run("stop")[0] == 0
    code, out, err = run("up", "--yes")
    assert code == 0 and "echo: 你好！" in out, out + err
    found = json.loads(run("status", "--json")[1])
    assert found["state"] == "running" and found["pid"] != server.pid and untouched(home) == before


def same_settings(found):
    return {name: getattr(found, RENAMED.get(name, name)) for name in OLD_SETTINGS}


def test_the_old_settings_file_is_read(monkeypatch, tmp_path):
    for name in OLD_SETTINGS:
        monkeypatch.delenv(f"QWEN_NPU_{name.upper()}", raising=False)
    found = read_settings(old_home.FORM / "settings.toml")
    assert same_settings(found) == OLD_SETTINGS


def test_the_old_variables_are_read(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in OLD_SETTINGS.items():
        monkeypatch.setenv(f"QWEN_NPU_{name.upper()}", str(value))
    assert same_settings(read_settings()) == OLD_SETTINGS


@pytest.mark.parametrize("way", ["file", "variable", "option"])
def test_endpoint_names_the_hub(run, home, tmp_path, monkeypatch, way):
    with Hub(old_home.tiny_model(tmp_path / "original"), "made-up/other") as hub:
        if way == "file":
            (tmp_path / "qwen-npu.toml").write_text(f'endpoint = "{hub.url}"\n')
        if way == "variable":
            monkeypatch.setenv("QWEN_NPU_ENDPOINT", hub.url)
        option = ["--endpoint", hub.url] if way == "option" else []
        code, _, err = run("download", "made-up/other", *option)
    assert code == 0 and (home / "models/made-up--other/config.json").is_file(), err


def test_the_key_that_was_made_is_kept(home):
    key = (home / "servers/guarded.key").read_text().strip()
    assert made_key_file("guarded") == home / "servers/guarded.key" and key_of("guarded") == key
    open_to_others = walk.choose(stack="cpu", server="guarded", host="0.0.0.0")
    assert with_key(walk.serving(open_to_others)).settings.api_key == key


def test_what_the_panel_kept(home):
    before, job = kept(), find_job("install")
    assert before["model"] == old_home.MODEL and before["turns"][0]["answer"].startswith("你好！")
    assert job.code == 0 and not job.running and job.words == ("status", "--json")
