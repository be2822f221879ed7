"Where an engine's packages come from: who is asked, and when nobody is."

import machines
import pytest

from qwen_npu_tut.engine import target
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine, origin_of, supply
from qwen_npu_tut.host.machine import read_machine

MIRROR = "https://mirror.example/simple"


@pytest.fixture
def engine(private_home):
    machine = read_machine(machines.MACHINES["none"][0].host())
    return Engine(machine, stacks()["cpu"])


@pytest.fixture
def asked(monkeypatch):
    "Who was asked; the mirror answers."
    names = []
    monkeypatch.setattr(target, "torch_index", lambda stack: names.append("torch") or "")
    monkeypatch.setattr(target, "package_mirror", lambda: names.append("mirror") or MIRROR)
    return names


def install(engine: Engine, *packages: str, local: str = "") -> None:
    for package in packages:
        about = engine.site / f"{package}-{engine.stack.version(package)}{local}.dist-info"
        about.mkdir(parents=True)
        (about / "RECORD").write_text("")


def test_an_empty_engine_asks_both(engine, asked):
    given = supply(engine)
    assert (given.index, given.pip, asked) == ("", {"PIP_INDEX_URL": MIRROR}, ["torch", "mirror"])


def test_a_look_asks_nobody(engine, asked):
    given = supply(engine, ask=False)
    assert (given.index, given.pip, asked) == (engine.stack.indexes["torch"], {}, [])


@pytest.mark.parametrize("local", ["", "+cpu"])
def test_a_run_that_was_ended_behind_torch_takes_the_mirror_again(engine, asked, local):
    install(engine, "torch", "torchvision", local=local)
    given = supply(engine)
    assert given.index == (engine.stack.indexes["torch"] if local else "")
    assert (given.pip, asked) == ({"PIP_INDEX_URL": MIRROR}, ["mirror"])


def test_a_whole_engine_asks_nobody(engine, asked):
    install(engine, *engine.stack.pins)
    assert (supply(engine).pip, asked) == ({}, [])


@pytest.mark.parametrize("place", ["origin", "own"])
def test_an_engine_that_links_asks_nobody_where_its_files_are(engine, asked, place):
    "In the folder of the engine that it links to; or, when that one is gone, in its own."
    linking = Engine(engine.machine, stacks()["emulated"])
    assert origin_of(linking) == engine and linking.site != engine.site
    install(engine if place == "origin" else linking, *engine.stack.pins)
    assert (supply(linking).pip, asked) == ({}, [])


def test_an_engine_that_links_asks_as_the_other_does(engine, asked):
    linking = Engine(engine.machine, stacks()["emulated"])
    assert supply(linking) == supply(engine)
    assert asked == ["torch", "mirror"] * 2
