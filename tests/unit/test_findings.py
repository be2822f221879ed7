"""The sentences of findings.toml and the code that names them: neither without the other.

The package is read, not run: which functions take the name of a row, which rows their calls can
name, and which values they give. A name or a value that cannot be seen here counts as wrong.
"""

import ast
import itertools
import re
import string
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest

import qwen_npu_tut
from qwen_npu_tut.base.events import sentences

PACKAGE = Path(qwen_npu_tut.__file__).parent
ROWS = sentences()
PARTS = ("what", "fix", "ok", "source")  # of a row; `ok` is said where nothing is wrong
ANY = "\0"  # stands for whatever a computed part of a name may be
# The functions that look a row up, and the arguments that name it, the first that is given.
LOOK_UP = {("events", "problem"): ["name"], ("findings", "judged"): ["row", "id"]}
BESIDE = "-in-container"  # `judged` takes the row of this ending where there is one


@dataclass(eq=False)
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


@cache
def inner(tree: ast.AST, kind: type) -> list:
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def own(node: ast.expr, function: ast.FunctionDef) -> bool:
    "Whether an expression is a parameter of its function."
    return isinstance(node, ast.Name) and node.id in parameters(function)


@dataclass(frozen=True)
class Taker:
    "A function that takes the name of a row, and the parameters that may hold it."

    function: ast.FunctionDef
    names: list[str]

    def arguments(self, call: ast.Call) -> dict[str, ast.expr]:
        "A call's arguments by name."
        by_place = {each.arg for each in self.function.args.posonlyargs}
        named = {
            each.arg: each.value for each in call.keywords if each.arg not in {None, *by_place}
        }
        return dict(zip(parameters(self.function), call.args)) | named

    def rows(self, call: ast.Call) -> list[ast.expr]:
        "The arguments that may name the row: the first that is not empty does."
        arguments = self.arguments(call)
        return [arguments[name] for name in self.names if name in arguments]

    def adds(self) -> set[str]:
        "The values that the function gives to each row itself."
        own = getattr(self.function.args.kwarg, "arg", "")
        steps = [
            each for each in inner(self.function, ast.AugAssign) if own in names_in(each.target)
        ]
        return {key.value for each in steps for key in getattr(each.value, "keys", [])}


def calls(function: ast.FunctionDef) -> list[ast.Call]:
    "The calls in a function; those of a function within it are that one's."
    within = [each for each in inner(function, ast.FunctionDef) if each is not function]
    skipped = {id(call) for each in within for call in inner(each, ast.Call)}
    return [call for call in inner(function, ast.Call) if id(call) not in skipped]


def plain_looks(module: Module, function: ast.FunctionDef) -> list[ast.Subscript]:
    "Where a function takes a row that it names itself."
    looks = [each for each in inner(function, ast.Subscript) if opens(module, each.value)]
    return [each for each in looks if isinstance(each.slice, ast.Constant)]


def opens(module: Module, node: ast.expr) -> bool:
    "sentences()"
    return isinstance(node, ast.Call) and module.meant(node) == ("events", "sentences")


def looks_up(module: Module, function: ast.FunctionDef) -> bool:
    "Whether a function takes rows that others name; to ask whether a row is there is no look."
    plain = {id(each.value) for each in plain_looks(module, function)}
    asked = {id(each) for node in inner(function, ast.Compare) for each in node.comparators}
    opened = [each for each in calls(function) if opens(module, each)]
    return any(id(each) not in plain | asked for each in opened)


def find_takers() -> dict[tuple[str, str], Taker]:
    "The functions that look a row up, and those that hand a name on to one of them."
    takers = {
        (module.name, name): Taker(function, LOOK_UP.get((module.name, name), []))
        for module in MODULES
        for name, function in module.functions.items()
        if looks_up(module, function)
    }
    while True:
        count = len(takers)
        for module in MODULES:
            for name, function in module.functions.items():
                for call in inner(function, ast.Call):
                    taker = takers.get(module.meant(call))
                    handed = (
                        [each.id for each in taker.rows(call) if own(each, function)]
                        if taker
                        else []
                    )
                    if handed:
                        takers.setdefault((module.name, name), Taker(function, handed))
        if len(takers) == count:
            return takers


def names_in(target: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}


TAKERS = find_takers()


def pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    "What is assigned to what: of `one, two = 1, 2` each to its own."
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts))
    return [(target, value)]


@cache
def assigned(tree: ast.AST) -> dict[str, list[ast.expr]]:
    "What is assigned to each name within a tree, or what the name runs through."
    found = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            parts = [pair for target in node.targets for pair in pairs(target, node.value)]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            parts = [(node.target, node.value)] if node.value else []
        elif isinstance(node, ast.For | ast.comprehension):
            parts = [(node.target, node.iter)]
        else:
            continue
        for target, value in parts:
            for name in names_in(target):
                found[name].append(value)
    return dict(found)


