"""The teaching model, trained anew from its dialogues and examined: about 15 minutes on 2 cores.

Run by `make prove`, in the engine's environment, because that is where torch is."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from patience import patient
from qwen_npu_tut.install import engine_python
from qwen_npu_tut.rehearsal.tutor import data_folder

PACKAGE = data_folder().parent
OWN_WEIGHTS = "import qwen_npu_tut.rehearsal.tutor as tutor; from pathlib import Path; tutor.data_folder = lambda: Path({data!r}); tutor.build({folder!r})"
TWO_FORMS = """
import json, torch
from pathlib import Path
from safetensors.torch import load_file
from qwen_npu_tut import course, tutor
scenes = [scene for _, scene in course.exam_scenes(course.read_dialogues(), most=1)][::6]
chat, data = tutor.Chat(), course.read_dialogues()
prompts = [chat.render(scene.messages(), course.offered(data, scene.tools), thinking=False) for scene in scenes]
layers = load_file(tutor.data_folder() / "weights.safetensors")
rows, row_ids = layers.pop("rows"), layers.pop("row_ids").tolist()
small = course.new_model(len(row_ids)).to(torch.bfloat16).eval()
embedding = torch.cat([rows, torch.zeros_like(rows[:1])])
small.load_state_dict(layers | {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding})
place = {number: row for row, number in enumerate(row_ids)}
def reply(prompt):
    read = torch.tensor([[place.get(number, len(row_ids)) for number in chat.ids(prompt)]])
    made = small.generate(read, attention_mask=torch.ones_like(read), do_sample=False, max_new_tokens=640, eos_token_id=place[151645], pad_token_id=len(row_ids))
    return chat.tokenizer.decode([row_ids[row] for row in made[0, read.shape[1]:-1].tolist()], skip_special_tokens=False)
print(json.dumps([[reply(prompt) for prompt in prompts], tutor.continue_all(%r, prompts)]))
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    "Runs Python in the engine's environment, with the module as it is in this work tree."
    python = engine_python("cpu")
    if not python.exists():
        pytest.skip("the engine is not installed: make up")
    beside = tmp_path_factory.mktemp("package")
    (beside / "qwen_npu_tut").symlink_to(PACKAGE)
    path = os.pathsep.join(filter(None, [str(beside), os.environ.get("PYTHONPATH")]))

    def run(*arguments: str, seconds: int = 3600) -> str:
        done = subprocess.run(
            [str(python), "-W", "ignore", *arguments],
            env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
            timeout=patient(seconds),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def train(engine, folder: Path, *options: str) -> Path:
    print(engine("-m", "qwen_npu_tut.rehearsal.course", "train", str(folder), *options))
    return folder / "weights.safetensors"


@pytest.fixture(scope="module")
def shipped(engine, tmp_path_factory):
    "The shipped weights as a built folder."
    folder = tmp_path_factory.mktemp("shipped") / "model"
    engine("-m", "qwen_npu_tut.rehearsal.tutor", "build", str(folder))
    return folder


def rates(engine, folder: Path, *options: str) -> dict[str, float]:
    result = json.loads(
        engine("-m", "qwen_npu_tut.rehearsal.course", "exam", str(folder), *options)
    )
    print(
        result["counts"], json.dumps(result["wrong"][:10], ensure_ascii=False, indent=1), sep="\n"
    )
    return {kind: right / asked for kind, (right, asked) in result["counts"].items()}


def test_same_seed_same_weights(engine, tmp_path):
    files = [
        train(engine, tmp_path / name, "--steps", "30", "--seed", "7")
        for name in ("first", "second")
    ]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1


def test_both_forms_say_the_same(engine, shipped):
    small, large = json.loads(engine("-c", TWO_FORMS % str(shipped)))
    assert small == large


@pytest.mark.parametrize("options", [(), ("--sample", "--most", "2")], ids=["greedy", "sampled"])
def test_what_the_shipped_model_knows(engine, shipped, options):
    found = rates(engine, shipped, *options)
    assert (
        found["exact"] >= (0.95 if options else 0.98)
        and found["strange"] >= 0.9
        and found["reworded"] >= 0.6
    )


def test_a_new_training_knows_as_much(engine, tmp_path):
    "On the kind of processor where the shipped weights were trained they come out the same; elsewhere they must be as good."
    weights = train(engine, tmp_path / "data")
    for path in data_folder().iterdir():
        if path.name != weights.name:
            (weights.parent / path.name).write_bytes(path.read_bytes())
    same = weights.read_bytes() == (data_folder() / weights.name).read_bytes()
    print("the very same weights" if same else "other weights than the shipped ones")
    engine("-c", OWN_WEIGHTS.format(data=str(weights.parent), folder=str(tmp_path / "model")))
    found = rates(engine, tmp_path / "model")
    assert found["exact"] >= 0.98 and found["strange"] >= 0.9
