"""Whatever is installed here comes ready-made for x86_64 and aarch64: the package index is asked.

pip takes the newest version that a requirement allows. Where that has no wheel for the machine,
pip builds its source archive, which may need a compiler, and may fetch what no package index has.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from patience import patient
from wheels import index, make_wheel

from qwen_npu_tut.engine.target import package_index
from qwen_npu_tut.engine.stacks import stacks

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES, PYTHONS = ("x86_64", "aarch64"), ("3.11", "3.12")
SETTINGS = ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf8")
JSON = "application/vnd.pypi.simple.v1+json"


class NotReached(Exception):
    "The index did not answer as an index does: nothing is known of the package."


@cache
def client() -> httpx.Client:
    "One for all: to read the certificates takes longer than to ask."
    return httpx.Client(timeout=patient(20), follow_redirects=True)


class Links(HTMLParser):
    "The files on a page of a simple index (packaging.python.org, simple repository API)."

    def __init__(self):
        super().__init__()
        self.files = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag != "a" or not given.get("href"):
            return
        name = given["href"].partition("#")[0].rsplit("/", 1)[-1]
        python = given.get("data-requires-python")
        self.files.append(
            {"filename": name, "requires-python": python, "yanked": "data-yanked" in given}
        )


def listed(address: str, package: str) -> list[dict]:
    "The files that an index has of a package; an empty list where it has none."
    try:
        answer = client().get(
            f"{address}/{package}/", headers={"Accept": f"{JSON}, text/html;q=0.5"}
        )
    except httpx.HTTPError as error:
        raise NotReached(type(error).__name__) from None  # without the address
    if answer.status_code == 404:
        return []
    if answer.status_code != 200:
        raise NotReached(f"status {answer.status_code}")
    if "json" in answer.headers.get("Content-Type", ""):
        return json.loads(answer.text)["files"]
    page = Links()
    page.feed(answer.text)
    if not page.files:
        raise NotReached("a page without files")
    return page.files


@cache
def tags(python: str, architecture: str, glibc: str) -> set[Tag]:
    "The wheels that pip takes there (PEP 600; manylinux2014 is its older name for glibc 2.17)."
    newest = int(glibc.split(".")[1])
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(newest, 4, -1)]
    platforms += [f"manylinux2014_{architecture}", f"linux_{architecture}"]
    if architecture == "x86_64":
        platforms += ["manylinux2010_x86_64", "manylinux1_x86_64"]
    version = tuple(map(int, python.split(".")))
    interpreter = f"cp{python.replace('.', '')}"
    return {
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter, platforms),
    }


@cache
def allows(requires: str, python: str) -> bool:
    "Whether a file's Requires-Python holds; pip takes no notice of one that is not well formed."
    try:
        return python in SpecifierSet(requires)
    except InvalidSpecifier:
        return True


def found(
    files: list[dict], python: str, fitting: set[Tag], pinned: bool = False
) -> dict[Version, set[str]]:
    """Each version that pip could install, with the kinds of file that it has there.

    One that was withdrawn counts only where it is pinned (PEP 592)."""
    versions: dict[Version, set[str]] = {}
    for file in files:
        if (
            file.get("yanked")
            and not pinned
            or not allows(file.get("requires-python") or "", python)
        ):
            continue
        try:
            if file["filename"].endswith(".whl"):
                _, version, _, built_for = parse_wheel_filename(file["filename"])
                if built_for & fitting:
                    versions.setdefault(version, set()).add("wheel")
            elif file["filename"].endswith((".tar.gz", ".zip")):
                versions.setdefault(parse_sdist_filename(file["filename"])[1], set()).add("source")
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue  # older than the rules for names
    return versions


def without_wheel(
    requirements: list[str],  # as pip reads them
    architecture: str,  # x86_64 or aarch64
    address: str,  # the index
    glibc: str = stacks()["cpu"].glibc,
    pythons: tuple[str, ...] = PYTHONS,
) -> list[str]:  # one line for each requirement that has no wheel there
    "What pip would build, or not find at all. `NotReached` where the index does not answer."

    def ask(line: str) -> list[str]:
        wanted, wrong = Requirement(line), []
        pinned, files = any(each.operator == "==" for each in wanted.specifier), None
        for python in pythons:
            there = {
                "platform_machine": architecture,
                "sys_platform": "linux",
                "python_version": python,
            }
            if wanted.marker and not wanted.marker.evaluate(there):
                continue
            files = listed(address, wanted.name) if files is None else files
            versions = found(files, python, tags(python, architecture, glibc), pinned)
            taken = max(wanted.specifier.filter(versions), default=None)
            if taken is None:
                wrong.append(f"{line}: nothing for {architecture}, Python {python}")
            elif "wheel" not in versions[taken]:
                wrong.append(f"{line}: {taken} is built on {architecture}, Python {python}")
        return wrong

    if not listed(address, "pip"):
        raise NotReached("it does not even have pip")
    with ThreadPoolExecutor(16) as pool:
        return [line for lines in pool.map(ask, requirements) for line in lines]


def lock_rows(name: str) -> list[str]:
    "The requirements of a lock file, without comments, options and hashes."
    text = (ROOT / "qwen_npu_tut/locks" / name).read_text(encoding="utf8").replace("\\\n", " ")
    return [
        re.split(r"\s+(?:--|#)", line)[0] for line in text.splitlines() if re.match(r"\w", line)
    ]


LISTS = [
    (key, SETTINGS["DEFAULT"][key].split(), architecture)
    for key in ("requirements", "dev_requirements")
    for architecture in ARCHITECTURES
]
LISTS += [
    (path.name, lock_rows(path.name), "aarch64" if "aarch64" in path.name else "x86_64")
    for path in sorted((ROOT / "qwen_npu_tut/locks").glob("*.txt"))
]


@pytest.fixture(scope="module")
def ordinary():
    "The index that pip takes here."
    return (package_index() or "https://pypi.org/simple").rstrip("/")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, requirements, architecture",
    LISTS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_requirement_has_a_wheel(name, requirements, architecture, ordinary):
    assert requirements
    try:
        prefix = name.partition("-")[0]  # a lock is for the Pythons of its stacks
        pythons = next((each.python for each in stacks().values() if each.lock == prefix), PYTHONS)
        wrong = without_wheel(requirements, architecture, ordinary, pythons=pythons)
    except NotReached as error:
        pytest.skip(f"the package index does not answer here: {error}")
    assert not wrong, "\n".join(wrong)


def test_all_of_it_was_asked():
    assert sorted({name for name, _, _ in LISTS}) == [
        "cpu-aarch64-cuda.txt",
        "cpu-aarch64.txt",
        "cpu-x86_64-cuda.txt",
        "cpu-x86_64.txt",
        "dev_requirements",
        "guide-aarch64.txt",
        "guide-x86_64-cuda.txt",
        "guide-x86_64.txt",
        "requirements",
    ]
    rows = next(rows for name, rows, _ in LISTS if name == "cpu-aarch64.txt")
    assert len(rows) > 80 and all(re.fullmatch(r"[\w.-]+==[\w.+-]+", row) for row in rows)


@pytest.fixture
def asked(tmp_path):
    "Files on an index of our own, and what is missing there of the package `one`."
    make_wheel(tmp_path, "pip", "26.0")  # the control

    with index(tmp_path) as address:

        def ask(requirement="one", architecture="aarch64"):
            return without_wheel([requirement], architecture, address)

        ask.folder = tmp_path
        yield ask


X86 = "py3-none-manylinux_2_17_x86_64"


def test_an_archive_alone_on_aarch64_is_found(asked):
    make_wheel(asked.folder, "one", "1.0", X86)
    (asked.folder / "one-1.0.tar.gz").touch()
    assert asked("one==1.0", architecture="x86_64") == []
    assert asked("one==1.0") == [
        f"one==1.0: 1.0 is built on aarch64, Python {python}" for python in PYTHONS
    ]
    assert asked("one==1.0;platform_machine=='x86_64'") == []  # what such a requirement needs


def test_a_newer_version_without_a_wheel_is_found(asked):
    "pip takes the newest version, not the newest that has a wheel."
    make_wheel(asked.folder, "one", "1.0")
    for version in ("1.1", "2.0", "3.0rc1"):
        (asked.folder / f"one-{version}.tar.gz").touch()
    assert asked("one<1.1") == [] and len(asked("one<2")) == len(asked("one")) == len(PYTHONS)
    assert "2.0 is built" in asked("one")[0]


def test_what_is_for_others_does_not_count(asked):
    make_wheel(asked.folder, "one", "1.0", X86)
    make_wheel(asked.folder, "one", "1.0", "cp311-cp311-manylinux_2_28_aarch64")
    assert asked() == ["one: nothing for aarch64, Python 3.12"]
    make_wheel(
        asked.folder, "two", "1.0", "cp311-abi3-manylinux_2_39_aarch64"
    )  # a newer glibc than ours
    assert len(asked("two")) == len(PYTHONS)


def test_what_was_withdrawn_is_for_those_who_pin_it():
    files = [
        {"filename": f"one-{version}-py3-none-any.whl", "yanked": yanked}
        for version, yanked in (("1.0", False), ("1.1", "broken"))
    ]
    fitting = tags("3.11", "aarch64", "2.34")
    assert [str(each) for each in found(files, "3.11", fitting)] == ["1.0"] and len(
        found(files, "3.11", fitting, pinned=True)
    ) == 2


@pytest.mark.parametrize("fault", ["page", "403", "500", "empty"])
def test_an_index_that_cannot_be_trusted(tmp_path, fault):
    make_wheel(tmp_path, "pip", "26.0")
    with index(tmp_path, fault) as address, pytest.raises(NotReached):
        without_wheel(["one"], "aarch64", address)
