"The pictures of the book: made anew they are the same, they fit, they can be read, they are true."

import json
import re
import tomllib
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import pictures
import pytest
from drawing import breadth, broken, wrapped
from machines import A2
from pictures import LANGUAGES, OUT, PICTURES, ROOT, WORDS, made

from qwen_npu_tut.engine.stacks import changes, fitting_stack, stacks
from qwen_npu_tut.host.machine import read_machine

NAMES = [draw.__name__ for draw in PICTURES]
FILES = sorted(OUT.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
BOX = tuple[float, float, float, float]  # left, top, right, bottom

each_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)


def test_they_are_what_the_tool_makes():
    wanted = made()
    assert [path.name for path in FILES] == sorted(wanted)
    old = [path.name for path in FILES if path.read_text(encoding="utf8") != wanted[path.name]]
    assert not old, "python tools/pictures.py"


def test_a_change_is_named(tmp_path, monkeypatch, capsys):
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["pictures.py", *words])
        return pictures.main()

    out = tmp_path / "nbs/pictures"
    monkeypatch.setattr(pictures, "OUT", out)
    monkeypatch.setattr("made.ROOT", tmp_path)
    assert run() == 0 and run("--check") == 0
    changed = out / "tokens.zh.svg"
    changed.write_text(changed.read_text(encoding="utf8").replace("151644", "151643"))
    assert run("--check") == 1 and "151643" in changed.read_text(encoding="utf8")
    said = capsys.readouterr().err.splitlines()
    assert said == ["nbs/pictures/tokens.zh.svg is out of date: python tools/pictures.py"]


def test_each_is_there_in_both_languages():
    assert {path.name for path in FILES} == {f"{n}{m}.svg" for n in NAMES for m in ("", ".zh")}
    for name in NAMES:
        for language, mark in LANGUAGES.items():
            root = ElementTree.parse(OUT / f"{name}{mark}.svg").getroot()
            title, desc = root.find(f"{SVG}title").text, root.find(f"{SVG}desc").text
            assert root.get("role") == "img" and root.get("lang") == language
            assert root.get("aria-labelledby").split() == ["title", "desc"]
            assert title and len(desc) > len(title)
            assert bool(re.search("[\u4e00-\u9fff]", desc.replace("你好！", ""))) == (mark != "")


@each_file
def test_nothing_comes_from_elsewhere(file):
    text = file.read_text(encoding="utf8").replace("http://www.w3.org/2000/svg", "", 1)
    assert not re.search(r"https?:|@import|<script|<image|<use|href|\bon\w+=|@font-face", text)
    assert not re.search(r"url\((?!#)", text)


# Where a text and a rectangle are, by a measure of this test's own: a Chinese letter is as wide as
# the line is high, another one 0.6 of it.


def sizes(text: str) -> dict[str, float]:
    "The letters' height of each class."
    return {name: float(px) for name, px in re.findall(r"\.(\w+)\{font-size:([\d.]+)px", text)}


def place_of(text, letters: dict[str, float]) -> BOX:
    size, x, y = letters[text.get("class")], float(text.get("x")), float(text.get("y"))
    ems = sum(1 if ord(letter) > 0x2E7F else 0.6 for letter in text.text or "")
    width = size * ems
    left = x - width * {"middle": 0.5, "end": 1}.get(text.get("text-anchor"), 0)
    return left, y - 0.75 * size, left + width, y + 0.2 * size


def rect_of(rect) -> BOX:
    if rect.tag == f"{SVG}circle":
        x, y, r = (float(rect.get(name)) for name in ("cx", "cy", "r"))
        return x - r, y - r, x + r, y + r
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def within(inner: BOX, outer: BOX) -> bool:
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


