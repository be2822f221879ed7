"""SGLang's own figures of memory on an emulated NPU, against its formulas written out: ten minutes.

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

from qwen_npu_tut.base.settings import TEACHING_MODEL, home
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.model.folder import model_folder
from qwen_npu_tut.server.processes import birth, end_session, free_port
from qwen_npu_tut.walk import choose, fetch

GB, CONTEXT, PAGE = 1 << 30, 40_960, 128


@dataclass(frozen=True)
class Shape:
    "A dense Qwen3, as its config.json says."

    hidden: int
    layers: int
    heads: int
    inner: int
    tied: bool = False
    key_heads: int = 8
    head: int = 128
    words: int = 151_936

    @property
    def parameters(self) -> int:
        "Embedding and output, and of each layer: attention with two norms, MLP, two norms."
        of_heads = self.hidden * self.head * (2 * self.heads + 2 * self.key_heads) + 2 * self.head
        layer = of_heads + 3 * self.hidden * self.inner + 2 * self.hidden
        ends = self.words * self.hidden * (1 if self.tied else 2)
        return ends + self.layers * layer + self.hidden

    @property
    def cell(self) -> int:
        "Bytes of the cache for a token: keys and values of every layer, 16 bits each."
        return self.key_heads * self.head * self.layers * 2 * 2

    def config(self) -> dict:
        "Its config.json."
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head,
            "intermediate_size": self.inner,
            "vocab_size": self.words,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": CONTEXT,
            "max_window_layers": self.layers,
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


SHAPES = {
    "0.6B": Shape(1024, 28, 16, 3072, tied=True),
    "4B": Shape(2560, 36, 32, 9728, tied=True),
    "8B": Shape(4096, 36, 32, 12_288),
    "32B": Shape(5120, 64, 64, 25_600),
}


@dataclass(frozen=True)
class Device:
    "MiB that it says it has, and GB that are free on it before anything is loaded."

    total: int
    free: float


# What a 64 GB A2 and a 32 GB 910B4 say of themselves: qwen_npu_tut/devices.toml has the sources.
CHIPS = {"A2": Device(62_420, 60.51), "910B4": Device(30_208, 29.2)}


def kept_free(version: str, device: Device, ranks: int) -> float:
    "The share of a device that SGLang leaves alone, without graphs."
    small = device.total <= 32 * 1024
    if version == "0.5.3rc0":  # server_args.py, lines 504 to 528
        reserved = (2.8 + ranks / 10 if device.total < 35 * 1024 else 9.5 + ranks / 2) * 1024
    else:  # 0.5.16 and 0.5.23: hardware_backend/npu/utils.py, arg_groups/memory_hook.py
        prefill = 4096 if small else 8192
        reserved = 512 + 1.5 * prefill + 128 * ranks
        if device.total > 60 * 1024:
            reserved = max(reserved, 10 * 1024)
    return 1 - round((device.total - reserved) / device.total, 3)


@dataclass(frozen=True)
class Room:
    "What SGLang says of a device's memory, GB and counts."

    load: float  # by the model
    tokens: int
    requests: int
    left: float


def expected(version: str, shape: Shape, device: Device, ranks: int = 1, taken: float = 0) -> Room:
    """By hand: what is free after the load less what is to stay free, in whole pages.

    `taken`: GB that the load takes beside the weights. 0.5.3rc0 counts requests, then rounds."""
    # Every rank has all norms and a share of the rest, which is as good as all; and the sines and
    # cosines of every place in the context, 16 bits each.
    load = (shape.parameters * 2 / ranks + CONTEXT * shape.head * 2) / GB + taken
    share = kept_free(version, device, ranks)
    unrounded = int((device.free - load - device.free * share) * GB // (shape.cell // ranks))
    tokens = unrounded // PAGE * PAGE
    counted = unrounded if version == "0.5.3rc0" else tokens
    requests = min(max(int(counted / CONTEXT * 512), 2048), 4096)
    table = requests * (CONTEXT + 4) * 4 / GB  # which token of which request lies where, int32
    return Room(load, tokens, requests, device.free * share - table)


def started(stack: str, shape: Shape, folder: Path, *flags: str, **variables: str) -> str:
    "What a server of a model without weights writes until it knows its memory, or ends."
    engine = Engine(read_machine(Host()), stacks()[stack])
    if not engine.python.is_file():
        pytest.skip(f"the engine is not installed: qwen-npu install --stack {stack}")
    fetch(choose(stack=stack, model=TEACHING_MODEL), keep_served=True)
    model, log = folder / "model", folder / "log"
    weightless = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(model_folder(TEACHING_MODEL), model, ignore=weightless)
    (model / "config.json").write_text(json.dumps(shape.config()))
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
    log = started("emulated", SHAPES[name], tmp_path, *flags, NPU_EMULATED_CHIP=chip)
    version = stacks()["emulated"].version("sglang")
    hand = expected(version, SHAPES[name], CHIPS[chip], ranks)
    compare(f"SGLang {version}, {chip}, {name}, {ranks} device(s)", read(log), hand)


@pytest.mark.parametrize("chip, name", [("A2", "32B"), ("910B4", "32B")])
def test_a_device_that_is_too_small(tmp_path, chip, name):
    log = started("emulated", SHAPES[name], tmp_path, NPU_EMULATED_CHIP=chip)
    said = re.search(r"NPU out of memory\. Tried to allocate .*", log)
    print(f"\n{said and said[0]}")
    total = f"{CHIPS[chip].total / 1024:.2f} GiB total capacity"
    assert said and total in said[0] and "emulated" in said[0]
    assert "max_total_num_tokens" not in log


def test_the_parameters_are_the_models():
    "Qwen's model cards: 0.6, 4.0, 8.2 and 32.8 billion; of 8B the exact number of its weights."
    assert SHAPES["8B"].parameters == 8_190_735_360
    assert [round(each.parameters / 1e9, 1) for each in SHAPES.values()] == [0.6, 4.0, 8.2, 32.8]


GUIDE = "0.5.3rc0"


@pytest.mark.parametrize("name", ["0.6B", "8B"])
def test_the_guides_sglang(tmp_path, name):
    log = started("emulated-guide", SHAPES[name], tmp_path, NPU_EMULATED_CHIP="A2")
    seen, hand = read(log), expected(GUIDE, SHAPES[name], CHIPS["A2"])
    compare(f"SGLang {GUIDE}, A2, {name}, nothing fitted", seen, hand)
    if name == "8B":  # the guide's log has 254,848 and 3186
        assert abs(seen.tokens / 254_848 - 1) < 0.01 and abs(seen.requests / 3186 - 1) < 0.01


def test_the_guides_log(tmp_path):
    "With 318 MB more taken at the load, the one number that is fitted: the guide's own figures."
    more = {"NPU_EMULATED_CHIP": "A2", "NPU_EMULATED_LOADED_MB": "318"}
    seen = read(started("emulated-guide", SHAPES["8B"], tmp_path, **more))
    hand = expected(GUIDE, SHAPES["8B"], CHIPS["A2"], taken=318 / 1024)
    compare(f"SGLang {GUIDE}, A2, 8B, 318 MB at the load", seen, hand)
    assert (seen.tokens, seen.requests) == (254_848, 3186)
    graphs = 0.39  # in the guide's log; no emulation knows it
    assert round(seen.left - graphs, 2) == 9.04
