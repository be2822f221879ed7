"""What a release of SGLang asks of the NPU's libraries, and whether this engine can answer.

python asked_names.py compare FOLDER OWN TABLE WORD...   WORDs are a launch line's
python asked_names.py imports MODULE...   in this order; A|B means A, or B where there is no A

FOLDER holds the release, OWN the one that the engine has, as pip installs them; TABLE is
drift.toml. Each prints one line of JSON. `compare` imports nothing of a release: it reads the
source. It needs the standard library, and torch with the emulation to ask what that offers.
"""

import ast
import email
import importlib
import importlib.util
import json
import re
import runpy
import sys
import tomllib
import traceback
from collections import defaultdict
from fnmatch import fnmatchcase
from importlib.metadata import distributions
from pathlib import Path

ROOTS = ("torch_npu", "torch.npu", "torch.ops.npu", "sgl_kernel_npu", "torchair", "acl")
DEVICE = ("device_module", "_device_module")  # SGLang's names for torch.npu kept in a variable
HINT = re.compile(rb"torch_npu|\.npu\b|sgl_kernel_npu|torchair|\bacl\b|device_module")
# what is done with a name that a stand-in bears: it fails where it is called, and there alone
IDLE = {"import": "imported only", "read": "not called", "question": "asked about"}
# where a release says its flags, and the values that they may have
FLAGS = ("srt/server_args*.py", "srt/arg_groups/**/*.py")
# of these a release lists the values; a model, a port or a name is ours
CHOSEN = ("--attention-backend", "--grammar-backend", "--reasoning-parser", "--tool-call-parser")
VALUES = (*FLAGS, "srt/parser/reasoning_parser*.py", "srt/function_call/*pars*.py")


def ours(name):
    "Whether a full name belongs to the NPU's libraries."
    return any(name == root or name.startswith(root + ".") for root in ROOTS)


class Reader(ast.NodeVisitor):
    "The names that a file asks for: what, where (FILE:CLASS.FUNCTION), line, how."

    def __init__(self, file):
        self.file, self.scope, self.found, self.calls = file, [], [], set()
        self.means = {"torch": "torch"}  # a name in this file -> the full name

    def add(self, name, node, how):
        if ours(name):
            place = ":".join([self.file, ".".join(self.scope)] if self.scope else [self.file])
            self.found.append({"name": name, "place": place, "line": node.lineno, "how": how})

    def called(self, name, full):
        "A name in this file; what a branch for another device imports as the same is not it."
        if not ours(self.means.get(name, "")):
            self.means[name] = full

    def visit_ClassDef(self, node):
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef

    def visit_Import(self, node):
        for each in node.names:
            first = each.name.partition(".")[0]
            self.called(each.asname or first, each.name if each.asname else first)
            self.add(each.name, node, "import")

    def visit_ImportFrom(self, node):
        for each in node.names if node.module and not node.level else ():
            self.called(each.asname or each.name, f"{node.module}.{each.name}")
            self.add(f"{node.module}.{each.name}", node, "import")

    def meant(self, node):
        "The full name that an expression means; empty where it means none."
        if isinstance(node, ast.Name):
            return "torch.npu" if node.id in DEVICE else self.means.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.meant(node.value)
            return "torch.npu" if node.attr in DEVICE else base and f"{base}.{node.attr}"
        if isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            function = node.func.id if isinstance(node.func, ast.Name) else function
            return "torch.npu" if function == "get_device_module" else self.looked_up(node)
        return ""

    def looked_up(self, node):
        "The full name in getattr(torch_npu, 'name'), and in hasattr; empty for other calls."
        known = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
        if not known or len(node.args) < 2 or not isinstance(node.args[1], ast.Constant):
            return ""
        base = self.meant(node.args[0])
        return base and f"{base}.{node.args[1].value}"

    def visit_Name(self, node):
        name = self.meant(node) if isinstance(node.ctx, ast.Load) else ""
        self.add(name, node, "use" if node in self.calls or name.startswith("torch.") else "read")

    def visit_Attribute(self, node):
        if ours(name := self.meant(node)):
            used = node in self.calls or name.startswith("torch.")  # torch has no stand-in to read
            self.add(name, node, "use" if used else "read")
        else:
            self.generic_visit(node)

    def visit_Call(self, node):
        called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        self.calls.add(called)  # kernel[grid](...) too
        name = self.looked_up(node)
        if not ours(name):
            return self.generic_visit(node)
        softly = node.func.id == "hasattr" or len(node.args) > 2
        self.add(name, node, "question" if softly else "use")


def texts(node):
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]