def overlap(one: BOX, two: BOX) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def faults(svg: str) -> list[str]:
    "Texts that leave the picture or their box, or lie upon each other."
    root, letters = ElementTree.fromstring(svg), sizes(svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    texts = [(text.text, place_of(text, letters)) for text in root.iter(f"{SVG}text")]
    found = [told for told, box in texts if not within(box, (8, 8, width - 8, height - 8))]
    for group in root.iter(f"{SVG}g"):
        outer = rect_of(group[0])
        inner = [(text.text, place_of(text, letters)) for text in group.iter(f"{SVG}text")]
        found += [told for told, box in inner if not within(box, outer)]
    return found + [f"{a} / {b}" for (a, x), (b, y) in combinations(texts, 2) if overlap(x, y)]


@each_file
def test_every_text_fits(file):
    assert not faults(file.read_text(encoding="utf8"))


@each_file
def test_letters_are_large_enough_for_a_phone(file):
    text = file.read_text(encoding="utf8")
    assert min(sizes(text).values()) >= 14
    assert float(ElementTree.fromstring(text).get("width")) <= 560


def test_a_text_that_is_too_long_is_found():
    svg = made()["download.svg"]
    longer = svg.replace(">receipt written last<", ">receipt written last of all, truly<")
    assert longer != svg and set(faults(longer)) == {"receipt written last of all, truly"}
    upon = svg.replace("</svg>", '<text class="soft" x="60" y="44">on the title</text></svg>')
    assert any("on the title" in each for each in faults(upon))


# Contrast, as WCAG 2.2 has it (relative luminance; AA asks for 4.5, and 3 for what is no text).


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(each * weight for each, weight in zip(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, two: str) -> float:
    low, high = sorted(map(luminance, (one, two)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_reckoned_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own example


@each_file
def test_every_text_stands_out(file):
    "Of each text the last shape below its middle is its ground, in light and in dark."
    svg = file.read_text(encoding="utf8")
    palettes = [dict(re.findall(r"--([\w-]+):(#\w+)", each)) for each in svg.split("@media", 1)]
    assert len(palettes) == 2 and palettes[0].keys() == palettes[1].keys()
    letters, shapes, pairs = sizes(svg), [], set()
    for element in ElementTree.fromstring(svg).iter():
        if element.tag in (f"{SVG}rect", f"{SVG}circle"):
            fill = element.get("fill") or element.get("class").split()[0]
            shapes.append((rect_of(element), re.sub(r"var\(--([\w-]+)\)", r"\1", fill)))
        elif element.tag == f"{SVG}text":
            left, top, right, bottom = place_of(element, letters)
            x, y = (left + right) / 2, (top + bottom) / 2
            ground = [name for box, name in shapes if within((x, y, x, y), box)][-1]
            pairs.add(("soft" if element.get("class") == "soft" else "ink", ground))
    assert pairs
    for palette in palettes:
        for ink, ground in pairs:  # a hatched ground is in no palette: nothing may stand on it
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
        for name in (each for each in palette if each.endswith("-edge")):
            assert contrast(palette[name], palette["paper"]) >= 3, name
            assert contrast(palette[name], palette[name.removesuffix("-edge")]) >= 3, name


# What they say.


def said(name: str) -> list[str]:
    root = ElementTree.parse(OUT / f"{name}.svg").getroot()
    return [text.text for text in root.iter(f"{SVG}text")]


def test_routes_end_where_the_program_goes():
    "Asked of simulated servers: the tool asks a record with parts replaced."
    server = replace(A2, canns=(), nnal="", driver=stacks()["cann-9.0"].version("driver"))
    old = replace(server, driver=stacks()["cann-8.2"].version("driver"), docker=True)
    machines = [
        *(replace(server, canns=(each,), nnal=each) for each in ("8.2.RC1", "8.3.RC2", "8.5.0")),
        replace(server, canns=("9.0.0",), nnal="9.0.0"),
        replace(server, canns=("9.1.0",), nnal="9.1.0", docker=True),
        replace(server, canns=("9.1.0",), nnal="9.1.0"),
        server,
        replace(server, docker=True),
        old,
        replace(old, architecture="x86_64"),
    ]
    wanted = [fitting_stack(read_machine(machine.host())).name for machine in machines]
    commands = [each for each in said("routes") if each.startswith("qwen-npu up --stack")]
    assert [each.split()[-1] for each in commands] == wanted
    for architecture in ("aarch64", "x86_64"):  # one leaf stands for both, and for both series
        for chip in ("910B3", "Ascend910_9392"):
            machine = replace(server, docker=True, architecture=architecture, chip=chip)
            assert fitting_stack(read_machine(machine.host())).name == wanted[7]
    bare = read_machine(replace(server, driver="").host())
    needed = next(each for each in changes(bare, fitting_stack(bare)) if "driver" in each)
    assert needed == f"Install driver {server.driver} or newer."
    assert any(f"driver {server.driver} or newer, for" in each for each in said("routes"))
    no_card = read_machine(replace(A2, chip="", driver="", canns=(), nnal="").host())
    assert any(f"Stack {fitting_stack(no_card).name}," in each for each in said("routes"))


def test_commands_of_the_routes_are_there():
    known = (ROOT / "qwen_npu_tut/commands.toml").read_text(encoding="utf8")
    lines = [each for each in said("routes") if each.startswith("qwen-npu ")]
    assert len(lines) > 8
    for option in {word for line in lines for word in line.split() if word.startswith("--")}:
        assert f'"{option}"' in known, option


def test_versions_are_those_of_the_stacks():
    shown = said("versions")
    for stack in stacks().values():
        if stack.image:
            continue
        for name in {"driver", "cann", "torch", "torch-npu", "sglang", "sgl-kernel-npu"}:
            assert name not in stack.pins or stack.version(name) in shown
    pins = [
        stack.pins[name]
        for stack in stacks().values()
        if not stack.image
        for name in ("driver", "cann", "torch", "torch-npu", "sglang", "sgl-kernel-npu")
        if name in stack.pins
    ]
    letters = dict(resolved="R", stated="S", inferred="I", cpu="C", emulated="E", npu="N")
    for grade, letter in letters.items():
        for mark, disputed in (("", False), (" ≠", True)):
            count = sum(pin.proof == grade and bool(pin.against) == disputed for pin in pins)
            in_key = not disputed and any(each.startswith(f"{grade}:") for each in shown)
            assert shown.count(letter + mark) == count + in_key, (grade, mark)


def test_npu_smi_is_the_records():
    record = json.loads((ROOT / "qwen_npu_tut/machines/a2.json").read_text(encoding="utf8"))
    text = record["commands"]["npu-smi info"]
    root = ElementTree.parse(OUT / "npusmi.svg").getroot()
    code = [each.text or "" for each in root.iter(f"{SVG}text") if each.get("class") == "code"]
    words = {word for each in code for word in each.split()} - {"…"}
    assert len(words) > 20 and not [word for word in words if word not in text]


def test_tokens_are_the_chat_layout():
    "The pieces put together are what the model's own template makes of the question."
    template = (ROOT / "qwen_npu_tut/teaching/chat_template.jinja").read_text(encoding="utf8")
    layout = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    asked = {"messages": [{"role": "user", "content": "你好！"}], "add_generation_prompt": True}
    words = WORDS["tokens"]
    pieces = [piece for _, piece in words["pieces"]]
    assert "".join(pieces) == layout.render(**asked, enable_thinking=False)
    assert "".join(pieces[: words["with_thinking"]]) == layout.render(**asked, enable_thinking=True)
    assert (words["with_thinking"], len(pieces)) == (10, 14)  # prompt_tokens in chapter 06


def test_words_are_there_in_both_languages():
    def halves(value, where: str) -> list[str]:
        if isinstance(value, list):
            return [
                each for place, one in enumerate(value) for each in halves(one, f"{where}{place}")
            ]
        if not isinstance(value, dict):
            return []
        if "en" in value or "zh" in value:
            return [] if value.get("en") and value.get("zh") else [where]
        return [each for name, one in value.items() for each in halves(one, f"{where}.{name}")]

    table = tomllib.loads(Path(ROOT / "tools/pictures.toml").read_text(encoding="utf8"))
    assert not halves(table, "")


def test_lines_break_where_they_may():
    assert broken("one two three", breadth("one two"), "word") == ["one two", "three"]
    assert broken("权重与缓存。", breadth("权重与缓存"), "word") == ["权重与缓", "存。"]
    assert wrapped("one two three four", breadth("one two three")) == ["one two", "three four"]
    assert wrapped("a\n\nb", 100) == ["a", "", "b"]
