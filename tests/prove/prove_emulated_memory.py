"""SGLang's own figures of memory on an emulated NPU, against what `fit` computes: ten minutes.

SGLang measures a device before and after it has loaded a model, and lays its cache into the rest.
Here the device has the size of a real one and nothing on it is written, so models of any size fit.
What no emulation knows is what CANN, the kernels and the graphs take for themselves: graphs are
off. Run by `make prove`; nothing here was run on an NPU."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import patient

from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.settings import TEACHING_MODEL, home
from qwen_npu_tut.engine.memory import chip_named, fit, shape_of
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.model.folder import model_folder
from qwen_npu_tut.server.processes import birth, end_session, free_port
from qwen_npu_tut.walk import choose, fetch

GB, PAGE = 1 << 30, 128
SHAPES = table("memory.toml")["shapes"]


def config(name: str) -> dict:
    "A whole config.json of a Qwen3."
    return {
        **SHAPES[f"Qwen/Qwen3-{name}"],
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "rope_scaling": None,
        "sliding_window": None,
        "use_sliding_window": False,
        "use_cache": True,
        "initializer_range": 0.02,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
        "torch_dtype": "bfloat16",
    }


@dataclass(frozen=True)
class Room:
    "What SGLang says of a device's memory, GB and counts."

    load: float  # by the model
    tokens: int
    requests: int
    left: float


def expected(stack: str, name: str, chip: str, ranks: int = 1, taken: float = 0) -> Room:
    "What `qwen-npu fit` computes, without graphs. `taken`: GB that the load takes beside weights."
    shape = shape_of(SHAPES[f"Qwen/Qwen3-{name}"], name)
    flags = {"--tp-size": str(ranks), "--disable-cuda-graph": "set"}
    found = fit(shape, chip_named(chip), stacks()[stack], flags, taken)
    sines = (shape.max_position_embeddings + 256) * shape.head_dim * 2
    load = (found.weight_bytes + sines) / GB + taken
    return Room(load, found.max_total_tokens, found.max_running, found.free_bytes / GB)


def started(stack: str, name: str, folder: Path, *flags: str, **variables: str) -> str:
    "What a server of a model without weights writes until it knows its memory, or ends."
    engine = Engine(read_machine(Host()), stacks()[stack])
    if not engine.python.is_file():
        pytest.skip(f"the engine is not installed: qwen-npu install --stack {stack}")
    fetch(choose(stack=stack, model=TEACHING_MODEL), keep_served=True)
    model, log = folder / "model", folder / "log"
    weightless = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(model_folder(TEACHING_MODEL), model, ignore=weightless)
    (model / "config.json").write_text(json.dumps(config(name)))
    port = free_port("127.0.0.1", 0)
    own = {**engine.stack.environment, "NPU_EMULATED_LAZY": "1", "HF_HUB_OFFLINE": "1"}
    if "--tp" in flags:
        own |= engine.stack.together
    line = [engine.python, "-m", "sglang.launch_server", "--model-path", model, "--device", "npu"]
    line += ["--attention-backend", "ascend", "--load-format", "dummy", "--disable-cuda-graph"]
    line += ["--skip-server-warmup", "--host", "127.0.0.1", "--port", str(port), *flags]
    with log.open("w") as out:
        process = subprocess.Popen(
            line,
            env={**os.environ, **own, **variables},
            cwd=home(),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    born, deadline = birth(process.pid), time.monotonic() + patient(420)
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if re.search(r"max_total_num_tokens=|OutOfMemoryError", log.read_text()):
                break
            time.sleep(0.2)
    finally:
        end_session(process.pid, born, grace=0)
        process.wait()
    return log.read_text(errors="replace")


def read(log: str) -> Room:
    "The figures in SGLang's own lines."
    load = re.search(r"Load weight end.*mem usage=([\d.]+) GB", log)
    end = re.search(
        r"max_total_num_tokens=(\d+),.*max_running_requests=(\d+),.*available_gpu_mem=([\d.]+) GB",
        log,
    )
    assert load and end, log[-3000:]
    return Room(float(load[1]), int(end[1]), int(end[2]), float(end[3]))


def compare(what: str, seen: Room, hand: Room) -> None:
    "Both, and that they agree: tokens within a thousandth, GB in the second digit."
    print(f"\n{what}\n  SGLang  {seen}\n  by hand {hand}")
    assert abs(seen.load - hand.load) <= 0.02
    assert abs(seen.tokens - hand.tokens) <= max(PAGE, hand.tokens / 1000)
    assert abs(seen.requests - hand.requests) <= hand.requests / 1000
    assert abs(seen.left - hand.left) <= 0.05


CASES = [
    ("A2", "0.6B", 1),
    ("A2", "4B", 1),
    ("A2", "8B", 1),
    ("A2", "32B", 2),
    ("910B4", "0.6B", 1),
    ("910B4", "4B", 1),
    ("910B4", "8B", 1),
]


@pytest.mark.parametrize("chip, name, ranks", CASES)
def test_the_newest_sglang(tmp_path, chip, name, ranks):
    flags = ["--tp", str(ranks)] if ranks > 1 else []
    log = started("emulated", name, tmp_path, *flags, NPU_EMULATED_CHIP=chip)
    hand = expected("emulated", name, chip, ranks)
    version = stacks()["emulated"].version("sglang")
    compare(f"SGLang {version}, {chip}, {name}, {ranks} device(s)", read(log), hand)


@pytest.mark.parametrize("chip, name", [("A2", "32B"), ("910B4", "32B")])
def test_a_device_that_is_too_small(tmp_path, chip, name):
    log = started("emulated", name, tmp_path, NPU_EMULATED_CHIP=chip)
    said = re.search(r"NPU out of memory\. Tried to allocate .*", log)
    print(f"\n{said and said[0]}")
    total = f"{chip_named(chip).total_mib / 1024:.2f} GiB total capacity"
    assert said and total in said[0] and "emulated" in said[0]
    assert "max_total_num_tokens" not in log


@pytest.mark.parametrize("name", ["0.6B", "8B"])
def test_the_guides_sglang(tmp_path, name):
    log = started("emulated-guide", name, tmp_path, NPU_EMULATED_CHIP="A2")
    seen, hand = read(log), expected("emulated-guide", name, "A2")
    compare(f"SGLang 0.5.3rc0, A2, {name}, nothing fitted", seen, hand)
    if name == "8B":  # the guide's log has 254,848 and 3186
        assert abs(seen.tokens / 254_848 - 1) < 0.01 and abs(seen.requests / 3186 - 1) < 0.01


def test_the_guides_log(tmp_path):
    "With 318 MB more taken at the load, the one number that is fitted: the guide's own figures."
    more = {"NPU_EMULATED_CHIP": "A2", "NPU_EMULATED_LOADED_MB": "318"}
    seen = read(started("emulated-guide", "8B", tmp_path, **more))
    hand = expected("emulated-guide", "8B", "A2", taken=318 / 1024)
    compare("SGLang 0.5.3rc0, A2, 8B, 318 MB at the load", seen, hand)
    assert (seen.tokens, seen.requests) == (254_848, 3186)
    graphs = 0.39  # in the guide's log; no emulation knows it
    assert round(seen.left - graphs, 2) == 9.04
