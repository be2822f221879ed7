"The teaching model: a shape that every SGLang takes, and a home that holds an older one."

import hashlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.base.settings import TEACHING_MODEL
from qwen_npu_tut.engine.cpu import FOR_THE_ENGINE
from qwen_npu_tut.engine.plan import FileDone, Step
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.model.folder import model_folder, verify
from qwen_npu_tut.rehearsal.tutor import MADE_OF, SHAPE, data_folder, made_of
from qwen_npu_tut.server.lifecycle import SERVERS, Server, find
from qwen_npu_tut.server.processes import birth

# On an NPU other heads are left to vllm, which no stack installs:
# sglang 0.5.3rc0 and 0.5.6.post2, srt/layers/rotary_embedding.py.
HEAD_DIMENSIONS = {"0.5.3rc0": (64, 128, 256, 512), "0.5.6.post2": (64, 128, 256, 512)}


@pytest.mark.parametrize("name", stacks())
def test_the_shape_is_one_that_the_stack_takes(name):
    allowed = HEAD_DIMENSIONS.get(stacks()[name].version("sglang"))
    assert allowed is None or SHAPE["head_dim"] in allowed


def test_the_shape_fits_the_kernels_and_two_devices():
    heads, groups = SHAPE["num_attention_heads"], SHAPE["num_key_value_heads"]
    assert groups < heads and heads % groups == 0  # grouped, as Qwen3-8B's are
    # sgl-kernel-npu norm/split_qkv_rmsnorm_rope.py@240ec377 asserts it of a head; groups of five
    # work there (Qwen3-14B)
    assert SHAPE["head_dim"] & (SHAPE["head_dim"] - 1) == 0
    assert not any(count % 2 for count in (heads, groups, SHAPE["intermediate_size"]))  # --tp 2


def test_the_weights_stay_small():
    assert (data_folder() / "weights.safetensors").stat().st_size <= 5_200_000


FAKE = str(Path(__file__).resolve().parents[1] / "support" / "fake_engine.py")

# A stand-in for the engine's interpreter. It builds with the module and the data that lie in its
# site-packages; what needs torch is small: one tensor a layer, with numbers from the data's hash.
ENGINE = """#!{python}
import json, sys
sys.path.insert(0, {site!r})
from qwen_npu_tut.rehearsal import tutor

def write_shards(folder, tensors):
    width, content = tutor.SHAPE["head_dim"], bytes.fromhex(tutor.made_of())
    rows = {{f"model.layers.{{layer}}.self_attn.q_norm.weight": dict(dtype="BF16", shape=[width],
             data_offsets=[2 * width * layer, 2 * width * (layer + 1)])
             for layer in range(tutor.SHAPE["num_hidden_layers"])}}
    header = json.dumps(rows).encode()
    numbers = content * (2 * width * len(rows) // len(content))
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + numbers)

tutor.write_shards, tutor.expanded = write_shards, lambda: None
tutor.write_tokenizer = lambda folder: tutor.write_json(
    folder / "tokenizer.json", dict(of=tutor.made_of()))
sys.exit(tutor.main(sys.argv[3:]))
"""


def lay_older(site: Path) -> str:
    "Lay the package into an engine as an earlier version had it, with other heads; its MADE_OF."
    package = Path(walk.__file__).parent
    for file in (file for pattern in FOR_THE_ENGINE for file in package.glob(pattern)):
        laid = site / "qwen_npu_tut" / file.relative_to(package)
        laid.parent.mkdir(parents=True, exist_ok=True)
        laid.write_bytes(file.read_bytes())
    module = site / "qwen_npu_tut/rehearsal/tutor.py"
    old = module.read_bytes().replace(b"head_dim=%d" % SHAPE["head_dim"], b"head_dim=32")
    assert old != module.read_bytes()
    module.write_bytes(old)
    name = hashlib.sha256(old).hexdigest()
    (site / "qwen_npu_tut/teaching" / MADE_OF).write_text(name)
    return name


def laid(engine) -> Step:
    "The plugin's step where it is done."
    module = engine.site / "qwen_npu_tut/rehearsal/tutor.py"
    return Step("plugin", "It lies there.", ("true",), FileDone(module))


@pytest.fixture
def choice(private_home, monkeypatch):
    "A home as an earlier version left it: its plugin in the engine, its model built and fetched."
    choice = walk.choose(stack="cpu", model=TEACHING_MODEL)
    python, site = choice.engine.python, choice.engine.site
    python.parent.mkdir(parents=True)
    python.write_text(ENGINE.format(python=sys.executable, site=str(site)))
    python.chmod(0o755)
    old = lay_older(site)
    with monkeypatch.context() as earlier:
        earlier.setattr(walk, "plugin_step", laid)
        earlier.setattr(walk, "made_of", lambda: old)
        folder = walk.fetch(choice)
    assert folder == model_folder(TEACHING_MODEL) and verify(folder, "times")
    assert shape_of(folder)["head_dim"] == 32 and (folder / MADE_OF).read_text() == old
    return choice


