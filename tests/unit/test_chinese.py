"""The Chinese of the package's own words: there, with the same values, and set as Chinese is.

Every table of the package is read. What is prose has an English and a Chinese part, side by side.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import qwen_npu_tut
from qwen_npu_tut.base.events import table

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
