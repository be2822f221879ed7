"What is started in the place of an engine or of docker: fake_engine.py, fake_docker.py."

import json
import os
import sys
from pathlib import Path

import pytest

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.launch import launch

FAKE_ENGINE, FAKE_DOCKER = map(Path(__file__).with_name, ("fake_engine.py", "fake_docker.py"))
CPU = Engine(read_machine(Host()), stacks()["cpu"])


@pytest.fixture
def engine(tmp_path, private_home):
    "An interpreter that is the stand-in; whatever it has started is ended afterwards."
    file = tmp_path / "python"
    run = f"runpy.run_path({str(FAKE_ENGINE)!r}, run_name='__main__')"
    file.write_text(f"#!{sys.executable}\nimport runpy\n{run}\n")
    file.chmod(0o755)
    yield file
    for name in serve.SERVERS.names():
        serve.stop(name, grace=0)


@pytest.fixture
def docker(tmp_path, private_home, monkeypatch):
    "The stand-in for docker in PATH; gives the folder of its state."
    state, program = tmp_path / "docker", tmp_path / "bin" / "docker"
    state.mkdir()
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_DOCKER} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("FAKE_DOCKER", str(state))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    yield state
    for name in serve.SERVERS.names():
        serve.stop(name, grace=0)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    "Settings for a folder that passes for a model."
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    class Whole:
        def or_problem(self):
            return self

    Whole.folder = folder
    monkeypatch.setattr(serve, "verify", lambda path, depth: Whole())
    return Settings(model=str(folder), port=0, server="tested")


def made(settings, engine, **faults):
    "A launch of the stand-in, which misbehaves as told."
    base = {**os.environ, "FAKE_ENGINE": json.dumps(faults)}
    return launch(settings, CPU, base, engine)


def start(settings, engine, **faults):
    "Start the stand-in."
    return serve.start(made(settings, engine, **faults))
