"""The Chinese of the package's own words: there, with the same values, and set as Chinese is.

Every table of the package is read. What is prose has an English and a Chinese part, side by side.
Then what a person is told is asked for in Chinese: of stacks, machines, logs, plans.
"""

import ast
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from machines import A2, MACHINES

import qwen_npu_tut
from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.failures import known, plain
from qwen_npu_tut.engine.advisories import every_advisory
from qwen_npu_tut.engine.findings import check
from qwen_npu_tut.engine.installation import installation
from qwen_npu_tut.engine.plan import script_text
from qwen_npu_tut.engine.stacks import presets, stacks
from qwen_npu_tut.engine.target import Engine, supply
from qwen_npu_tut.host.machine import read_machine

PACKAGE = Path(qwen_npu_tut.__file__).parent
TABLES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.toml"))
# What a model is taught to say, code, and what SGLang's parts print: no words of ours to a reader.
OTHERS = {
    "teaching/dialogues.toml",
    "panel_python.toml",
    "rehearsal/emulated/sentences.toml",
}
# What others wrote: who says so, lines of logs and of shells, what a log is searched for, flags.
QUOTES = {
    "source",
    "text",
    "example",
    "page_line",
    "guide",
    "launch",
    "pattern",
    "patterns",
    "quotes",
    "cards",
    "send",
    "turns",
    "errors",
    "carried",
    "head",
    "step",
}
HAN = "\u3400-\u9fff"


def texts(value: object, where: str = "") -> Iterator[tuple[str, dict]]:
    "Every text that has an English part, by its place."
    if isinstance(value, dict) and isinstance(value.get("en"), str):
        yield where, value
    elif isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, each in pairs:
            named = each.get("id", each.get("name", name)) if isinstance(each, dict) else name
            yield from texts(each, f"{where} {named if isinstance(named, str) else name}".strip())


def alone(value: object, where: str = "") -> Iterator[str]:
    "Every text without a Chinese part that holds three words of English or more, by its place."
    if isinstance(value, str) and re.search(r"(?<![\w-])([A-Za-z']{2,},? ){2}[A-Za-z']{2,}", value):
        yield f"{where}: {value}"
    elif isinstance(value, dict | list) and "en" not in value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, each in pairs:
            if name not in QUOTES:
                yield from alone(each, f"{where} {name}".strip())


WORDED = [name for name in TABLES if name not in OTHERS and any(texts(table(name)))]
each_table = pytest.mark.parametrize("name", WORDED)


def values(text: str) -> list[tuple]:
    "What stands in braces: names, how they are converted, and how numbers are written."
    found = [each[1:] for each in Formatter().parse(text) if each[1] is not None]
    return sorted(
        (name, "" if re.search(r"^or | $|[、 ]", form) else form, conversion or "")
        for name, form, conversion in found
    )


def codes(text: str) -> list[str]:
    "What stands between backticks: commands, mostly."
    return sorted(re.findall("`([^`]+)`", text))


def numbers(text: str) -> set[str]:
    "Numbers of two digits and more, without their commas."
    return set(re.findall(r"(?<![\w.])\d[\d.]*\d(?![\w.]*\d)", text.replace(",", "")))


def words(text: str) -> str:
    "A text with one letter for each value, quotation and command; a phrase as a value is left out."
    text = re.sub(r"^\{cause\}|\{told\}(?=[?？。])", "", text)
    text = re.sub(r"`[^`]*`", "V", text)
    return re.sub(r'\{[^}]*\}|"[^"]*"', "V", text)


def width(text: str) -> int:
    "The columns of a terminal that a text takes."
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def labels(text: str) -> list[int]:
    "How wide the first column of each line is, where words stand in it and spaces fill it up."
    return [width(each) for each in re.findall(r"^ *[^\s{:]+(?: [^\s{:]+)* {2,}", text, re.M)]


def wrong(name: str, rule) -> list[str]:
    "The places of a table's texts that break a rule."
    return [f"{where}: {text['zh']}" for where, text in texts(table(name)) if rule(text)]


def test_every_table_has_texts():
    assert {*WORDED} >= {"failures.toml", "findings.toml", "phrases.toml", "stacks.toml"}
    assert sum(len([*texts(table(name))]) for name in WORDED) > 2000


@pytest.mark.parametrize("name", [name for name in TABLES if name not in OTHERS])
def test_no_prose_stands_alone(name):
    assert [*alone(table(name))] == []


