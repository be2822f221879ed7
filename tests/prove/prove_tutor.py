"""The teaching model, trained anew from its dialogues and examined: about 15 minutes on 2 cores.

Run by `make prove`, in the engine's environment, because that is where torch is. The training is
what the cells of nbs/rehearsal/course.ipynb define."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from patience import patient

from qwen_npu_tut.base.files import program
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.rehearsal.tutor import data_folder, made_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = data_folder().parent
COURSE = ROOT / "nbs/rehearsal/course.ipynb"
LESSONS = ROOT / "tests/support/lessons.py"
# The name of a built folder, and its digest: over each file's SHA-256, in the order of their names.
# The tokenizer is as transformers of SGLang 0.5.23 writes it.
BUILT = (
    "0b3e0bc6d716df3c6bc0029605111357528941e7f63eaa58b1de6c302ffc7e23",
    "507c37050a4b40cb9f17de61129119bb23b4815e5d62dbdc35a3ffa72066b7b5",
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    "Runs Python in the engine's environment, with the module as it is in this work tree."
    python = Engine(read_machine(Host()), stacks()["cpu"]).python
    if not python.exists():
        pytest.skip("the engine is not installed: make up")
    beside = tmp_path_factory.mktemp("package")
    (beside / "qwen_npu_tut").symlink_to(PACKAGE)
    path = os.pathsep.join(filter(None, [str(beside), os.environ.get("PYTHONPATH")]))

    def run(*words: object, seconds: int = 3600) -> str:
        done = subprocess.run(
            [str(python), "-W", "ignore", *map(str, words)],
            env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
            timeout=patient(seconds),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def course(engine):
    "Calls a function of the course's page."

    def call(function: str, **arguments) -> str:
        return engine(program("cells"), COURSE, function, json.dumps(arguments))

    return call


def train(course, folder: Path, **more) -> Path:
    print(course("train", folder=str(folder), **more))
    return folder / "weights.safetensors"


@pytest.fixture(scope="module")
def shipped(engine, tmp_path_factory):
    "The shipped weights as a built folder."
    folder = tmp_path_factory.mktemp("shipped") / "model"
    engine("-m", "qwen_npu_tut.rehearsal.tutor", "build", folder)
    return folder


def rates(course, folder: Path, **more) -> dict[str, float]:
    result = json.loads(course("exam", folder=str(folder), **more))
    wrong = json.dumps(result["wrong"][:10], ensure_ascii=False, indent=1)
    print(result["counts"], wrong, sep="\n")
    return {kind: right / asked for kind, (right, asked) in result["counts"].items()}


def test_a_folder_is_what_its_name_says(shipped):
    found = [sha256(path.read_bytes()) for path in sorted(shipped.iterdir())]
    assert (made_of(), sha256("\n".join(found).encode())) == BUILT


def test_same_seed_same_weights(course, tmp_path):
    files = [train(course, tmp_path / name, steps=30, seed=7) for name in ("first", "second")]
    assert len({sha256(file.read_bytes()) for file in files}) == 1


def test_both_forms_say_the_same(engine, shipped):
    small, large = json.loads(engine(LESSONS, "both_forms", shipped))
    assert small == large


@pytest.mark.parametrize("more", [{}, {"sample": True, "most": 2}], ids=["greedy", "sampled"])
def test_what_the_shipped_model_knows(course, shipped, more):
    found = rates(course, shipped, **more)
    assert found["exact"] >= (0.95 if more else 0.98)
    assert found["strange"] >= 0.9
    assert found["reworded"] >= 0.6


def test_a_new_training_knows_as_much(engine, course, tmp_path):
    """On the kind of processor where the shipped weights were trained they come out the same;
    elsewhere they must be as good."""
    weights = train(course, tmp_path / "data")
    for path in data_folder().iterdir():
        if path.name != weights.name:
            (weights.parent / path.name).write_bytes(path.read_bytes())
    same = weights.read_bytes() == (data_folder() / weights.name).read_bytes()
    print("the very same weights" if same else "other weights than the shipped ones")
    engine(LESSONS, "build", weights.parent, tmp_path / "model")
    found = rates(course, tmp_path / "model")
    assert found["exact"] >= 0.98 and found["strange"] >= 0.9
