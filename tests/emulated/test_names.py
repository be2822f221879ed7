"What SGLang imports on an NPU: all of it is there, and what is not emulated says so by its name."

import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from qwen_npu_tut.rehearsal.emulated import names as ours
from qwen_npu_tut.rehearsal.emulated import operators

SGLANG = Path(find_spec("sglang").origin).parent
SITE = SGLANG.parent
DOTTED = re.compile(r"\btorch_npu(?:\.[A-Za-z_]\w*)+")
IMPORTED = re.compile(
    r"^\s*from ((?:sgl_kernel_npu|torchair|torch_npu)[\w.]*) import "
    r"(\([^)]*\)|[^\n(#]*)",
    re.M,
)


def called_by_sglang() -> set[str]:
    "Dotted names of the emulated packages in SGLang's source."
    found = set()
    for file in SGLANG.joinpath("srt").rglob("*.py"):
        text = file.read_text("utf-8", errors="ignore")
        found |= set(DOTTED.findall(text))
        for module, imported in IMPORTED.findall(text):
            words = re.sub(r"#[^\n]*", "", imported).strip("()").split(",")
            found |= {f"{module}.{word.split()[0]}" for word in words if word.strip()}
    return found


def reached(name: str):
    "What a dotted name leads to, by imports as far as modules go and by attributes behind them."
    package, *rest = name.split(".")
    value = importlib.import_module(package)
    for part in rest:
        value = getattr(value, part)
    return value


def elsewhere(code: str, **environment: str) -> str:
    "What code prints in a process of its own, with the engine's packages."
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(SITE)])
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# The import of transfer_to_npu changes torch.cuda, so it has a process of its own, below.
USED = called_by_sglang() - {"torch_npu.contrib.transfer_to_npu"}
OFFERED = ours.offered()


def test_sglang_calls_enough_names_for_the_others_to_mean_something():
    assert len(USED) > 80 and {"torch_npu.npu_swiglu", "torch_npu.npu_dynamic_quant"} <= USED


@pytest.mark.parametrize("name", sorted(USED))
def test_a_name_that_sglang_calls_is_emulated_or_fails_by_its_name(name):
    offered = any(f"{name}.".startswith(f"{each}.") for each in OFFERED)
    of_the_device = name.startswith("torch_npu.npu.") and not offered
    if of_the_device or re.search(r"\.float\d", name):  # both may be asked for: absent
        with pytest.raises(AttributeError, match=name.rpartition(".")[2]):
            reached(name)
        return
    value = reached(name)
    assert offered != isinstance(value, ours.Missing) or isinstance(value, ModuleType)
    if not isinstance(value, ours.Missing):
        return
    with pytest.raises(NotImplementedError, match=rf"^{re.escape(name)} is not emulated"):
        value()
    with pytest.raises(NotImplementedError, match=re.escape(name)):
        value[(4,)](torch.ones(1), eps=1e-6)


@pytest.mark.parametrize("name", [each for each in OFFERED if not each.startswith("torch.ops")])
def test_what_is_offered_is_there(name):
    assert not isinstance(reached(name), ours.Missing)


@pytest.mark.parametrize("name", [each for each in OFFERED if each.startswith("torch.ops")])
def test_operators_are_torchs_too(name):
    operator = name.split(".")[3]
    assert callable(reached(name))
    if operator != "apply_token_bitmask":
        assert getattr(torch.ops.npu, operator) is reached(f"torch_npu.{operator}")


def test_the_packages_can_be_found_and_say_what_they_are():
    import torch_npu

    for name in ("torch_npu", "sgl_kernel_npu", "torchair", "acl", "torch_npu.profiler"):
        assert find_spec(name).name == name and find_spec(name).origin == "emulated"
    assert torch_npu.__version__ == "0.0.0+emulated"
    assert torch_npu.npu is torch.npu is importlib.import_module("torch_npu.npu")
    assert torch_npu.__spec__.name == "torch_npu"


OFF = """
import torch
from importlib.util import find_spec
print([find_spec(name) for name in ("torch_npu", "sgl_kernel_npu", "torchair", "acl")],
      hasattr(torch, "npu"))
from transformers.utils import is_torch_npu_available
print(is_torch_npu_available())
"""


@pytest.mark.parametrize("switch", ["", "0", "yes"])
def test_without_the_switch_nothing_can_be_found(switch):
    assert elsewhere(OFF, NPU_EMULATED=switch) == "[None, None, None, None] False\nFalse"


def test_transformers_sees_an_npu():
    from transformers.utils import is_torch_npu_available

    assert is_torch_npu_available(check_device=True)


TRANSFER = """
import torch
before = torch.cuda.is_available(), torch.cuda.CUDAGraph
from torch_npu.contrib import transfer_to_npu
print(before[0], torch.cuda.is_available(), torch.cuda.CUDAGraph is before[1])
print(all(getattr(torch.cuda, name) is getattr(torch.npu, name)
          for name in "current_device mem_get_info Stream Event synchronize".split()))
moved = torch.ones(1).cuda(), torch.nn.Linear(1, 1).cuda().weight
print(*(each.device == torch.ones(1, device="npu").device for each in moved))
"""