def shape_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def hashes_of(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_an_older_model_is_replaced_as_a_whole(choice, private_home):
    folder = walk.fetch(choice)
    assert verify(folder, "times") and verify(folder)
    assert shape_of(folder)["head_dim"] == SHAPE["head_dim"]
    assert (folder / MADE_OF).read_text() == made_of()
    assert hashes_of(folder) == hashes_of(private_home / "hub" / "teaching-qwen3")
    events = []
    assert (
        walk.fetch(choice, events.append) == folder and events == []
    )  # and left alone from then on


def test_an_interrupted_replacement_is_no_model(choice):
    "Some files are new and some are old then: nothing serves that, and the next call ends it."
    folder, replaced = model_folder(TEACHING_MODEL), []

    def interrupt(event):
        if event.kind == "replacing":
            replaced.append(event.name)
        if len(replaced) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk.fetch(choice, interrupt)
    assert shape_of(folder)["head_dim"] == SHAPE["head_dim"]
    assert not verify(folder, "times") and not verify(folder)
    assert verify(walk.fetch(choice), "times")
    assert (folder / MADE_OF).read_text() == made_of()


def serves(folder) -> Server:
    "This process as a server of ours that serves a folder."
    server = Server(
        "mine",
        "teaching-qwen3",
        "http://127.0.0.1:1",
        os.getpid(),
        birth(os.getpid()),
        str(folder),
        "log",
        (),
        time.time(),
    )
    SERVERS.write("mine", server)
    return server


def test_what_a_server_serves_stays_for_up_where_it_is_whole(choice, private_home):
    folder = model_folder(TEACHING_MODEL)
    before = hashes_of(folder)
    serves(private_home / "elsewhere" / ".." / "models" / folder.name)
    assert walk.fetch(choice, keep_served=True) == folder and hashes_of(folder) == before
    (folder / "config.json").write_text("{")
    assert walk.fetch(choice, keep_served=True) == folder
    assert verify(folder, "times") and (folder / MADE_OF).read_text() == made_of()


def test_a_server_of_another_folder_keeps_nothing(choice, private_home):
    serves(private_home / "elsewhere")
    folder = walk.fetch(choice, keep_served=True)
    assert (folder / MADE_OF).read_text() == made_of()


@pytest.fixture
def up(choice, run, monkeypatch):
    "`serve`, `up`, … with an engine whose interpreter builds the model, and else is the stand-in."
    python = choice.engine.python
    build = python.rename(python.with_name("build"))
    python.write_text(
        f"#!{sys.executable}\nimport runpy, sys\nbuilds = 'build' in sys.argv\n"
        f"runpy.run_path({str(build)!r} if builds else {FAKE!r}, run_name='__main__')\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(walk, "planned", lambda choice: [])  # an engine that is whole
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"seconds": 0.01}))
    options = ("--stack", "cpu", "--model", TEACHING_MODEL, "--port", "0")
    yield lambda command: run(command, *options)
    run("stop")


def test_up_takes_over_a_server_that_serves_the_older_one(choice, up, run):
    folder, newer = model_folder(TEACHING_MODEL), "There is a newer teaching model"
    before = hashes_of(folder)
    assert up("serve")[0] == 0
    server = find("default")
    code, out, err = up("up")
    assert code == 0, out + err
    assert f"process {server.pid} answers as teaching-qwen3" in out and out.count(newer) == 1
    assert hashes_of(folder) == before and find("default") == server
    assert run("stop")[0] == 0
    code, out, err = up("up")
    assert code == 0 and newer not in out, out + err
    assert (folder / MADE_OF).read_text() == made_of() and find("default").pid != server.pid


def test_up_is_refused_where_the_older_one_was_replaced_by_hand(up, run):
    assert up("serve")[0] == 0
    code, out, _ = run("download", TEACHING_MODEL)
    assert code == 0 and "The server 'default' still serves the model that lay there before" in out
    code, _, err = up("up")
    assert code == 1 and "another lies there now" in err


def test_download_names_a_server_that_serves_the_older_one(choice, run, private_home):
    folder = model_folder(TEACHING_MODEL)
    server = serves(folder)
    code, out, _ = run("download", TEACHING_MODEL)
    assert code == 0 and "The server 'mine' still serves the model that lay there before" in out
    write_atomic(
        private_home / "servers" / "mine.json",
        json.dumps(asdict(server) | {"started": time.time()}),
    )
    code, out, _ = run("download", TEACHING_MODEL)
    assert code == 0 and "still serves" not in out


def test_without_an_engine_it_says_so(private_home):
    with pytest.raises(Problem, match="engine of the stack cpu is not installed"):
        walk.fetch(walk.choose(stack="cpu", model=TEACHING_MODEL))
    assert not (private_home / "stacks").exists()