def test_prose_that_stands_alone_is_found():
    assert [*alone({"a": [{"why": "another model's layer"}], "source": "one two three"})]
    assert not [*alone({"a": ["--flag value", "one two"], "source": "one two three"})]


@each_table
def test_the_chinese_is_there(name):
    assert not [where for where, text in texts(table(name)) if not text.get("zh", "").strip()]
    assert not wrong(name, lambda text: text.keys() - {"by"} != {"en", "zh"})


@each_table
def test_what_is_prose_in_english_is_chinese(name):
    def rule(text):
        prose = re.search(r"(?<![\w/.-])[a-z]{3,} [a-z]{3,}", words(text["en"]))
        return prose and not re.search(f"[{HAN}]", text["zh"])

    assert wrong(name, rule) == []


@each_table
def test_the_chinese_takes_the_same_values(name):
    assert wrong(name, lambda text: values(text["zh"]) != values(text["en"])) == []


@each_table
def test_the_chinese_has_the_same_commands_and_numbers(name):
    assert wrong(name, lambda text: codes(text["zh"]) != codes(text["en"])) == []
    assert wrong(name, lambda text: not numbers(text["en"]) <= numbers(text["zh"])) == []


@each_table
def test_a_blank_stands_between_chinese_and_everything_else(name):
    marks = "，。：；？！、（）"
    form = f"[{HAN}][!-~]|[!-~][{HAN}]|[{HAN}] [{HAN}]|[{marks}“”] | [{marks}]"
    assert wrong(name, lambda text: re.search(form, words(text["zh"]))) == []


@each_table
def test_punctuation_is_of_full_width(name):
    "None of half width stands before Chinese or at an end; in failures.toml calls stand bare."
    before = f"(?<=[{HAN}V])" if name == "failures.toml" else ""
    form = rf"{before}[,.:;?!](?=\s*[{HAN}]|[，。：；、（）]|$)|\([^()]*[{HAN}]|[{HAN}] ?\("

    def rule(text):
        return re.search(f"[{HAN}]", text["zh"]) and re.search(form, words(text["zh"]))

    assert wrong(name, rule) == []


@each_table
def test_columns_are_those_of_the_english(name):
    assert wrong(name, lambda text: labels(text["zh"]) != labels(text["en"])) == []


# ---- what is shown ----


@pytest.fixture
def chinese(monkeypatch):
    "The reader's language is Chinese."
    monkeypatch.setenv("QWEN_NPU_LANG", "zh_CN.UTF-8")


def told(text: str, *names: str) -> str:
    "What of a sentence is ours: no command, no quotation, nothing that was read in a log."
    for each in sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(each, "V")
    return re.sub(r"`[^`]*`|qwen-npu [a-z -]*|uv python install", "V", text)


def english(text: str) -> bool:
    "Whether three words of English stand side by side, or nothing is Chinese."
    side_by_side = re.search(r"(?<![\w/.-])([A-Za-z]{2,} ){2}[a-z]{2,}", text)
    return bool(side_by_side) or not re.search(f"[{HAN}]", text)


# ---- pages ----

PAGES = sorted((PACKAGE.parent / "nbs" / "zh").glob("*.ipynb"))


