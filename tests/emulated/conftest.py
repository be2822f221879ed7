"""The emulated NPU's own tests: torch is here, and the device is native.

They run in a process of their own (`pytest tests/emulated`), which has the packages of an emulated
engine behind this one's: $QWEN_NPU_EMULATED_SITE names their folder, else the stack's is taken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "qwen_npu_tut" / "programs" / "build_device.py"


def site() -> str:
    "The engine's site-packages."
    named = os.environ.get("QWEN_NPU_EMULATED_SITE")
    if named:
        return named
    from qwen_npu_tut.engine.stacks import stacks
    from qwen_npu_tut.engine.target import Engine
    from qwen_npu_tut.host.machine import read_machine
    from qwen_npu_tut.host.system import Host

    return str(Engine(read_machine(Host()), stacks()["emulated"]).site)


def pytest_configure(config):
    "Before anything imports torch: its end makes the device."
    if not Path(site(), "torch").is_dir():
        pytest.exit(f"There is no torch in {site()}: install the stack emulated.", returncode=4)
    os.environ |= {"NPU_EMULATED": "1", "NPU_EMULATED_DEVICE": "native"}
    os.environ["QWEN_NPU_EMULATED_SITE"] = site()
    sys.path.append(site())
    import torch

    if not hasattr(torch, "npu"):  # an environment of this torch without the entry point
        from qwen_npu_tut.rehearsal.emulated.switch import activate

        activate()


@pytest.fixture(autouse=True)
def nothing_stays():
    "Each test gives back what it took, and leaves device 0 the current one."
    import torch

    yield
    torch.npu.set_device(0)


@pytest.fixture
def python(tmp_path):
    "Run a program in a fresh interpreter with other variables; gives its result."

    def run(program: str, **variables):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf8")
        given = {name: each for name, each in os.environ.items() if not name.startswith("NPU_")}
        given |= {"PYTHONPATH": os.pathsep.join([str(ROOT), site()]), **variables}
        given = {name: each for name, each in given.items() if each is not None}
        return subprocess.run(
            [sys.executable, str(file)], env=given, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture
def engine_python():
    "The engine's own interpreter, which runs programs as an installation does."
    file = Path(site()).parents[2] / "bin" / "python"
    return str(file) if file.is_file() else shutil.which("python3")
