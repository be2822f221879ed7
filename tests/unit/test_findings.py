"""The sentences of findings.toml and the code that names them: neither without the other.

The package is read, not run: which functions take the name of a row, which rows their calls can
name, and which values they give. A name or a value that cannot be seen here counts as wrong.
"""

import ast
import itertools
import re
import string
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import qwen_npu_tut
from qwen_npu_tut.base.events import sentences

PACKAGE = Path(qwen_npu_tut.__file__).parent
ROWS = sentences()
PARTS = ("what", "fix", "ok")  # of a row: what is wrong, what to do, what is said where all is well
ANY = "\0"  # stands for whatever a computed part of a name may be


@dataclass
class Module:
    "What a file of the package defines, and where its names come from."

    name: str
    tree: ast.Module
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            if isinstance(node, ast.ImportFrom):
                for each in node.names:
                    home = (node.module or "").rpartition(".")[2]
                    self.imports[each.asname or each.name] = home, each.name

    def meant(self, call: ast.Call) -> tuple[str, str]:
        "The module and the name of a function that is called by its plain name."
        name = getattr(call.func, "id", "")
        return (self.name, name) if name in self.functions else self.imports.get(name, ("", ""))


MODULES = [
    Module(path.stem, ast.parse(path.read_text(encoding="utf8")))
    for path in sorted(PACKAGE.rglob("*.py"))
]


def inner(function: ast.FunctionDef, kind: type) -> list:
    return [node for node in ast.walk(function) if isinstance(node, kind)]


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def own(node: ast.expr, function: ast.FunctionDef) -> list[str]:
    "The parameters that an expression chooses from: `name`, or `row or id`."
    names = node.values if isinstance(node, ast.BoolOp) else [node]
    found = [getattr(each, "id", "") for each in names]
    return found if set(found) <= set(parameters(function)) else []


def asks_table(node: ast.Subscript) -> bool:
    "sentences()[…]"
    return isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "sentences"


Taker = tuple[ast.FunctionDef, list[str]]  # a function, its parameters that may hold a row's name


def find_takers() -> dict[tuple[str, str], Taker]:
    "The functions that take the name of a row: they look it up, or hand it to one that does."
    takers: dict[tuple[str, str], Taker] = {}
    while True:
        count = len(takers)
        for module in MODULES:
            for name, function in module.functions.items():
                named = [each.slice for each in inner(function, ast.Subscript) if asks_table(each)]
                for call in inner(function, ast.Call):
                    if module.meant(call) in takers:
                        named += row_argument(call, takers[module.meant(call)])
                for node in named:
                    if own(node, function):
                        takers[module.name, name] = function, own(node, function)
        if len(takers) == count:
            return takers


def given(call: ast.Call, function: ast.FunctionDef) -> dict[str, ast.expr]:
    "A call's arguments by the names of the function's parameters."
    by_place = {each.arg for each in function.args.posonlyargs}
    named = {each.arg: each.value for each in call.keywords if each.arg not in {None, *by_place}}
    return dict(zip(parameters(function), call.args)) | named


def row_argument(call: ast.Call, taker: Taker) -> list[ast.expr]:
    "The argument that names the row: the first of the parameters that is given."
    arguments = given(call, taker[0])
    return [arguments[name] for name in taker[1] if name in arguments][:1]


TAKERS = find_takers()


def names_in(target: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}


def pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    "What is assigned to what: of `one, two = 1, 2` each to its own."
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts))
    return [(target, value)]


@dataclass
class Scope:
    "A function and its module: where a name's values are looked up."

    module: Module
    function: ast.AST

    def values(self, name: str) -> list[ast.expr]:
        "What is assigned to a name, or what it runs through, in the function, else in the module."
        for tree in (self.function, self.module.tree):
            found = []
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign):
                    found += [
                        value
                        for target in node.targets
                        for each, value in pairs(target, node.value)
                        if name in names_in(each)
                    ]
                    continue
                if isinstance(node, ast.AnnAssign | ast.NamedExpr):
                    target, value = node.target, node.value
                elif isinstance(node, ast.For | ast.comprehension):
                    target, value = node.target, node.iter
                else:
                    continue
                if name in names_in(target):
                    found.append(value)
            if found:
                return [each for each in found if each is not None]
        return []

    def texts(self, node: ast.expr, seen: frozenset = frozenset()) -> set[str]:
        "The texts that an expression can be; ANY for what cannot be seen in one."
        if id(node) in seen:
            return set()
        seen |= {id(node)}
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.IfExp():
                return self.texts(node.body, seen) | self.texts(node.orelse, seen)
            case ast.BoolOp():
                return set().union(*(self.texts(each, seen) for each in node.values))
            case ast.BinOp(op=ast.Mult()):
                return {"", *self.texts(node.left, seen)}
            case ast.BinOp(op=ast.Add()):
                pairs = itertools.product(self.texts(node.left, seen), self.texts(node.right, seen))
                return {"".join(pair) for pair in pairs}
            case ast.JoinedStr():
                parts = [self.texts(each, seen) or {ANY} for each in node.values]
                return {"".join(each) for each in itertools.product(*parts)}
            case ast.FormattedValue():
                return self.texts(node.value, seen)
            case ast.Name():
                found = (self.texts(each, seen) for each in self.values(node.id))
                return set().union(*found)
            case ast.Dict():
                return set().union(*(self.texts(each, seen) for each in node.values))
            case ast.Tuple() | ast.List():
                return set().union(*(self.texts(each, seen) for each in node.elts))
            case ast.Subscript():
                return self.texts(node.value, seen)
            case ast.Call(func=ast.Attribute(attr="get" | "items" | "values", value=table)):
                return set().union(*(self.texts(each, seen) for each in (table, *node.args[1:])))
        return set()

    def keys(self, node: ast.expr) -> set[str]:
        "The keys of what stands behind `**`."
        match node:
            case ast.Dict():
                return {each.value for each in node.keys if isinstance(each, ast.Constant)}
            case ast.IfExp():
                return self.keys(node.body) | self.keys(node.orelse)
            case ast.BinOp(op=ast.BitOr()):
                return self.keys(node.left) | self.keys(node.right)
            case ast.Call(func=ast.Name(id="dict")):
                return {each.arg for each in node.keywords if each.arg}
            case ast.Name():
                return set().union(*(self.keys(each) for each in self.values(node.id)))
        return set()