def page_words(text: str) -> str:
    "The words of a page's cell: a V for code and for an address, a line for a cell of a table."
    text = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.M | re.S)
    text = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "V", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1", text)
    text = re.sub(r"https?://\S+|[\w./@-]+\.md\b", "V", text)
    text = re.sub(r"<br>| *\| *| · ", "\n", text)
    return re.sub(r"<[^>]+>|\*", "", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_set_as_chinese_is(path):
    marks = "，。：；？！、（）"
    form = f"[{HAN}][A-Za-z0-9]|[A-Za-z0-9][{HAN}]|[{HAN}] [{HAN}]|[{marks}“”] |. [{marks}]"
    form += f"|[{HAN}][,;:?!(]|[(][{HAN}]"
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    told = [each for each in cells if each["cell_type"] == "markdown"]
    lines = [line for each in told for line in page_words("".join(each["source"])).splitlines()]
    assert [line for line in lines if re.search(form, line)] == []


def test_one_process_speaks_both(monkeypatch):
    shown = {}
    for language in ("en", "zh", "en"):
        monkeypatch.setenv("QWEN_NPU_LANG", language)
        stack = stacks()["cann-9.0-image"]
        made = (stack.title, presets()["w8a8"].title, every_advisory()[0].what, known().rows[0].fix)
        assert shown.setdefault(language, made) == made
    assert not any(english(each) for each in shown["zh"]) and all(map(english, shown["en"]))


@pytest.mark.parametrize("name", MACHINES)
def test_a_finding_is_chinese(name, chinese):
    machine = read_machine(MACHINES[name][0].host())
    for stack in (None, stacks()["cpu"], stacks()["cann-9.0-image"]):
        for each in check(machine, stack).findings:
            assert not english(told(each.what)), each
            assert not each.fix or not re.search("[。，：；] ", each.fix), each


# They say what a program said, word for word.
SAYS = ("vllm-model-file-not-imported", "min-p-with-ascend-sampling", "program-says-what-to-do")
SAYS += ("kernel-error-said",)


def test_a_cause_is_chinese(chinese):
    for row in (each for each in known().rows if each.id not in SAYS):
        for cause in diagnose(io.BytesIO(row.example.encode())):
            names = [*map(plain, cause.names.values())]
            assert cause.id in SAYS or not english(told(cause.cause, *names)), cause
            assert not re.search(r"\b(the|your) ", cause.owner), cause


def test_a_code_is_told_in_chinese(chinese):
    (cause,) = diagnose(io.BytesIO(b"aclInit failed, error code is 507899\n"))
    assert cause.cause == "错误码 507899 的含义：驱动内部错误。"
    (cause,) = diagnose(io.BytesIO(b"RuntimeError: ERR02200 DIST call hccl api failed.\n"))[:1]
    assert not english(cause.cause)


def test_a_plan_and_its_script_are_chinese(chinese):
    machine = read_machine(A2.host())
    engine = Engine(machine, stacks()["cann-9.0"])
    steps = installation(engine, supply(engine, ask=False, environment={}))
    assert not [each.name for each in steps if english(each.reason)]
    gaps = [each.done.gap().partition("[Errno")[0] for each in steps]  # the system's own words
    assert len(gaps) == len([*filter(None, gaps)]) and not [*filter(english, map(told, gaps))]
    script = script_text(steps, engine.stack.title, every_advisory())
    ours = script[: script.index("set -euo")] + script[script.index("# 第 1 步") :]
    notes = [each for each in re.findall("^# (.*)$", ours, re.M) if "shellcheck" not in each]
    assert len(notes) > 40 and not [each for each in notes if not re.search(f"[{HAN}]", each)]


# ---- and none in code ----

# Modules that speak to a reader: not what is laid into an engine, nor what another Python runs.
MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not {"rehearsal", "programs", "_modidx.py"} & {*path.relative_to(PACKAGE).parts}
]
# What other programs print or are given.
NOT_SAID = re.compile(
    r"row names line text|Traceback|^\W*probe ok|from versions|A 2x2 product|#!/bin/sh|<textarea"
    r"|Unauthorized|no versions|does not have an extra|depends on|npu-smi: command not found"
    r"|[Rr]unning processes|Consistency check failed|file should be of size|but has size"
    r"|The server is fired up|Load weight|Application startup"
)


def in_code(source: str) -> Iterator[str]:
    "Sentences in a module that are no docstring, and lists that are joined where they are told."
    tree = ast.parse(source)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    silent |= {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "doc"
    }
    words = {*table("steps.toml"), *table("phrases.toml"), *table("phrases.toml")["word"]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            kept = id(node) in silent or NOT_SAID.search(node.value)
            if not kept and node.value not in words and [*alone(node.value)]:
                yield f"{node.lineno}: {node.value}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TELLERS:
            for each in ast.walk(node):
                if isinstance(each, ast.Call) and getattr(each.func, "attr", "") == "join":
                    by = each.func.value
                    if isinstance(by, ast.Constant) and re.search(r"[a-z,;] ", f"{by.value}"):
                        yield f"{node.lineno}: {ast.unparse(each)}"


TELLERS = ("problem", "phrase", "judged", "see")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_sentence_stands_in_code(path):
    assert [*in_code(path.read_text(encoding="utf8"))] == []


def test_a_sentence_in_code_is_found():
    assert [*in_code("def f(x): return f'{x} is not there'")]
    assert [*in_code("phrase('any', names=', '.join(x))")]
    assert not [*in_code("def f(x):\n    'It is not there'\n    return phrase('any', names=x)")]