@dataclass(frozen=True)
class Scope:
    "A function and its module: where a name's values are looked up."

    module: Module
    function: ast.FunctionDef

    def values(self, name: str) -> list[ast.expr]:
        "What a name may stand for: in the function, else in the module."
        return assigned(self.function).get(name) or assigned(self.module.tree).get(name, [])

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
            case ast.GeneratorExp():
                return self.texts(node.elt, seen)
            case ast.Call(func=ast.Name(id="next")):
                return set().union(*(self.texts(each, seen) for each in node.args))
            case ast.Call(func=ast.Name(id=name)) if name in self.module.functions:
                function = self.module.functions[name]
                given = [each.value for each in inner(function, ast.Return) if each.value]
                scope = Scope(self.module, function)
                return set().union(*(scope.texts(each, seen) for each in given))
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
                found = (self.keys(each) for each in self.values(node.id))
                return set().union(*found, self.added(node.id))
        return set()

    def added(self, name: str) -> set[str]:
        "The keys of a mapping that are set one by one."
        targets = [each for step in inner(self.function, ast.Assign) for each in step.targets]
        places = [each for each in targets if isinstance(each, ast.Subscript)]
        return {
            each.slice.value
            for each in places
            if name in names_in(each.value) and isinstance(each.slice, ast.Constant)
        }


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
    values, texts, variable = taker.adds(), {""}, ""
    for each in call.keywords:
        values |= {each.arg} if each.arg else scope.keys(each.value)
    for each in taker.rows(call):
        if "" not in texts:
            break
        texts = texts - {""} | scope.texts(each)
        variable = each.id if isinstance(each, ast.Name) else ""
    rows = rows_like(texts - {""})
    if taker.function.name == "judged":
        rows |= {f"{row}{BESIDE}" for row in rows} & ROWS.keys()
    good = taker.arguments(call).get("good")
    parts = ("ok", "source") if isinstance(good, ast.Constant) and good.value is True else PARTS
    return Use(place, variable, frozenset(rows), frozenset(values), parts)


def whole(call: ast.Call, scope: Scope) -> ast.Call:
    "A call as it is meant: `see(b)` after `see = partial(judged, a)` is `judged(a, b)`."
    before = [
        made
        for made in scope.values(getattr(call.func, "id", ""))
        if isinstance(made, ast.Call)
        and getattr(made.func, "id", "") == "partial"
        and made.lineno < call.lineno
    ]
    if not before:
        return call
    first, *rest = before[-1].args
    args, keywords = [*rest, *call.args], [*before[-1].keywords, *call.keywords]
    made = ast.Call(func=first, args=args, keywords=keywords, lineno=before[-1].lineno)
    meant = whole(made, scope)
    meant.lineno = call.lineno
    return meant


def find_uses() -> list[Use]:
    "Every call that names a row; what a taker hands on was named by whoever called it."
    uses = []
    for module in MODULES:
        for function in module.functions.values():
            scope = Scope(module, function)
            for each in plain_looks(module, function):
                place = f"{module.name}.{function.name}:{each.lineno}"
                uses.append(Use(place, "", frozenset({each.slice.value}), frozenset(), ()))
            for call in (whole(each, scope) for each in calls(function)):
                taker = TAKERS.get(module.meant(call))
                if taker and not any(own(each, function) for each in taker.rows(call)):
                    place = f"{module.name}.{function.name}:{call.lineno}"
                    uses.append(use(call, scope, taker, place))
    return uses


USES = find_uses()


def row_of(name: str) -> dict:
    "A row with what it has from the row that it is like."
    row = ROWS[name]
    return {**(row_of(row["like"]) if "like" in row else {}), **row}


LIKED = {row.get("like") for row in ROWS.values()}


def sentence(name: str, part: str, language: str = "en") -> str:
    said = row_of(name).get(part, "")
    return said if isinstance(said, str) else said[language]


def wanted(row: str, parts: tuple[str, ...] = PARTS, language: str = "en") -> set[str]:
    "The values that the sentences of a row want."
    texts = [sentence(row, part, language) for part in parts]
    fields = [each for text in texts for _, each, _, _ in string.Formatter().parse(text)]
    return {re.split(r"[.\[]", each)[0] for each in fields if each}


