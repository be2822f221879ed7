"The locks of the CPU stack: hashes in each row, pip held to them, and the tool that asks for them."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import locks
import pytest
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements
from wheels import index, make_wheel, sha256

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.engine import cpu
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.engine.cpu import LOCKS, lock_rows, locked_versions
from qwen_npu_tut.engine.target import Engine, Supply, stack_folder, supply
from qwen_npu_tut.engine.plan import run_plan, script_text
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.stacks import stacks

FILES = sorted(LOCKS.glob("*.txt"))
TORCH = {name: stacks()["cpu"].version(name) for name in ("torch", "torchvision")}
ZEROS = "0" * 64
BOTH = ("3.11", "3.12")
LOCKED = [stack for stack in stacks().values() if stack.lock]


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_row_has_hashes_and_pip_reads_them(file):
    read = list(parse_requirements(str(file), PipSession()))
    pins = locked_versions(lock_rows(file))
    assert list(pins) == sorted(pins) and len(pins) > 10
    assert [each.requirement.strip() for each in read] == [f"{name}=={pins[name]}" for name in pins]
    for row, each in zip(lock_rows(file).values(), read):
        ((kind, hashes),) = each.options["hashes"].items()
        assert kind == "sha256" and hashes and {len(one) for one in hashes} == {64}
        assert row.split()[1:] == [f"--hash=sha256:{one}" for one in hashes]


# triton 3.2.0 has no wheel for aarch64
OTHER_ON_AARCH64 = {"cpu": set(), "guide": {"triton", "triton-ascend", "pybind11"}}


@pytest.mark.parametrize("prefix", sorted({stack.lock for stack in LOCKED}))
def test_the_architectures_have_the_same_packages(prefix):
    here, there = (
        locked_versions(lock_rows(LOCKS / f"{prefix}-{each}.txt")) for each in ("x86_64", "aarch64")
    )
    other = set(here.items()) ^ set(there.items())
    assert {name for name, _ in other} == OTHER_ON_AARCH64[prefix]


def test_every_lock_is_a_stacks_and_has_that_stacks_versions():
    assert {file.stem.split("-")[0] for file in FILES} == {stack.lock for stack in LOCKED}
    for stack in LOCKED:
        for architecture in stack.architectures:
            rows = locked_versions(lock_rows(LOCKS / f"{stack.lock}-{architecture}.txt"))
            pins = {name: pin.version for name, pin in stack.pins.items() if pin.kind == "pip"}
            assert {name: rows.get(name) for name in pins} == pins, stack.name


@pytest.mark.parametrize(
    "behind",
    [
        "",
        " --hash=sha256:",
        f" --hash=md5:{ZEROS}",
        f" --hash=sha256:{ZEROS[1:]}",
        f" --hash=sha256:{ZEROS} --hash=sha256:x",
        f" # --hash=sha256:{ZEROS}",
    ],
)
def test_a_row_without_a_hash(tmp_path, behind):
    file = tmp_path / "lock.txt"
    file.write_text(f"one==1.0 \\\n    --hash=sha256:{ZEROS}\ntwo==2.0{behind}\n")
    with pytest.raises(Problem, match="'two==2.0' in lock.txt has no SHA-256"):
        lock_rows(file)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    "An empty environment with pip, made once and copied: making it takes longer than a test."
    folder = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def small(monkeypatch, tmp_path, private_home, environment):
    "Small wheels, locks of them, and no other index: gives the plan's steps but the plugin's."
    shutil.copytree(environment, stack_folder("cpu") / "env", symlinks=True)
    machine, wheels, folder = read_machine(Host()), tmp_path / "wheels", tmp_path / "locks"
    for each in (wheels, folder):
        each.mkdir()
    rows = {}
    for name, version in {**TORCH, "one": "1.0", "two": "2.0", "nvidia-three": "3.0"}.items():
        digest = sha256(make_wheel(wheels, name, version))
        rows[name] = f"{name}=={version} --hash=sha256:{digest}\n"
    (folder / f"cpu-{machine.architecture}-cuda.txt").write_text(rows.pop("nvidia-three"))
    (folder / f"cpu-{machine.architecture}.txt").write_text("".join(rows.values()))
    monkeypatch.setattr(cpu, "LOCKS", folder)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    engine = Engine(machine, stacks()["cpu"])

    def steps(wheels=None):
        "From PyPI's place, or from a folder."
        given = supply(engine, wheels) if wheels else Supply("", None, {}, {})
        return kernels.installation(engine, given)[:3]

    steps.wheels, steps.locks, steps.site = wheels, folder, engine.site
    return steps


def installed(site: Path) -> set[str]:
    "What pip installed beside itself, with the versions."
    names = {each.name.removesuffix(".dist-info") for each in site.glob("*.dist-info")}
    return {name for name in names if name.split("-")[0] not in ("pip", "setuptools")}


def whole(local: str = "") -> set[str]:
    "What the torch step installs, from PyPI or from the CPU index."
    torch = {f"{name}-{version}{local}" for name, version in TORCH.items()}
    return torch if local else torch | {"nvidia_three-3.0"}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["index", "folder"])
