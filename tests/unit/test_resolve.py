"Whether a set's versions can still be had: asked of an index of ours, where every answer is known."

from dataclasses import replace

import pytest
from wheels import index, make_wheel

from qwen_npu_tut.engine.resolve import verify_stack
from qwen_npu_tut.engine.stacks import Pin, stacks


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A small set, asked of an index that holds what the test put there.

    Gives resolutions by package and architecture."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "wheels").mkdir()

    def ask(fault="", **versions):
        pins = {
            package.replace("_", "-"): Pin(version, "a test", "2026-11-25", "stated")
            for package, version in versions.items()
        }
        with index(tmp_path / "wheels", fault) as address:
            monkeypatch.setenv("UV_DEFAULT_INDEX", address)
            found = verify_stack(replace(stacks()["cpu"], pins=pins, python=("3.11",)))
            assert not any(address in each.why for each in found)
        return {(each.package, each.architecture): each for each in found}

    ask.folder = tmp_path / "wheels"
    make_wheel(ask.folder, "pip", "26.0")  # the control
    return ask


def test_what_is_there_resolves(asked):
    make_wheel(asked.folder, "one", "1.0")
    assert {each.verdict for each in asked(one="1.0").values()} == {"resolves"}


def test_a_version_that_is_gone(asked):
    make_wheel(asked.folder, "one", "2.0")
    found = asked(one="1.0")
    assert (
        found["one", "aarch64"].verdict == "does not exist" and "1.0" in found["one", "aarch64"].why
    )
    assert found["all together", "x86_64"].verdict == "does not fit"


def test_a_package_that_nobody_has(asked):
    assert asked(nowhere="1.0")["nowhere", "x86_64"].verdict == "does not exist"


def test_a_wheel_for_one_architecture(asked):
    make_wheel(asked.folder, "one", "1.0", "cp311-cp311-manylinux_2_28_x86_64")
    found = asked(one="1.0")
    assert (found["one", "x86_64"].verdict, found["one", "aarch64"].verdict) == (
        "resolves",
        "does not fit",
    )


def test_a_wheel_for_another_python(asked):
    make_wheel(asked.folder, "one", "1.0", "cp313-cp313-manylinux_2_28_x86_64")
    assert asked(one="1.0")["one", "x86_64"].verdict == "does not fit"


def test_two_that_exclude_each_other(asked):
    make_wheel(asked.folder, "engine", "1.0", requires=("torch==2.8.0",))
    for version in ("2.6.0", "2.8.0"):
        make_wheel(asked.folder, "torch", version)
    found = asked(engine="1.0", torch="2.6.0")
    assert found["engine", "aarch64"].verdict == found["torch", "aarch64"].verdict == "resolves"
    together = found["all together", "aarch64"]
    assert (
        together.verdict == "does not fit"
        and "torch==2.8.0" in together.why
        and "torch==2.6.0" in together.why
    )


def test_an_extra_that_is_not_there(asked, monkeypatch, tmp_path):
    make_wheel(asked.folder, "engine", "1.0", extras=("dev",))
    pin = Pin("1.0", "a test", "2026-11-25", "stated", extra="srt_npu")
    with index(asked.folder) as address:
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        found = verify_stack(replace(stacks()["cpu"], pins={"engine": pin}, python=("3.11",)))
    assert [each.verdict for each in found if each.package == "all together"] == [
        "does not fit"
    ] * 2


@pytest.mark.parametrize("fault", ["page", "403", "500", "empty"])
def test_an_index_that_cannot_be_trusted_says_nothing_about_a_pin(asked, fault):
    make_wheel(asked.folder, "one", "1.0")
    assert asked(fault, one="1.0")["one", "x86_64"].verdict == "index not reached"


def test_an_index_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    found = verify_stack(
        replace(stacks()["cpu"], pins={"one": Pin("1.0", "a test", "2026-11-25", "stated")})
    )
    assert {each.verdict for each in found} == {"index not reached"}


def test_what_is_built_from_source_is_on_no_index(monkeypatch, tmp_path):
    pins = {
        "sglang": Pin("0.5.9", "a test", "2026-11-25", "stated", kind="git"),
        "cann": Pin("9.0.0", "a test", "2026-11-25", "stated", kind="host"),
    }
    with index(tmp_path) as address:
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        found = verify_stack(replace(stacks()["cpu"], pins=pins), ["aarch64"])
    assert [(each.package, each.verdict) for each in found][:2] == [
        ("sglang", "not on an index"),
        ("cann", "not on an index"),
    ]
