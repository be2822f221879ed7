"""What the proofs of the teaching model do in the engine's Python.

python lessons.py build DATA FOLDER     lay out the model with a data folder of one's own
python lessons.py both_forms FOLDER     the same replies of the small form and of a built folder
"""

import json
import sys
from pathlib import Path

from qwen_npu_tut.rehearsal import tutor

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "nbs/rehearsal/course.ipynb"
CELLS = ROOT / "qwen_npu_tut/programs/cells.py"


def build(data: str, folder: str) -> None:
    tutor.data_folder = lambda: Path(data)
    tutor.build(folder)


def both_forms(folder: str) -> None:
    import torch
    from safetensors.torch import load_file

    sys.path.insert(0, str(CELLS.parent))
    from cells import namespace

    course = namespace(str(COURSE))
    chat, data = course["Chat"](), course["read_dialogues"]()
    scenes = [scene for _, scene in course["exam_scenes"](data, most=1)][::6]
    prompts = [
        chat.render(scene.messages(), course["offered"](data, scene.tools), thinking=False)
        for scene in scenes
    ]
    layers = load_file(tutor.data_folder() / "weights.safetensors")
    rows, row_ids = layers.pop("rows"), layers.pop("row_ids").tolist()
    hole = len(row_ids)
    small = course["new_model"](hole).to(torch.bfloat16).eval()
    embedding = torch.cat([rows, torch.zeros_like(rows[:1])])
    tied = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}
    small.load_state_dict(layers | tied)
    place = {number: row for row, number in enumerate(row_ids)}

    def reply(prompt: str) -> str:
        read = torch.tensor([[place.get(number, hole) for number in chat.ids(prompt)]])
        made = small.generate(
            read,
            attention_mask=torch.ones_like(read),
            do_sample=False,
            max_new_tokens=640,
            eos_token_id=place[151645],
            pad_token_id=hole,
        )
        written = [row_ids[row] for row in made[0, read.shape[1] : -1].tolist()]
        return chat.tokenizer.decode(written, skip_special_tokens=False)

    replies = [reply(prompt) for prompt in prompts]
    print(json.dumps([replies, course["continue_all"](folder, prompts)]))


if __name__ == "__main__":
    {"build": build, "both_forms": both_forms}[sys.argv[1]](*sys.argv[2:])
