"""Gives every row of a lock the SHA-256 of each wheel that it may become, as the index has it.

    python tools/locks.py [FILE ...]      all of qwen_npu_tut/locks where none is named

A row is name==version; what stands behind it is asked for anew. Comments stay, rows are sorted.
A lock is called STACK-ARCHITECTURE.txt, or STACK-ARCHITECTURE-cuda.txt for NVIDIA's libraries that
its torch is linked to; STACK is what a stack of stacks.toml has as its `lock`.
"""

import argparse
import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from qwen_npu_tut.engine.cpu import LOCKS
from qwen_npu_tut.engine.target import package_index
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.stacks import stacks

ROW = re.compile(r"^([\w.-]+)==([\w.!+-]+)", re.MULTILINE)
NAME = re.compile(r"(?P<prefix>\w+)-(?P<architecture>x86_64|aarch64)(-cuda)?\.txt")
WHEEL = re.compile(r'([^/"]+\.whl)#sha256=([0-9a-f]{64})')  # PEP 503: a file and its hash


@cache
def tags(
    python: str,  # such as 3.11
    architecture: str,  # x86_64 or aarch64
) -> set[Tag]:
    "What a wheel may be named for, to run on CPython and on a glibc of any age."
    version, name = tuple(map(int, python.split("."))), "cp" + python.replace(".", "")
    years = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
    systems = [*(f"manylinux_2_{minor}" for minor in range(5, 60)), *years]
    platforms = [f"{system}_{architecture}" for system in systems]
    return {*cpython_tags(version, [name], platforms), *compatible_tags(version, name, platforms)}


def hashes(
    name: str,  # a package
    version: str,  # exactly this one
    architecture: str,  # x86_64 or aarch64
    pythons: tuple[str, ...],  # the versions of Python that need a wheel
    index: str,  # a simple index's address
) -> list[str]:  # sorted
    "The SHA-256 of the wheels that fit; `Problem` where one of the Pythons has none."
    try:
        page = f"{index}/{canonicalize_name(name)}/"
        with urllib.request.urlopen(page, timeout=60) as answer:
            text = answer.read().decode()
    except (OSError, ValueError, HTTPException) as error:
        raise Problem(
            f"The package index did not answer for {name}: {error}.",
            "Run it again, or name another: PIP_INDEX_URL=https://…",
        ) from None
    found = {}
    for file, digest in WHEEL.findall(text):
        try:
            _, its_version, _, its_tags = parse_wheel_filename(unquote(file))
        except InvalidWheelFilename:
            continue  # pip takes no notice of it either
        if str(its_version) == version:
            found[digest] = its_tags
    fitting = set()
    for python in pythons:
        wanted = tags(python, architecture)
        fit = {digest for digest, its in found.items() if not its.isdisjoint(wanted)}
        lacking = f"{name} {version} has no wheel for Python {python} on {architecture}."
        if not fit:
            raise Problem(lacking, "Take another version.")
        fitting |= fit
    return sorted(fitting)


def renewed(
    text: str,  # a lock
    architecture: str,  # x86_64 or aarch64
    pythons: tuple[str, ...],  # the versions of Python that need a wheel
    index: str,  # a simple index's address
) -> str:
    "The lock with the hashes that the index has today."

    def row(name: str, version: str) -> str:
        found = hashes(name, version, architecture, pythons, index)
        lines = [f"--hash=sha256:{each}" for each in found]
        return " \\\n    ".join([f"{name}=={version}", *lines])

    comments = [line for line in text.splitlines() if line.startswith("#")]
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(row, *zip(*sorted(ROW.findall(text)))))
    return "\n".join([*comments, *rows, ""])


def pythons_of(
    prefix: str,  # the first part of a lock's name
) -> set[str]:
    "The versions of Python that the stacks with such a lock may have; none: no stack has it."
    return {each for one in stacks().values() if one.lock == prefix for each in one.python}


def read(
    file: Path,  # STACK-ARCHITECTURE.txt or STACK-ARCHITECTURE-cuda.txt
) -> tuple[str, str, tuple[str, ...]]:  # its text, its architecture, the Pythons it is for
    "`Problem` for a file that is none."
    known = ", ".join(path.name for path in sorted(LOCKS.glob("*.txt")))
    named = NAME.fullmatch(file.name)
    pythons = tuple(sorted(pythons_of(named["prefix"]))) if named else ()
    if not pythons:
        raise Problem(f"{file.name} is not a lock.", f"Known ones: {known}.", code=2)
    if not file.is_file():
        raise Problem(f"{file} is not there.", f"Known ones: {known}.", code=2)
    text = file.read_text(encoding="utf8")
    if not ROW.search(text):
        raise Problem(f"{file.name} has no row.", "Write its rows as name==version.", code=2)
    return text, named["architecture"], pythons


def main() -> int:  # exit code
    "Rewrite the locks, all of them or none."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="all if none is named")
    files = parser.parse_args().files or sorted(LOCKS.glob("*.txt"))
    index = (package_index() or "https://pypi.org/simple").rstrip("/")
    try:
        texts = {file: renewed(*read(file), index) for file in files}
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.code
    for file, text in texts.items():
        file.write_text(text)
        print(f"{file.name}: {len(ROW.findall(text))} packages, {text.count('--hash=')} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