def flags_of(tree):
    """The flags that a file registers.

    add_argument("--flag") and, from 0.5.16 on, fields with an annotation A[type, ...] of their own
    (arg_groups/arg_utils.py), whose Arg may give another name or more names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument"):
            yield from (text for each in node.args for text in texts(each))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            if annotation.startswith(("A[", "Annotated[")) and "no_cli=True" not in annotation:
                yield "--" + node.target.id.replace("_", "-")
                yield from texts(node.annotation)


def line_read(root, words):
    "Each flag of a launch line and its value: whether the release knows them."
    parsed = {
        file: ast.parse(file.read_bytes()) for part in VALUES for file in sorted(root.glob(part))
    }
    first = {file for part in FLAGS for file in root.glob(part)}
    flags = {flag for file in first for flag in flags_of(parsed[file])}
    values = {text for tree in parsed.values() for text in texts(tree)}
    for flag, after in zip(words, [*words[1:], "--"]):
        if flag.startswith("--"):
            value = "" if after.startswith("--") else after
            name = bool(re.fullmatch(r"[a-z][\w.-]*", value)) and flag in CHOSEN
            known = flag in flags and (not name or value in values)
            yield {"flag": flag, "value": value if name else "", "known": known}


def read(folder):
    "The version of the release in a folder, what it requires, and each name that it asks for."
    root = Path(folder) / "sglang"
    about = next(iter(Path(folder).glob("sglang-*.dist-info/METADATA")), None)
    if about is None or not root.is_dir():
        said = runpy.run_path(str(Path(__file__).with_name("said.py")))["said"]
        sys.exit(said("no-release", folder=folder))
    told, names = email.message_from_bytes(about.read_bytes()), []
    for file in sorted(root.rglob("*.py")):
        source = file.read_bytes()
        if HINT.search(source):
            reader = Reader(file.relative_to(root).as_posix())
            reader.visit(ast.parse(source))
            names += reader.found
    return told["Version"], told.get_all("Requires-Dist", []), names


def off_path(name, place, table):
    "Why no dense Qwen3 comes to a name at a place, FILE:CLASS.FUNCTION; empty where one does."
    branch = [row["why"] for row in table["names"] if fnmatchcase(name, row["name"])]
    part = [row for row in table["parts"] if fnmatchcase(place, row["part"])][-1]
    return branch[0] if branch else "" if part["on"] else part["why"]


def answers(name, offered):
    "Whether names offered hold one: itself, what it is a part of, or, of a module, a part."
    words = name.split(".")
    above = any(".".join(words[:count]) in offered for count in range(2, len(words) + 1))
    return above or any(each.startswith(f"{name}.") for each in offered)


def judged(names, offered, table):
    "Each name once: where it is asked for, whether it is offered, why it is off the path."
    places = defaultdict(list)
    for each in names:
        places[each["name"]].append(each)
    for name, found in sorted(places.items()):
        on = [each for each in found if not off_path(name, each["place"], table)]
        used = [each for each in on if each["how"] == "use"]
        first = (used or on or found)[0]
        verdict = "offered" if answers(name, offered) else IDLE.get(first["how"], "missing")
        yield {
            "name": name,
            "where": f"{first['place'].partition(':')[0]}:{first['line']}",
            "verdict": verdict if on else "off the path",
            "why": "" if on else off_path(name, first["place"], table),
            "change": "",
        }


def changed(names, own):
    "The same names beside those that the engine's own release asks for on the path."
    before = {each["name"]: each for each in own if not each["why"]}
    now = {each["name"] for each in names if not each["why"]}
    for each in names:
        new = each["name"] in now and each["name"] not in before
        yield each | {"change": "new" if new else ""}
    for name in sorted(before.keys() - now):
        yield before[name] | {"verdict": "no longer asked", "change": "gone"}


def offers():
    "What the emulation answers for; it comes with torch."
    importlib.import_module("torch")
    return set(importlib.import_module("qwen_npu_tut.rehearsal.emulated.names").offered())


def compare(folder, own, table, *words):
    rows, offered = tomllib.loads(Path(table).read_text(encoding="utf-8")), offers()
    (version, requires, asked), (_, own_requires, before) = read(folder), read(own)
    judgements = [list(judged(each, offered, rows)) for each in (asked, before)]
    return {
        "version": version,
        "names": list(changed(*judgements)),
        "flags": list(line_read(Path(folder) / "sglang", words)),
        "requires": requires,
        "own": own_requires,
        "installed": {each.metadata["Name"]: each.version for each in distributions()},
    }


def there(name):
    "Whether a release has a module."
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # not even what it lies in
        return False


def imports(*modules):
    "The first module that does not import, with the last line of its error and where it arose."
    for wanted in modules:
        names = wanted.split("|")
        name = next(filter(there, names), names[0])
        try:
            importlib.import_module(name)
        except Exception as error:  # what comes after it would fail for the same reason
            frame = traceback.extract_tb(error.__traceback__)[-1]
            why = traceback.format_exception_only(error)[-1].strip()
            inside = frame.filename.rpartition("/site-packages/")[2].rpartition("/sglang/")[2]
            return {"failed": [{"module": name, "why": why, "where": f"{inside}:{frame.lineno}"}]}
    return {"failed": []}


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).resolve().parent))  # our programs are no modules
    what, *given = sys.argv[1:]
    print(json.dumps({"compare": compare, "imports": imports}[what](*given)))
