"""The Chinese of the package's own words: there, with the same values, and set as Chinese is."""

import re
import unicodedata
from collections.abc import Iterator
from string import Formatter

import pytest

from qwen_npu_tut.base.events import table

TABLES = ("commands", "frame", "phrases", "steps", "contract", "panel")
HAN = "\u3400-\u9fff"


def texts(value: object, where: str) -> Iterator[tuple[str, dict]]:
    "Every text that has an English part, by its place."
    if isinstance(value, dict) and isinstance(value.get("en"), str):
        yield where, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from texts(each, f"{where} {name}")


TEXTS = dict(found for name in TABLES for found in texts(table(f"{name}.toml"), name))
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def values(text: str) -> list[tuple]:
    "What stands in braces: names, how they are written but for words, how they are converted."
    found = [each[1:] for each in Formatter().parse(text) if each[1] is not None]
    joins = {" 或 ": " or ", " 和 ": " and "}
    formats = [re.sub("^or .*", "or", joins.get(form, form)) for _, form, _ in found]
    return sorted((name, form, how) for (name, _, how), form in zip(found, formats))


def words(text: str) -> str:
    "A text with one letter for each value and each quotation; a phrase as a value is left out."
    return re.sub(r'\{[^}]*\}|"[^"]*"', "V", text.replace("{told}", ""))


def width(text: str) -> int:
    "The columns of a terminal that a text takes."
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def labels(text: str) -> list[int]:
    "How wide the first column of each line is, where words stand in it and spaces fill it up."
    return [width(each) for each in re.findall(r"^ *[^\s{:]+(?: [^\s{:]+)* {2,}", text, re.M)]


def test_every_table_has_texts():
    assert {name.partition(" ")[0] for name in TEXTS} == {*TABLES} and len(TEXTS) > 200


@each_text
def test_the_chinese_is_there_and_takes_the_same_values(text):
    assert text.keys() == {"en", "zh"} and text["zh"].strip()
    assert values(text["zh"]) == values(text["en"])
    if re.search("[a-z]{3}", words(text["en"])):
        assert re.search(f"[{HAN}]", text["zh"])


@each_text
def test_a_blank_stands_between_chinese_and_everything_else(text):
    told = words(text["zh"])
    assert not re.search(f"[{HAN}][!-~]|[!-~][{HAN}]|[{HAN}] [{HAN}]", told)
    assert not re.search("[，。：；？！、（）“”] | [，。：；？！、（）]", told)


@each_text
def test_punctuation_is_of_full_width(text):
    if re.search(f"[{HAN}]", text["zh"]):
        assert not re.search(r"[,.:;?!](?=[\s，。：；、（）]|$)|[()]", words(text["zh"]))


@each_text
def test_columns_are_those_of_the_english(text):
    assert labels(text["zh"]) == labels(text["en"])
