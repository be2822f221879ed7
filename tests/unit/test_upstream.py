"""Each step's arguments and environment beside what upstream prescribes, word for word.

The right-hand side was written from the documents named in each comment, not from what the plan
printed. Where we leave the document on purpose, the reason stands beside it.
"""

from dataclasses import replace

import machines
import pytest

from standins import installed

from qwen_npu_tut.engine.target import stack_folder
from qwen_npu_tut.engine.environment import BUILD_NEEDS, CANN_PYTHON_NEEDS
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.engine.stacks import stacks

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CANN = {
    "ASCEND_HOME_PATH": "/usr/local/Ascend/cann",
    "LD_LIBRARY_PATH": "/usr/local/Ascend/cann/lib64",
    "PATH": "/usr/bin",
}  # as a set_env.sh leaves it
PIP_WORDS = {"--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--constraint"}


def plan(
    name: str, series: str, architecture: str, deepep: bool = False
) -> dict[str, tuple[str, dict]]:
    "Each step's line without our folders and pip's switches, and its environment."
    simulated = replace(machines.A3 if series == "A3" else machines.A2, architecture=architecture)
    machine = read_machine(simulated.host())
    steps = installed(machine, stacks()[name], CPU_INDEX, CANN, deepep)
    folder, python = str(stack_folder(name)), str(stack_folder(name) / "env/bin/python")
    shown = {}
    for step in steps:
        words = [
            word.replace(python, "python").replace(folder, "$S")
            for word in step.command
            if word not in PIP_WORDS
        ]
        shown[step.name] = (
            " ".join(word for word in words if word != "$S/constraints.txt"),
            dict(step.environment),
        )
    return shown


# torch, torchvision, torch_npu: docs/platforms/ascend_npu.md@0175ceec (0.5.3rc0), @60d36e7b
# (0.5.6.post2), ascend/ascend_npu.md@0b1520f0 (0.5.9), installation.mdx@b258740d (0.5.16);
# numpy, wheel: docker/Dockerfile.npu@86a32bb5. The CPU index is an extra one here, because torch's
# own needs are fetched with it.
TORCH = {
    "cann-8.2": ("2.6.0", "0.21.0", "2.6.0"),
    "cann-8.3": ("2.6.0", "0.21.0", "2.6.0.post3"),
    "cann-8.5": ("2.8.0", "0.23.0", "2.8.0.post2"),
    "cann-9.0": ("2.10.0", "0.25.0", "2.10.0"),
}
# sgl-kernel-npu README@20250926, @20251206: `bash build.sh -a kernels [SOC]`; SOC Ascend910B1 for
# A2 and Ascend910_9382 for A3: build.sh, CMakeLists.txt
BUILD = {
    "A2": "bash build.sh -a kernels Ascend910B1",
    "A3": "bash build.sh -a kernels Ascend910_9382",
}
# docker/npu.Dockerfile@066209de and scripts/ci/npu/npu_ci_install_dependency.sh: the release's zip;
# chip names 910b and a3
ZIP = {
    "cann-8.5": ("2026.02.01.post2", "torch2.8.0-py311-cann8.5.0"),
    "cann-9.0": ("2026.05.01.post3", "torch2.10.0-py311-cann9.0.0"),
}
# docker/npu.Dockerfile@78ac30c2: `rm pyproject.toml; mv pyproject_other.toml pyproject.toml;
# pip install -e .[srt_npu]`; pyproject_npu.toml since 0.5.9, all_npu: installation.mdx@b258740d
FILE = {
    "cann-8.2": ("pyproject_other.toml", "srt_npu", "v0.5.3rc0"),
    "cann-8.3": ("pyproject_other.toml", "srt_npu", "v0.5.6.post2"),
    "cann-8.5": ("pyproject_npu.toml", "srt_npu", "v0.5.9"),
    "cann-9.0": ("pyproject_npu.toml", "all_npu", "v0.5.16"),
}
EACH = [
    (name, series, architecture)
    for name in TORCH
    for series in ("A2", "A3")
    for architecture in ("aarch64", "x86_64")
]


@pytest.mark.parametrize("name, series, architecture", EACH)
def test_torch_and_torch_npu(name, series, architecture):
    steps, (torch, vision, torch_npu) = plan(name, series, architecture), TORCH[name]
    local = (
        "+cpu" if architecture == "x86_64" else ""
    )  # torch_npu's wheel for x86_64 requires torch==X+cpu (vllm-project/vllm-ascend#4621)
    both = f"torch=={torch}{local} torchvision=={vision}{local}"
    assert steps["torch"][0] == f"python -m pip install --extra-index-url {CPU_INDEX} {both}"
    needs = " ".join((*CANN_PYTHON_NEEDS, *BUILD_NEEDS))
    pins = f"torch=={torch} torchvision=={vision} torch-npu=={torch_npu}"
    line = f"python -m pip install {pins} numpy==1.26.4 wheel==0.45.1 {needs}"
    assert steps["torch_npu"][0] == line
    assert steps["torch_npu"][1] == CANN
    # Ascend/pytorch faq; docker/Dockerfile.npu@86a32bb5; CI of sgl-kernel-npu@20250926
    assert {
        "attrs",
        "decorator",
        "scipy",
        "psutil",
        "pyyaml",
        "pybind11",
        "cffi",
        "sympy",
        "protobuf",
        "absl-py",
    } <= set(steps["torch_npu"][0].split())


