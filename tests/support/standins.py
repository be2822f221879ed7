"""What an NPU server has and we have not, small: CANN's set_env.sh, a torch that computes on a chip
that is not there, SGLang's and the kernels' repositories, and an index of wheels.

Nothing here imitates a result that is then claimed: these programs exist so that every step of a
plan is really run, in order, with its arguments and its environment.
"""

import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path

from wheels import make_wheel

from qwen_npu_tut.engine.plan import Step
from qwen_npu_tut.engine.stacks import Stack
from qwen_npu_tut.engine.target import Engine, Supply, cann_environment
from qwen_npu_tut.host.machine import Machine
from qwen_npu_tut.engine.environment import BUILD_NEEDS, CANN_PYTHON_NEEDS
from qwen_npu_tut.engine.installation import installation

TORCH = """
import os
class Tensor:
    def __init__(self, value): self.value = value
    def npu(self):
        if not os.environ.get("ASCEND_HOME_PATH"):
            raise RuntimeError("libascendcl.so: cannot open shared object file")
        return self
    def __matmul__(self, other): return Tensor(8)
    def sum(self): return self
    def item(self): return self.value
def ones(*shape): return Tensor(1)
class npu:
    @staticmethod
    def get_device_name(number): return "a stand-in"
"""
BUILD = """
#!/bin/bash
set -e
echo "$@" >> arguments; env > environment; python -c 'import torch, torch_npu, pybind11'
case "$2" in
    kernels) python make.py output sgl_kernel_npu;;
    deepep*) python make.py output deep_ep;;
    *) exit 1;;
esac
"""
MAKE = """
import sys, zipfile, pathlib
folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True)
for name in sys.argv[2:]:
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/{name}_cpp.so": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items(): wheel.writestr(path, text)
"""
BACKEND = """
import zipfile, pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).parent))
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "sglang-0.0-py3-none-any.whl"
    lines, about = pathlib.Path("pyproject.toml").read_text().splitlines(), "sglang-0.0.dist-info"
    requires = [f"Requires-Dist: {line[2:]}" for line in lines if line.startswith("# ")]
    extras = [f"Provides-Extra: {extra}" for extra in ("srt_npu", "all_npu")]
    named = ["Metadata-Version: 2.1", "Name: sglang", "Version: 0.0"]
    files = {
        "sglang/__init__.py": f"file = {lines[0]!r}",
        f"{about}/METADATA": "\\n".join([*named, *extras, *requires, ""]),
        f"{about}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for path, text in files.items(): wheel.writestr(path, text)
    return name
"""
PYPROJECT = """#{kind}
{requires}
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def installed(
    machine: Machine,
    stack: Stack,
    index: str = "",
    environment: Mapping[str, str] | None = None,  # CANN's; what its script makes if None
    deepep: bool = False,
) -> list[Step]:
    "A plan whose supply is given: nobody is asked."
    if environment is None:
        environment = cann_environment(stack) if stack.needs_npu and not stack.image else {}
    return installation(Engine(machine, stack), Supply(index, None, {}, environment), deepep)


def repository(folder: Path, files: dict[str, str], tag: str) -> None:
    "A git repository with one commit and one tag."
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip("\n"))
    for line in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one"],
        ["tag", tag],
    ):
        subprocess.run(["git", "-C", str(folder), *line], check=True, capture_output=True)


def stand_in(folder: Path, stack: Stack, architecture: str) -> dict[str, str]:
    "Lay everything out for a stack; gives the environment in which git finds it."
    wheels, repositories = folder / "wheels", folder / "repositories"
    wheels.mkdir(parents=True)
    torch = stack.version("torch")
    for version in (torch, f"{torch}+cpu", "99.0"):
        make_wheel(wheels, "torch", version, code=TORCH)
    make_wheel(wheels, "torchvision", stack.version("torchvision"))
    make_wheel(wheels, "torchvision", f"{stack.version('torchvision')}+cpu")
    make_wheel(
        wheels,
        "torch-npu",
        stack.version("torch-npu"),
        requires=(f"torch=={torch}+cpu" if architecture == "x86_64" else f"torch=={torch}",),
    )
    for version in (stack.version("numpy"), "2.9.0"):
        make_wheel(wheels, "numpy", version)
    make_wheel(wheels, "wheel", stack.version("wheel"))
    for name in (*CANN_PYTHON_NEEDS, *BUILD_NEEDS):
        make_wheel(wheels, name, "1.0")
    make_wheel(wheels, "triton", "3.9.0", code="whose = 'the ordinary one'")
    make_wheel(
        wheels,
        "triton-ascend",
        stack.version("triton-ascend"),
        code="whose = 'of Ascend'",
        module="triton",
        requires=("numpy",),
    )
    make_wheel(wheels, "xgrammar", "1.0", requires=("triton", "numpy", "torch"))
    subprocess.run(
        [sys.executable, "-c", MAKE, str(folder / "built"), "sgl_kernel_npu", "deep_ep"], check=True
    )
    file, _ = stack.npu_file
    repository(
        repositories / "sglang.git",
        {
            "python/pyproject.toml": PYPROJECT.format(kind="for CUDA", requires="# torch==99.0"),
            f"python/{file}": PYPROJECT.format(kind="for an NPU", requires="# xgrammar\n# numpy"),
            "python/backend.py": BACKEND,
        },
        f"v{stack.version('sglang')}",
    )
    repository(
        repositories / "sgl-kernel-npu.git",
        {"build.sh": BUILD, "make.py": MAKE},
        stack.version("sgl-kernel-npu"),
    )
    archive = folder / "releases" / stack.version("sgl-kernel-npu")
    archive.mkdir(parents=True)
    for chip in ("910b", "a3"):
        if not stack.kernel_archive:
            continue
        with zipfile.ZipFile(
            archive
            / stack.kernel_archive.format(
                tag=stack.version("sgl-kernel-npu"), chip=chip, architecture=architecture
            ),
            "w",
        ) as zipped:
            for wheel in (folder / "built").iterdir():
                zipped.write(wheel, wheel.name)
    cann = folder / "昇腾 cann"
    cann.mkdir()
    (cann / "set_env.sh").write_text(
        f'export ASCEND_HOME_PATH="{cann}"\n'
        f'export LD_LIBRARY_PATH="{cann}/lib64:$LD_LIBRARY_PATH"\n'
    )
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repositories}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/sgl-project/",
    }


PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
