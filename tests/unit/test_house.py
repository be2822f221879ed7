"""The walls of the house: who may import whom, how large it is, and how wide.

Wings are folders of the package. A module takes its names from the room that owns them."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "qwen_npu_tut"
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not path.name.startswith("_") and path.parent.name != "programs"
)
FACES = {  # names at the root for others, and the room that has them
    "settings": "base",
    "npusmi": "host",
    "console": "faces",
    "check": "engine",
    "install": "engine",
    "kernels": "engine",
    "download": "model",
    "serve": "server",
    "call": "server",
}
LIBRARY_LINES, REHEARSAL_LINES, WIDTH = 6_150, 1_600, 100

# Which wings a room may import, besides its own wing. Chapters are names at the root.
ALLOWED = {
    "base": [],
    "host": ["base"],
    "engine": ["host", "base"],
    "model": ["base"],
    "server": ["engine", "model", "host", "base"],
    "rehearsal": [],
    "walk": ["base", "host", "engine", "model", "server"],
    "contract": ["base", "host", "engine", "model", "server"],
    "faces": ["base", "host", "engine", "model", "server", "walk", "contract"],
    **{face: [wing, "host", "base"] for face, wing in FACES.items()},
}


def room(module: Path) -> str:
    "A module's wing, or its own name where it stands at the root."
    inside = module.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(module: Path) -> set[str]:
    "The rooms of ours that a module imports, anywhere in it."
    found = set()
    depth = len(module.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(module.read_text(encoding="utf8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = module.relative_to(PACKAGE).parts[: depth - node.level]
            path = [*inside, *(node.module.split(".") if node.module else [])]
            names = [path[0]] if path else [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qwen_npu_tut"):
            path = node.module.split(".")[1:]
            names = [path[0]] if path else [each.name for each in node.names]
        elif isinstance(node, ast.Import):
            parts = [each.name.split(".") for each in node.names]
            names = [part[1] for part in parts if part[0] == "qwen_npu_tut" and len(part) > 1]
        found.update(names)
    return found - {room(module), "_modidx"}  # what nbdev writes of settings.ini: everybody's


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_back_up(module):
    beyond = imported(module) - set(ALLOWED[room(module)])
    assert not beyond, f"{room(module)} may not import {sorted(beyond)}"


def test_what_runs_in_an_engine_imports_nothing_of_ours():
    rooms = [path for path in MODULES if room(path) == "rehearsal"]
    assert rooms and all(not imported(path) for path in rooms)


def test_tests_share_what_is_in_support():
    "What two tests need has a module of its own in tests/support: no test is taken from another."
    tests = re.compile(r"(?:.*\.)?(?:test|prove|bench)_\w+")
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [getattr(node, "module", None) or "", *(each.name for each in node.names)]
            found += [f"{path.name}: {name}" for name in names if tests.fullmatch(name)]
    assert not found, f"taken from a test: {found}"


def without_names(text: str) -> str:
    "A module without the list of its names, which nbdev lays out at a width of its own."
    return re.sub(r"^__all__ = \[.*?\]$", "", text, flags=re.M | re.S)


def exported_lines(module: Path) -> int:
    "Lines that cells export: neither blank nor what nbdev adds, its remarks and list of names."
    lines = without_names(module.read_text(encoding="utf8")).splitlines()
    return sum(bool(line.strip()) and not line.startswith(("# %%", "# AUTOG")) for line in lines)


def test_size_of_the_whole(capsys):
    "Lines mean something at a fixed width. A later capability raises a ceiling by its own part."
    rehearsal = sum(exported_lines(path) for path in MODULES if room(path) == "rehearsal")
    library = sum(map(exported_lines, MODULES)) - rehearsal
    with capsys.disabled():
        print(f"[{library} + {rehearsal} exported lines in {len(MODULES)} modules] ", end="")
    assert library <= LIBRARY_LINES and rehearsal <= REHEARSAL_LINES


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git says which files are ours")
def test_no_link_leads_out_of_the_tree():
    "A link to an environment or to another folder of one machine is nothing for others."
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    links = [ROOT / name for name in listed.split("\0") if (ROOT / name).is_symlink()]
    assert links and all(link.resolve().is_relative_to(ROOT) for link in links)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lines_fit_the_page(module):
    text = without_names(module.read_text(encoding="utf8"))
    wide = [line for line in text.splitlines() if len(line) > WIDTH]
    assert not wide, f"wider than {WIDTH}: {wide}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_program_in_a_string(module):
    "What another interpreter runs is a file with a name, so that it is read, linted and tested."
    tree = ast.parse(module.read_text(encoding="utf8"))
    texts = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    found = []
    for node in ast.walk(tree):
        words = getattr(node, "elts", None) or getattr(node, "args", None)
        for flag, program in zip(words or [], (words or [])[1:]) if isinstance(words, list) else []:
            if not (isinstance(flag, ast.Constant) and flag.value == "-c"):
                continue
            if isinstance(program, ast.Constant | ast.JoinedStr) or (
                isinstance(program, ast.Name) and program.id in texts
            ):
                found.append(flag.lineno)
    assert not found, f"a program behind -c in lines {found}"