def test_the_functions_that_take_a_rows_name_are_found():
    assert [place for place, taker in TAKERS.items() if not taker.names] == []
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
    named |= {ROWS[name].get("like") for name in named}
    assert sorted(ROWS.keys() - named) == []


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_whole(name):
    row = ROWS[name]
    assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", name)
    assert row.keys() <= {*PARTS, "code", "level", "like"}
    assert row_of(name).keys() & {"what", "ok"} or name in LIKED
    assert row.get("like") in (None, *ROWS) and row.get("like") != name
    assert type(row.get("code", 1)) is int and row.get("code", 1) in (1, 2, 130)
    assert row.get("level", "warn") in ("warn", "block") and isinstance(row.get("source", ""), str)
    for part in {"what", "fix", "ok"} & row.keys():
        texts = row[part]
        assert texts.keys() == {"en", "zh"}, part
        for text in texts.values():
            assert text.strip() == text != "", part


@pytest.mark.parametrize("name", ROWS)
def test_a_sentence_is_a_sentence(name):
    "It ends with a full stop, a command to be copied, or the words of somebody else."
    for part in {"what", "fix", "ok"} & ROWS[name].keys():
        text = sentence(name, part)
        command = part == "fix" and re.search(r"(^|: )[a-z~/-]", text)
        assert command or re.search(r"[.!?}]$", text), text


# What a translation keeps: code, options, numbers, variables, our commands, paths and addresses.
KEPT = re.compile(
    r"""`[^`]*` | (?<![\w-])--?[A-Za-z][\w-]* | \d+(?:\.\d+)* | \b[A-Z]+_[A-Z_]+\b
    | \bqwen-npu\ [a-z]+ | [~\w.:]*/[\w./:-]*\w""",
    re.X,
)
JOINS = {" and ": " 和 ", " or ": " 或 "}  # between the members of a list
CHINESE_LISTS = {"busy"}  # lists whose members are Chinese too, so that no Latin comma joins them
HAN = r"[\u4e00-\u9fff]"
ENDS_A_LINE = {"{cause}"}  # what follows it begins a line, and wants no blank
TRANSLATED = [(name, part) for name in ROWS for part in ("what", "fix", "ok") if part in ROWS[name]]


def placeholders(text: str) -> dict[tuple[str, str], list[str]]:
    "The formats of each value that a sentence shows, by its name and its conversion."
    found = defaultdict(list)
    for _, name, form, conversion in string.Formatter().parse(text):
        if name is not None:
            found[name, conversion or ""].append(form)
    return found


def bare(text: str) -> str:
    "A sentence without what its placeholders say: {machine.smi.error} is {}."
    return re.sub(r"\{[^}]*\}", "{}", text)


def same_format(value: str, english: str, chinese: str) -> bool:
    "Words in a format are translated, everything else stays."
    if english.startswith("or "):
        return bool(re.match(f"or .*{HAN}", chinese))
    if value in CHINESE_LISTS:
        return chinese == "、"
    return chinese == JOINS.get(english, english)


@pytest.mark.parametrize("name, part", TRANSLATED)
def test_the_chinese_shows_the_same_values(name, part):
    english, chinese = (placeholders(sentence(name, part, each)) for each in ("en", "zh"))
    assert chinese.keys() == english.keys()
    for (value, conversion), forms in english.items():
        told = chinese[value, conversion]
        assert len(told) == len(forms)
        assert all(itertools.starmap(partial(same_format, value), zip(forms, told))), (forms, told)


@pytest.mark.parametrize("name, part", TRANSLATED)
def test_the_chinese_keeps_numbers_options_and_code(name, part):
    english, chinese = (bare(sentence(name, part, each)) for each in ("en", "zh"))
    assert set(KEPT.findall(english)) <= set(KEPT.findall(chinese))


@pytest.mark.parametrize("name, part", TRANSLATED)
def test_the_chinese_is_set_as_chinese(name, part):
    "Blanks beside Latin letters and values, full-width marks, a full stop where English has one."
    english, chinese = (sentence(name, part, each) for each in ("en", "zh"))
    assert chinese.endswith("。") == english.endswith("."), chinese
    assert chinese.count("\n") == english.count("\n"), chinese
    for each in ENDS_A_LINE:
        chinese = chinese.replace(each, "")
    told = bare(chinese)
    assert re.search(HAN, told) or not re.search("[a-z]{3}", bare(english)), told
    assert not re.search(f"{HAN}[\\w{{`]|[\\w}}`]{HAN}", told, re.ASCII), told
    assert not re.search(f"{HAN} +{HAN}|[，。：；、（）] | [，。：；、（）]", told), told
    assert not re.search(f"{HAN}[,.:;!?()]|[,:;!?] ?{HAN}", told), told


def test_no_two_rows_say_the_same():
    said = [tuple(sentence(name, part) for part in ("what", "fix", "ok")) for name in ROWS]
    assert sorted({each for each in said if said.count(each) > 1}) == []