def test_torch_cuda_means_torch_npu_once_it_is_asked_for():
    assert elsewhere(TRANSFER) == "False True True\nTrue\nTrue True"


def test_a_compiled_function_runs_as_it_is():
    import torchair
    from torchair.configs.compiler_config import CompilerConfig

    importlib.import_module(
        "torchair.ge_concrete_graph.ge_converter.experimental.patch_for_hcom_allreduce"
    )
    config = CompilerConfig()
    config.mode, config.debug.run_eagerly = "max-autotune", True
    backend = torchair.get_npu_backend(compiler_config=config)
    doubled = torch.compile(lambda x: 2 * x, backend=backend)(torch.arange(3, device="npu"))
    assert doubled.tolist() == [0, 2, 4]


def test_small_things_that_are_called():
    import acl
    import torch_npu

    options = torch_npu._C._distributed_c10d.ProcessGroupHCCL.Options()
    options.hccl_config = {"hccl_buffer_size": 200}
    assert acl.rt.get_device_info(0, 601) != (3510, 0)
    with pytest.raises(NotImplementedError, match="attribute 1"):
        acl.rt.get_device_info(0, 1)
    tensor = torch.ones(1, device="npu")
    assert torch_npu._C._weak_ref_tensor(tensor) is tensor
    assert torch_npu._apply_patches([]) is torch_npu._apply_all_patches() is None


def test_a_name_of_python_itself_is_absent():
    "So that what copies, pickles or inspects a name does not take it for an emulated one."
    import torch_npu

    for asked in (torch_npu, torch_npu.npu_dynamic_quant):
        assert not hasattr(asked, "__wrapped__") and not hasattr(asked, "__array__")


def kernels(name: str) -> ModuleType:
    "Kernels of SGLang in Triton, without the rest of SGLang."
    file = SGLANG / "kernels" / "ops" / f"{name}.py"
    spec = spec_from_file_location(f"kernels_{file.stem}", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_triton_kernel_of_sglang_finds_positions():
    prefixes, lengths = [3, 0, 700], [2, 4, 600]
    given = (torch.tensor(each, device="npu", dtype=torch.int32) for each in (prefixes, lengths))
    positions, starts = kernels("attention/position").compute_position_triton(*given, sum(lengths))
    assert positions.tolist() == [
        prefix + n for prefix, length in zip(prefixes, lengths) for n in range(length)
    ]
    assert starts.tolist() == [0, 2, 6] and positions.device == starts.device


def test_a_triton_kernel_of_sglang_writes_a_table_through_pointers():
    "Prefixes are given as addresses: what lies there is the device's memory."
    write = kernels("memory/common").write_req_to_token_pool_triton
    prefixes = [torch.arange(100, 103), torch.arange(0), torch.arange(600)]
    new = [2, 3, 1]
    table = torch.zeros(5, 700, dtype=torch.int32, device="npu")
    held = [each.to("npu") for each in prefixes]
    lists = [
        [each.data_ptr() for each in held],
        [len(each) for each in held],
        [len(each) + n for each, n in zip(held, new)],
        new,
    ]
    rows, slots = torch.tensor([4, 1, 2]), torch.arange(1000, 1006)
    write[(3,)](
        table,
        rows.to("npu"),
        *(torch.tensor(each).to("npu") for each in lists),
        slots.to("npu"),
        table.shape[1],
    )
    wanted, first = torch.zeros(5, 700, dtype=torch.int32), 0
    for row, prefix, n in zip(rows.tolist(), prefixes, new):
        wanted[row, : len(prefix) + n] = torch.cat((prefix, slots[first : first + n]))
        first += n
    assert torch.equal(table.cpu(), wanted)


def test_triton_is_told_of_a_device():
    from triton.runtime.driver import driver

    target = driver.active.get_current_target()
    assert (target.backend, target.arch) == ("npu", "0.0.0+emulated")
    assert driver.active.get_benchmarker()(None, quantiles=(0.5, 0.2, 0.8)) == [0, 0, 0]
    assert driver.active.get_device_interface() is torch.npu and driver.active.is_active()


def test_a_triton_kernel_is_one_step_of_a_graph():
    compute = kernels("attention/position").compute_position_triton
    prefixes, lengths = (torch.tensor([n], device="npu", dtype=torch.int32) for n in (3, 2))
    compute(prefixes, lengths, 2)
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        positions, _ = compute(prefixes, lengths, 2)
    prefixes.fill_(7)
    graph.replay()
    assert positions.tolist() == [7, 8]


def test_operators_of_the_page_are_those_of_the_package():
    assert reached("sgl_kernel_npu.mem_cache.allocator.alloc_extend_kernel") is (
        operators.alloc_extend_kernel
    )