def test_a_wheel_with_other_bytes_is_refused(small, monkeypatch, place):
    "Nothing of its step is installed; with the right file the plan goes on."
    wheel = small.wheels / "two-2.0-py3-none-any.whl"
    right = wheel.read_bytes()
    make_wheel(small.wheels, "two", "2.0", code="print('another build of the same version')")
    with index(small.wheels, hashes=True) as address:
        if place == "index":
            monkeypatch.setenv("PIP_INDEX_URL", address)
        steps = small() if place == "index" else small(wheels=small.wheels)
        with pytest.raises(Problem, match="The step 'packages' did not") as refused:
            run_plan(steps, os.environ)
        assert "is not the file that was announced" in refused.value.fix
        assert "two==2.0" in refused.value.fix and installed(small.site) == whole()
        wheel.write_bytes(right)
        run_plan(steps, os.environ)
    assert installed(small.site) == whole() | {"one-1.0", "two-2.0"}


@pytest.mark.slow
def test_torch_is_held_to_its_hashes_too(small, monkeypatch):
    make_wheel(small.wheels, "torch", TORCH["torch"], code="print('another build')")
    with index(small.wheels) as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        with pytest.raises(Problem, match="The step 'torch' did not"):
            run_plan(small(), os.environ)
    assert installed(small.site) == set()


@pytest.mark.slow
def test_the_cpu_indexs_torch_has_no_hashes_and_all_others_have(small, monkeypatch):
    "Who tells pip to require hashes of everything is refused, and told what to do."
    for name, version in TORCH.items():
        make_wheel(small.wheels, name, f"{version}+cpu")
    steps = small(wheels=small.wheels)
    assert ["--require-hashes" in step.command for step in steps[1:]] == [False, True]
    assert "no hashes of them" in steps[1].reason
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    with pytest.raises(Problem) as refused:
        run_plan(steps, os.environ)
    assert "PIP_REQUIRE_HASHES=0 qwen-npu install" in refused.value.fix
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "0")
    run_plan(steps, os.environ)
    assert installed(small.site) == whole("+cpu") | {"one-1.0", "two-2.0"}


@pytest.mark.slow
def test_the_script_has_the_hashes_in_it(small, monkeypatch):
    "It is run where the locks are not."
    text = script_text(small(), "The engine.")
    shutil.rmtree(small.locks)
    with index(small.wheels) as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert installed(small.site) == whole() | {"one-1.0", "two-2.0"}
    written = (stack_folder("cpu") / "packages.txt").read_text()
    assert written.startswith("one==1.0 \\\n    --hash=sha256:")


FITTING = (
    "cp311-cp311-manylinux_2_28_x86_64",
    "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp310-abi3-manylinux_2_39_x86_64",
    "py3-none-manylinux1_x86_64",
)
ANYWHERE = ("py3-none-any", "py2.py3-none-any")
ELSEWHERE = (
    "cp313-cp313-manylinux_2_28_x86_64",
    "cp313-abi3-manylinux_2_28_x86_64",
    "pp311-pypy311_pp73-manylinux_2_28_x86_64",
    "cp311-cp311-musllinux_1_2_x86_64",
    "cp311-cp311-win_amd64",
    "cp311-cp311-macosx_11_0_x86_64",
)


def test_the_tool_takes_each_wheel_that_fits_and_no_other(tmp_path):
    def made(tags):
        return [sha256(make_wheel(tmp_path, "one", "1.0", tag)) for tag in tags]

    fitting, anywhere, _ = made(FITTING), made(ANYWHERE), made(ELSEWHERE)
    make_wheel(tmp_path, "one", "1.0.1")
    two = sha256(make_wheel(tmp_path, "two", "2.0+cpu"))
    text = f"# why\n# it is so\ntwo==2.0+cpu \\\n    --hash=sha256:{ZEROS}\none==1.0\n"
    with index(tmp_path, hashes=True) as address:
        here, there = (locks.renewed(text, each, BOTH, address) for each in ("x86_64", "aarch64"))
        assert locks.renewed(here, "x86_64", BOTH, address) == here
        older = locks.renewed(text, "x86_64", ("3.11",), address)
    # the second of FITTING is for 3.12 alone
    assert set(here.split()) - set(older.split()) == {f"--hash=sha256:{fitting[1]}"}
    for lock, wheels in ((here, fitting + anywhere), (there, anywhere)):
        one = " \\\n".join(["one==1.0", *(f"    --hash=sha256:{each}" for each in sorted(wheels))])
        assert lock == f"# why\n# it is so\n{one}\ntwo==2.0+cpu \\\n    --hash=sha256:{two}\n"


@pytest.mark.parametrize(
    "tag, fault, words",
    [
        (FITTING[0], "", "one 1.0 has no wheel for Python 3.12 on x86_64"),
        ("py3-none-any", "500", "did not answer for one"),
        ("py3-none-any", "page", "has no wheel"),
    ],
)
def test_the_tool_changes_nothing_without_answer(tmp_path, monkeypatch, capsys, tag, fault, words):
    make_wheel(tmp_path, "one", "1.0", tag)
    file = tmp_path / "cpu-x86_64.txt"
    file.write_text("one==1.0\n")
    with index(tmp_path, fault, hashes=True) as address:
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.setattr(sys, "argv", ["locks.py", str(file)])
        assert locks.main() == 1
    assert words in capsys.readouterr().err and file.read_text() == "one==1.0\n"
