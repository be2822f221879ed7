"""The commands of the fixes in failures.toml and findings.toml, as a person would type them.

What stands in backticks is a command: a program with its words, an assignment, or options that
are added to a line of docker or of an engine."""

import io
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.failures import Ran, known

# What a name in braces may stand for where the row's own example does not say; others: NAME.
VALUES = {
    "version": "1.0",
    "uid": "1000",
    "pid": "4711",
    "port": "30001",
    "folder": "/data/folder",
    "file": "/data/file",
    "path": "/data/path",
    "library": "libname.so.1",
    "receipt": "/data/receipt",
}
# Words in capitals that a parser wants as a number, a version or an address.
CAPITALS = {
    "VERSION": "1.0",
    "PORT": "30001",
    "UID": "1000",
    "PID": "4711",
    "SIZE": "8",
    "VALUE": "1",
    "COUNT": "1",
    "N": "1",
    "NUMBER": "1",
    "TOKENS": "1",
    "URL": "http://127.0.0.1:30001",
}


class Plausible(dict):
    "Values for a sentence's braces: those that were read, else what such a name may hold."

    def __missing__(self, name: str) -> str:
        return VALUES.get(name, "NAME")


@dataclass(frozen=True)
class Fix:
    "A sentence that says what to do, with its braces filled."

    owner: str  # the row that says it; of an owner, which of its sentences
    language: str
    text: str
    plain: str  # with its braces

    def commands(self) -> list[str]:
        return re.findall(r"`([^`]*)`", self.text)

    def prose(self) -> str:
        "What stands outside of backticks."
        return re.sub(r"`[^`]*`", "`", self.text)


@cache
def read_in_examples() -> Mapping[str, Mapping[str, str]]:
    "By row: the names that its pattern reads in its own example."
    found = {}
    for row in known().rows:
        kind = row.on[0] if row.on else ""
        for cause in diagnose(io.BytesIO(f"{row.example}\n".encode()), ran=Ran(kind)):
            if cause.id == row.id:
                found.setdefault(row.id, cause.names)
    return found


def _filled(owner: str, language: str, text: str, names: Mapping[str, str]) -> Fix:
    try:
        return Fix(owner, language, text.format_map(Plausible(names)), text)
    except ValueError:  # a brace that is no name's: a test says so
        return Fix(owner, language, text, text)


@cache
def fixes() -> tuple[Fix, ...]:
    "All sentences that say what to do in failures.toml; Chinese ones where they are written."
    return tuple(_fixes())


def _fixes() -> Iterator[Fix]:
    data = table("failures.toml")
    for row in (*data["failure"], *data["form"]):
        for language, text in row["fix"].items():
            if text:
                yield _filled(row["id"], language, text, read_in_examples().get(row["id"], {}))
    for owner in data["owner"]:
        for about in ("missing", "mismatch", "raised"):
            for language, text in owner.get(about, {}).items():
                if text:
                    yield _filled(f"{owner['id']}, {about}", language, text, {})


def finding_fixes() -> list[Fix]:
    "Those of findings.toml, whose braces hold conversions too."
    return [
        Fix(f"finding {name}", language, re.sub(r"\{(\w*)[^{}]*\}", _value, text), text)
        for name, row in table("findings.toml").items()
        for language, text in row.get("fix", {}).items()
        if text
    ]


def _value(match: re.Match) -> str:
    return Plausible()[match[1]]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, each as its words: of lists, pipes, loops and $( ).

    ValueError where a quote is open or where a word would be a redirection by mistake."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from simple_commands(inner[1])
        line = f"{line[: inner.start()]}1000{line[inner.end() :]}"
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
    if glued := re.search(r"\S*[A-Za-z]\S*[<>]\S*", bare):
        raise ValueError(f"{glued[0]} is a redirection for the shell; quote it")
    words: list[str] = []
    tokens = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    tokens.whitespace_split = True
    tokens = [*tokens, ";"]
    while tokens:
        token = tokens.pop(0)
        if token in (";", "&&", "||", "|", "&"):
            if words[:1] == ["for"] or words[:1] == ["done"]:
                words = []
            while words[:1] and words[0] in ("do", "then", "else", "if", "while", "!", "{"):
                words = words[1:]
            if words and words[0] not in ("fi", "}"):
                yield words
            words = []
        elif token in (">", ">>", "2>", "<", ">&"):
            if words and words[-1] in ("1", "2"):
                words.pop()
            tokens.pop(0)
        elif re.fullmatch(r"[;&|()<>]+", token):
            raise ValueError(f"{token} is more than these tests read")
        else:
            words.append(token)
