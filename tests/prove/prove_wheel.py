"""The package as a wheel, far from any clone: about a minute, 40 MB to download.

Run by `make prove`. The wheel goes into an empty environment, with what it requires from the
configured index. It brings a service to a reply, asking no index and no hub, in a home that has the
user's engine by hard links. Then it is taken out. Nothing of it may be left in the environment.
Outside the home nothing may have been written, but SGLang's empty files in the temporary folder."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from shared import Refusing, share_engine

from qwen_npu_tut.engine.target import stack_folder
from qwen_npu_tut.base.settings import home

ROOT = Path(__file__).resolve().parents[2]


def spoken(*line, **more) -> subprocess.CompletedProcess:
    "Run it, and say how long it took."
    began = time.monotonic()
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    words = " ".join(Path(word).name for word in line)
    print(f"{words}: {done.returncode}, {time.monotonic() - began:.1f} s", flush=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def below(folder: Path) -> set[str]:
    "Every file and link below a folder, but what Python compiles."
    found = {str(each.relative_to(folder)) for each in folder.rglob("*") if not each.is_dir()}
    return {name for name in found if "__pycache__" not in name}


@pytest.fixture
def wheel(tmp_path):
    "Built from a copy of what git knows: a build leaves folders beside its sources."
    known = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if known.returncode:
        pytest.skip("git does not say which files belong to the package")
    sources, wheels = tmp_path / "sources", tmp_path / "wheels"
    names = [name for name in known.stdout.split("\0") if (ROOT / name).is_file()]
    for name in names:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, sources / name)
    spoken(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, sources)
    shutil.rmtree(sources)  # from here on there is no clone
    (found,) = wheels.glob("*.whl")
    packed = set(zipfile.ZipFile(found).namelist())
    assert {name for name in names if name.startswith("qwen_npu_tut/")} <= packed
    return found


@pytest.fixture
def nobody():
    with Refusing() as refusing:
        yield refusing


@pytest.fixture
def ours(tmp_path):
    "A home with the user's engine; no link to a file of it stays."
    if not (stack_folder("cpu") / "env/bin/python").is_file():
        pytest.skip("the engine is not installed: qwen-npu up")
    share_engine(home() / "stacks", tmp_path / "home/stacks")
    yield tmp_path / "home"
    shutil.rmtree(tmp_path / "home")


def test_a_wheel_serves_and_goes(wheel, ours, nobody, tmp_path):
    environment, user, work, passing = (tmp_path / name for name in ("env", "user", "work", "tmp"))
    for folder in (user, work, passing):
        folder.mkdir()
    spoken(sys.executable, "-m", "venv", environment)
    python, command = environment / "bin/python", environment / "bin/qwen-npu"
    spoken(python, "-m", "pip", "install", "--quiet", wheel)
    installed = below(environment)
    mine = {name for name in installed if "qwen_npu" in name or "qwen-npu" in name}
    assert len(mine) > 40

    variables = nobody.environment_from(os.environ) | {
        "QWEN_NPU_HOME": str(ours),
        "HOME": str(user),
        "TMPDIR": str(passing),
    }
    for name in ("PYTHONPATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        variables.pop(name, None)

    def called(*line):
        return spoken(*line, cwd=work, env=variables).stdout.strip()

    where = called(python, "-c", "import qwen_npu_tut; print(qwen_npu_tut.__file__)")
    assert Path(where).is_relative_to(environment)
    try:
        said = called(command, "up", "--stack", "cpu", "--port", "0", "--yes")
        assert "[6/6] chat" in said and "你好" in said
        assert json.loads(called(command, "status", "--json"))["state"] == "running"
    finally:
        ended = called(command, "down")
    assert ended == "Stopped." and nobody.came == 0
    assert below(environment) == installed
    assert below(user) == below(work) == set()
    # SGLang 0.5.23 names sockets by NamedTemporaryFile(delete=False): server_args.py, PortArgs.
    left = [each.lstat() for each in passing.rglob("*")]
    assert len(left) <= 6 and all(each.st_size == 0 for each in left), sorted(below(passing))

    called(python, "-m", "pip", "uninstall", "-y", "qwen_npu_tut")
    assert below(environment) == installed - mine
    assert list(environment.rglob("*qwen*npu*")) == []  # no empty folder either