@dataclass(frozen=True)
class Use:
    "A call that names rows: which they may be, the values it gives, the parts it has no need of."

    place: str
    variable: str  # empty where the names are written in the call
    rows: frozenset
    values: frozenset
    parts: tuple[str, ...]


def rows_like(texts: set[str]) -> set[str]:
    "Texts as they are; one with ANY in it as the rows that it can be."
    found = set()
    for text in texts:
        form = ".*".join(map(re.escape, text.split(ANY)))
        fitting = {row for row in ROWS if re.fullmatch(form, row)} if ANY in text else {text}
        found |= fitting or {text}
    return found


def use(call: ast.Call, scope: Scope, taker: Taker, place: str) -> Use:
    arguments = given(call, taker[0])
    (named,) = row_argument(call, taker)
    values = {each.arg for each in call.keywords if each.arg}
    for each in call.keywords:
        if each.arg is None:
            values |= scope.keys(each.value)
    part = scope.texts(arguments["part"]) if "part" in arguments else set()
    if not part and "part" in parameters(taker[0]):
        part = {"what"}
    parts = tuple(each for each in PARTS if each not in values and (not part or each in part))
    variable = named.id if isinstance(named, ast.Name) else ""
    rows = rows_like(scope.texts(named) - {""})
    return Use(place, variable, frozenset(rows), frozenset(values), parts)


def find_uses() -> list[Use]:
    "Every call that names a row; what a taker hands on was named by whoever called it."
    uses = []
    for module in MODULES:
        for function in module.functions.values():
            nested = {
                id(call)
                for each in inner(function, ast.FunctionDef)
                if each is not function
                for call in inner(each, ast.Call)
            }
            for call in inner(function, ast.Call):
                taker = TAKERS.get(module.meant(call))
                if taker is None or id(call) in nested:
                    continue
                if any(own(each, function) for each in row_argument(call, taker)):
                    continue
                place = f"{module.name}.{function.name}:{call.lineno}"
                uses.append(use(call, Scope(module, function), taker, place))
    return uses


USES = find_uses()


def wanted(row: str, parts: tuple[str, ...] = PARTS, language: str = "en") -> set[str]:
    "The values that the sentences of a row want."
    texts = [ROWS[row][part][language] for part in parts if part in ROWS[row]]
    fields = [each for text in texts for _, each, _, _ in string.Formatter().parse(text)]
    return {re.split(r"[.\[]", each)[0] for each in fields if each}


def test_the_functions_that_take_a_rows_name_are_found():
    assert TAKERS["events", "problem"][1] == ["name"]
    assert len(USES) > 100 and sum(len(each.rows) > 1 for each in USES) > 3


@pytest.mark.parametrize("each", USES, ids=lambda each: each.place)
def test_a_row_that_is_named_is_there(each):
    assert each.rows, "which rows it names cannot be seen"
    assert each.rows <= ROWS.keys()


@pytest.mark.parametrize("each", USES, ids=lambda each: each.place)
def test_every_value_that_a_sentence_wants_is_given(each):
    "Where a variable holds the name, another call of the function may be the one for its row."
    where = each.place.partition(":")[0]
    beside = [
        other
        for other in USES
        if other.place.partition(":")[0] == where and other.variable == each.variable != ""
    ]
    for row in each.rows & ROWS.keys():
        missing = [wanted(row, call.parts) - call.values for call in (each, *beside)]
        assert not all(missing), (row, missing[0])


def test_every_row_is_named_by_somebody():
    named = set().union(*(each.rows for each in USES))
    assert sorted(ROWS.keys() - named) == []


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_whole(name):
    row = ROWS[name]
    assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", name)
    assert row.keys() <= {*PARTS, "code", "level", "source"}
    assert "what" in row or "fix" in row
    assert type(row.get("code", 1)) is int and row.get("code", 1) in (1, 2, 130)
    for part in PARTS:
        texts = row.get(part, {"en": "-", "zh": ""})
        assert texts.keys() == {"en", "zh"} and texts["en"].strip() == texts["en"] != "", part
        assert isinstance(texts["zh"], str)
        if texts["zh"]:
            assert wanted(name, (part,), "zh") == wanted(name, (part,)), part


@pytest.mark.parametrize(
    "name", [name for name, row in ROWS.items() if {"what", "fix"} <= row.keys()]
)
def test_a_sentence_is_a_sentence(name):
    "It ends with a full stop, with a command to be copied, or with the words of somebody else."
    for part in ("what", "fix"):
        text = ROWS[name][part]["en"]
        assert re.search(r"[.!?}]$|: [^:]+$", text), text


def test_no_two_rows_say_the_same():
    said = [
        (row["what"]["en"], row["fix"]["en"])
        for row in ROWS.values()
        if "fix" in row and "what" in row
    ]
    assert sorted({each for each in said if said.count(each) > 1}) == []