@pytest.mark.parametrize("name, series, architecture", EACH)
def test_kernels(name, series, architecture):
    steps = plan(name, series, architecture)
    if name not in ZIP:
        assert steps["sgl-kernel-npu source"][0].startswith(
            "git clone --depth 1 --recurse-submodules --shallow-submodules --branch 202"
        )  # submodules: README
        line, environment = steps["kernels build"]
        assert line == BUILD[series]
        # docker/npu.Dockerfile@78ac30c2: the stub folder inside the build alone, in front;
        # ASCEND_INCLUDE_DIR: build.sh@20251206
        assert (
            environment["LD_LIBRARY_PATH"]
            == "/usr/local/Ascend/cann/runtime/lib64/stub:/usr/local/Ascend/cann/lib64"
        )
        assert (
            environment["ASCEND_INCLUDE_DIR"]
            == f"/usr/local/Ascend/cann/{architecture}-linux/include"
        )
        assert (
            environment["PATH"] == f"{stack_folder(name)}/env/bin:/usr/bin"
        )  # its python3 has to be the one with torch_npu
    else:
        tag, middle = ZIP[name]
        chip = {"A2": "910b", "A3": "a3"}[series]
        releases = f"https://github.com/sgl-project/sgl-kernel-npu/releases/download/{tag}"
        address = f"{releases}/sgl-kernel-npu-{tag}-{middle}-{chip}-{architecture}.zip"
        assert address in steps["kernels archive"][0].split()
    assert not any(
        word in line for line, _ in steps.values() for word in ("deep_ep", "deepep")
    )  # dense models need none
    stubs = [step for step, (_, environment) in steps.items() if "stub" in str(environment)]
    assert stubs == ([] if name in ZIP else ["kernels build"])


@pytest.mark.parametrize("name, series, architecture", EACH)
def test_sglang_and_triton(name, series, architecture):
    steps, (file, extra, tag) = plan(name, series, architecture), FILE[name]
    assert (
        f"--branch {tag} https://github.com/sgl-project/sglang.git $S/src/sglang"
        in steps["sglang source"][0]
    )
    assert (
        steps["sglang file"][0]
        == f"cp $S/src/sglang/python/{file} $S/src/sglang/python/pyproject.toml"
    )
    assert (
        steps["sglang"][0] == f"python -m pip install -e $S/src/sglang/python[{extra}]"
        and steps["sglang"][1] == CANN
    )
    assert (
        list(steps)[-1] == "triton-ascend"
    )  # docs/platforms/ascend_npu.md: uninstall triton, then install triton-ascend
    index = (
        " --extra-index-url https://mirrors.huaweicloud.com/ascend/repos/pypi/nightly"
        if name == "cann-9.0"
        else ""
    )  # installation.mdx@b258740d
    line, _, other = steps["triton-ascend"][0].partition(" --or ")
    assert line.endswith(f"python -m pip install{index} triton-ascend")
    # docker/npu.Dockerfile@066209de, TRITON_URL_ARM64 and _AMD64: the release, where the index of
    # nightly builds has been cleared
    wheel = "triton_ascend-3.2.1-cp311-cp311-manylinux_2_27_{0}.manylinux_2_28_{0}.whl".format(
        architecture
    )
    expected = (
        "python -m pip install --no-deps "
        f"https://gitcode.com/Ascend/triton-ascend/releases/download/v3.2.1/{wheel}"
        if name == "cann-9.0"
        else ""
    )
    assert other == expected


@pytest.mark.parametrize(
    "name, series, line",
    [
        ("cann-8.3", "A2", "bash build.sh -a deepep2"),
        ("cann-8.3", "A3", "bash build.sh -a deepep"),
        ("cann-8.2", "A3", "bash build.sh -a deepep"),
    ],
)
def test_deepep_is_built_as_its_readme_says(name, series, line):
    "sgl-kernel-npu python/deep_ep/README.md@20250926 and @20251206; then the wheel, then the link."
    steps = plan(name, series, "aarch64", deepep=True)
    assert steps["deepep build"][0] == line
    assert [each for each in steps if each.startswith("deepep")] == [
        "deepep build",
        "deepep",
        "deepep link",
    ]
