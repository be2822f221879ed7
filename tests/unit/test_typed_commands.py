"""What pages and forms tell a reader to type exists: commands, options, images."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.faces.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = get_command(app).commands
FENCE = re.compile(r"^ *```(?:sh|bash)\n(.*?)^ *```$", re.S | re.M)
TYPED = re.compile(r"(?:^|[\s/;])qwen-npu ((?:[a-z]+ ?)+)(.*)$")
IMAGE = re.compile(r"quay\.io/ascend/sglang:[\w.-]*\w")
SOURCES = [
    *ROOT.glob("nbs/*.ipynb"),
    *ROOT.glob("nbs/zh/*.ipynb"),
    *ROOT.glob(".github/ISSUE_TEMPLATE/[0-9]*.yml"),
]


def prose(source: Path) -> str:
    "A form as it is; of a notebook its markdown."
    text = source.read_text(encoding="utf8")
    if source.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(each["source"]) for each in cells if each["cell_type"] == "markdown")


def typed(source: Path) -> list[tuple[str, str, str]]:
    "Every line of a shell block that calls our command: the line, its words, what follows."
    text = "\n".join(FENCE.findall(prose(source))).replace("\\\n", " ")
    lines = [re.sub(r"\s#\s.*$", "", line).strip() for line in text.splitlines()]
    return [(line, *found.groups()) for line in lines if (found := TYPED.search(line))]


def options(command) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


def wrong(line: str, words: str, rest: str) -> str:  # empty, or what is not there
    "Whether the command exists, and each of its options."
    name, *more = words.split()
    command = COMMANDS.get(name)
    if command is None:
        return f"no command {name}: {line}"
    if more and hasattr(command, "commands"):
        command = command.commands[more[0]]
    asked = set(re.findall(r"(?<!\S)(--[a-z-]+|-[a-z])(?![\w-])", rest.split(";")[0]))
    unknown = asked - options(command) - {"--help"}
    return f"no {', '.join(sorted(unknown))}: {line}" if unknown else ""


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_typed_exists(source):
    assert [said for each in typed(source) if (said := wrong(*each))] == []


def test_enough_is_read():
    "The pages of this test's kind have such lines, and a wrong one is seen."
    counted = {source.name: len(typed(source)) for source in SOURCES}
    assert counted["recipes.ipynb"] >= 12 and counted["help.ipynb"] == 3
    assert counted["1-problem.yml"] == counted["2-problem-zh.yml"] == 3
    assert wrong("", "fly", "") and wrong("", "serve", "--fast") and wrong("", "logs", "-x 3")
    assert not wrong("", "logs", "-n 5000 > server.log")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_an_image_is_one_of_ours(source):
    ours = {image for stack in stacks().values() for image in stack.images.values()}
    assert set(IMAGE.findall(prose(source))) <= ours
