"""What the cells of a page are on the docs site, beyond what nbdev makes of its notebook.

The imports stand in one folded box, so that a cell can be copied and run; names come in the order
of their cell, with the signature that the source has; tests are called tests.
"""

import ast
import re
import sys
import textwrap
from collections import defaultdict
from functools import cache
from unicodedata import east_asian_width

WIDTH = 100
BESIDE = 55  # characters of an output that fit half the column
LANE = re.compile(r"^(\[(?:cpu|emulated|npu)\] .+)\n?", re.M)  # a line of tools/run_notebooks.py
PARSED = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
HIDDEN = {"hide", "export", "exporti", "default_exp"}  # nbdev does not show such a cell's code
EXPORTED = {"export", "exports", "exporti"}
FOLDED = '#| code-fold: true\n#| code-summary: "{}"\n'
DIRECTIVE = re.compile(r"^#\|\s*([\w-]+):?[ \t]*(\S*)", re.M)
SHOW_DOC = re.compile(r"^show_doc\(([\w.]+)", re.M)
SIGNATURE = re.compile(r"^```python\n.*?^```\n", re.M | re.S)
HEADING = re.compile(r"^### (\S+)$", re.M)
ITALIC = re.compile(r"(?<=\n\n)\*([^*\n].*?)\*(?=\n\n|\s*\Z)", re.S)  # nbdev's docstring
SOURCE_LINK = re.compile(r"^\[source\]\((\S+)\)\{.*\}$", re.M)


def text(cell: dict) -> str:
    return "".join(cell["source"])


def directives(cell: dict) -> dict[str, str]:
    "nbdev's words at the top of a code cell, each with what follows it."
    return dict(DIRECTIVE.findall(text(cell))) if cell["cell_type"] == "code" else {}


@cache
def parsed(source: str) -> list[ast.stmt]:
    "A source's statements; none for what is not Python, such as a magic."
    try:
        return compile(source, "a cell", "exec", PARSED).body
    except SyntaxError:
        return []


def statements(cell: dict) -> list[ast.stmt]:
    "A cell's statements; none for Markdown."
    return parsed(text(cell)) if cell["cell_type"] == "code" else []


def made(nodes: list[ast.stmt]) -> set[str]:
    "The names that statements make."
    found = {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    for node in nodes:
        if not isinstance(node, DEFINITIONS):
            stored = (part for part in ast.walk(node) if isinstance(part, ast.Name))
            found |= {part.id for part in stored if isinstance(part.ctx, ast.Store)}
    return found


def used(nodes: list[ast.stmt]) -> set[str]:
    "The names that statements read."
    parts = (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name))
    return {part.id for part in parts if isinstance(part.ctx, ast.Load)}


def import_lines(nodes: list[ast.stmt]) -> str:
    "Imports without repetition: the standard library, others, this package."
    plain, names = set(), defaultdict(set)
    for node in nodes:
        for alias in node.names:
            if isinstance(node, ast.Import):
                plain.add(ast.unparse(ast.Import([alias])))
            else:
                names[node.module].add(ast.unparse(alias))
    lines = [(line.split()[1], line) for line in plain]
    for module, imported in names.items():
        line = f"from {module} import {', '.join(sorted(imported))}"
        if len(line) > WIDTH:
            listed = textwrap.fill(", ".join(sorted(imported)), WIDTH - 4)
            line = f"from {module} import (\n{textwrap.indent(listed, '    ')})"
        lines.append((module, line))

    def place(row):
        root = row[0].partition(".")[0]
        own, known = root == "qwen_npu_tut", root in sys.stdlib_module_names
        return (own, not known, row[1].startswith("from"), row[1])

    return "\n".join(line for _, line in sorted(lines, key=place))


def imports(
    cells: list[dict],  # of the notebook as it is in nbs/
) -> str:  # Python; empty for a page that imports nothing
    "Every import of a page, and those of its own exports that its examples use."
    nodes, own, unseen, read, examples, module = [], set(), set(), set(), set(), ""
    for cell in cells:
        said, body = directives(cell), statements(cell)
        module = said.get("default_exp") or module
        rest = [node for node in body if not isinstance(node, IMPORTS)]
        if "in_engine" not in said:  # such a cell is run elsewhere, with what it imports itself
            nodes += [node for node in body if isinstance(node, IMPORTS)]
        if EXPORTED & said.keys():
            own |= made(rest)
            unseen |= set() if "exports" in said else made(rest)
        else:
            examples |= used(rest)
        read |= used(rest)
    wanted = own & examples | unseen & read
    if module and wanted:
        listed = [ast.alias(name) for name in sorted(wanted)]
        nodes.append(ast.ImportFrom(f"qwen_npu_tut.{module}", listed, 0))
    return import_lines(nodes)


def is_check(node: ast.stmt) -> bool:
    "True for what can only fail: assert, test_eq(…), with expect_fail(…), and loops of such."
    if isinstance(node, ast.For):
        return all(map(is_check, node.body))
    calls = [node.value] if isinstance(node, ast.Expr) else []
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items]
    names = [getattr(call.func, "id", "") for call in calls if isinstance(call, ast.Call)]
    checks = [name == "expect_fail" or name.startswith("test_") for name in names]
    return isinstance(node, ast.Assert) or bool(checks) and all(checks)


def is_test(
    cell: dict,
    needed: set[str] = frozenset(),  # the names that later cells read
) -> bool:
    "True for a cell that ends in checks, prints nothing and makes nothing for later cells."
    body = statements(cell)
    ready = (*DEFINITIONS, *IMPORTS, ast.Assign)
    if not body or cell.get("outputs") or not is_check(body[-1]) or made(body) & needed:
        return False
    return all(is_check(node) or isinstance(node, ready) for node in body)


def outline(
    node: ast.stmt,  # a function's or a class's definition
    lines: list[str],  # of its cell
) -> str:  # its head as it is written; a class with its fields and how it is made
    "A signature with its types in full, where inspect gives Iterator for Iterator[Finding]."
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    body = node.body[0]
    if body.lineno > node.lineno:
        head = lines[first - 1 : body.lineno - 1]
    else:  # def f(x): return x
        head = [*lines[first - 1 : node.lineno - 1], lines[node.lineno - 1][: body.col_offset]]
    parts = [line.rstrip() for line in head]
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.AnnAssign):
                parts += lines[part.lineno - 1 : part.end_lineno]
            elif isinstance(part, ast.FunctionDef) and part.name == "__init__":
                parts.append(textwrap.indent(outline(part, lines), " " * part.col_offset))
    return textwrap.dedent("\n".join(line for line in parts if line.strip()))


class Names:
    "What a notebook's exported cells define: where, and how it looks."

    def __init__(self, cells: list[dict]):  # of the notebook as it is in nbs/
        self.place, self.outline, self.doc, self.cell = {}, {}, {}, {}
        for number, cell in enumerate(cells):
            if not EXPORTED & directives(cell).keys():
                continue
            self.cell[cell["id"]] = number
            for node in statements(cell):
                if isinstance(node, DEFINITIONS):
                    self.add(node, node.name, number, text(cell).splitlines())

    def add(self, node: ast.stmt, name: str, number: int, lines: list[str]):
        self.place[name] = (number, 0, node.lineno)
        self.outline[name] = outline(node, lines)
        self.doc[name] = ast.get_docstring(node) or ""
        for part in getattr(node, "body", []):
            if isinstance(node, ast.ClassDef) and isinstance(part, DEFINITIONS):
                self.add(part, f"{name}.{part.name}", number, lines)

    def key(self, cell: dict) -> tuple | None:  # None: this cell has a place of its own
        "Where a prepared cell belongs: names as they are defined, then their source."
        if cell.get("id") in self.cell:
            return (self.cell[cell["id"]], 1, 0)
        shown = SHOW_DOC.search(text(cell)) if cell["cell_type"] == "code" else None
        return self.place.get(shown[1]) if shown else None


def in_order(cells: list[dict], names: Names) -> list[dict]:
    "nbdev puts the last definition of a cell first, and its source in between."
    ordered, run = [], []
    for cell in [*cells, None]:
        key = names.key(cell) if cell else None
        if key:
            run.append((key, len(run), cell))
        else:
            ordered += [each for *_, each in sorted(run, key=lambda row: row[:2])]
            ordered += [cell] if cell else []
            run = []
    return ordered


def anchor(name: str) -> str:  # as nbdev's links to names have it
    return name if "__" in name else name.lower()


def anchors(names: list[str]) -> str:
    "What links to names without a heading of their own lead to: methods, and names not shown."
    return " ".join(f'<a id="{anchor(name)}"></a>' for name in names)


def described(
    told: str,  # nbdev's Markdown for a name; empty on a page that nbdev does not run
    name: str,
    names: Names,
    listed: bool,  # in the contents of its page
    linked: bool,  # to its source in the repository
) -> str:  # Markdown
    "A name's heading, its signature as the source has it, and what nbdev says of it."
    told = told.removeprefix("---\n\n") or f"### {name}\n\n```python\n```\n\n*{names.doc[name]}*\n"
    if name in names.outline:
        told = SIGNATURE.sub(lambda _: f"```python\n{names.outline[name]}\n```\n", told, count=1)
    more = "" if listed else " .unlisted"
    told = HEADING.sub(lambda _: f"### `{name}` {{#{anchor(name)}{more}}}", told, count=1)
    told = ITALIC.sub(r"\1", told, count=1)
    methods = [each for each in names.place if each.startswith(f"{name}.")]
    told = f"{anchors(methods)}\n\n{told}" if methods else told
    return SOURCE_LINK.sub(r"[source](\1){.source-link}" if linked else "", told)


def without_imports(cell: dict) -> str:
    "A cell's code alone, without nbdev's words and imports."
    nodes = (node for node in statements(cell) if isinstance(node, IMPORTS))
    gone = {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(text(cell).splitlines(), 1)
    return "\n".join(line for n, line in lines if n not in gone and not line.startswith("#|"))


def setup_cells(cells: list[dict]) -> dict[str, str]:  # a cell's id -> its code without imports
    "Hidden cells without which a later cell that is shown cannot run."
    needed, found = set(), {}
    for cell in reversed(cells):
        said, body = directives(cell), statements(cell)
        rest = [node for node in body if not isinstance(node, IMPORTS)]
        if not HIDDEN & said.keys():
            needed |= used(body)
        elif "hide" in said and made(rest) & needed and not all(map(is_check, rest)):
            needed |= used(rest)
            found[cell["id"]] = without_imports(cell)
    return found


def code_cell(source: str, id: str) -> dict:
    return {
        "cell_type": "code",
        "id": id,
        "metadata": {"language": "python"},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def markdown_cell(source: str, id: str) -> dict:
    return {"cell_type": "markdown", "id": id, "metadata": {}, "source": source}


def with_hidden(
    cells: list[dict],  # of the page as nbdev prepared it
    original: list[dict],  # of the notebook
    names: Names,
    words: dict,
) -> list[dict]:
    "Put back what nbdev left out: hidden cells that are needed, folded; anchors of unshown names."
    wanted, shown = setup_cells(original), {cell.get("id"): n for n, cell in enumerate(cells)}
    told = {each[1] for each in map(SHOW_DOC.search, map(text, cells)) if each}
    after, place = defaultdict(list), 1
    for number, cell in enumerate(original):
        place = max(place, shown.get(cell["id"], 0))
        if cell["id"] in wanted:
            code = FOLDED.format(words["setup"]) + wanted[cell["id"]]
            after[place].append(code_cell(code, cell["id"]))
        unshown = [
            name
            for name, (where, *_) in names.place.items()
            if where == number and name.partition(".")[0] not in told
        ]
        if unshown:
            after[place].append(markdown_cell(anchors(unshown), cell["id"]))
    return [each for n, cell in enumerate(cells) for each in (cell, *after[n])]


def width(output: dict) -> float:  # in columns of a terminal; without an end for a picture
    "How wide an output's longest line is; a Chinese letter takes two columns."
    data = output.get("data", {"text/plain": output.get("text", "")})
    if data.keys() != {"text/plain"}:
        return float("inf")
    lines = "".join(data["text/plain"]).splitlines()
    return max(
        (len(line) + sum(east_asian_width(c) in "WF" for c in line) for line in lines), default=0
    )


def by_lane(cell: dict, words: dict) -> list[dict]:
    "A cell that was run in two lanes: its code, and the outputs of each lane under its name."
    lanes: list[tuple[str, list]] = []
    for output in cell["outputs"]:
        said = "".join(output.get("text", "")) if output.get("name") == "stdout" else ""
        pieces = LANE.split(said)
        for label, rest in zip(pieces[1::2], pieces[2::2]):
            lanes.append((label, [{**output, "text": rest}] if rest.strip() else []))
        if len(pieces) == 1 and lanes:
            lanes[-1][1].append(output)
    narrow = all(width(output) <= BESIDE for _, some in lanes for output in some)
    done = [{**cell, "outputs": []}]
    done.append(markdown_cell(f"::::: {{.lanes{' .beside' if narrow else ''}}}", "lanes"))
    for number, (label, outputs) in enumerate(lanes):
        label = words.get(label, label)
        head = f':::: {{.one-lane}}\n\n<p><span class="lane">{label}</span></p>'
        shown = {**cell, "id": f"{cell['id']}-{number}", "source": "", "outputs": outputs}
        done += [markdown_cell(head, "lane"), shown, markdown_cell("::::", "lane-end")]
    return [*done, markdown_cell(":::::", "lanes-end")]


def prepare(
    page: dict,  # the notebook as nbdev prepared it: it is changed
    original: dict,  # the same notebook as it is in nbs/
    words: dict,  # the site's own words in the page's language
    chapter: bool = False,  # its names stay out of its contents
    front: bool = False,  # the imports wait for the first code
    linked: bool = True,  # names lead to their source in the repository
):
    "Turn nbdev's cells into those of the docs site."
    names = Names(original["cells"])
    cells = with_hidden(in_order(page["cells"], names), original["cells"], names, words)
    lanes = {each["id"] for each in original["cells"] if "lanes" in directives(each)}
    later = [set()]  # what the cells after each one read
    for cell in reversed(cells[1:]):
        later.insert(0, later[0] | used(statements(cell)))
    done = []
    for number, cell in enumerate(cells):
        body = statements(cell)
        boxed = body and all(isinstance(node, IMPORTS) for node in body)
        if boxed and "in_engine" not in text(cell):
            continue  # they stand in the box
        shown = SHOW_DOC.search(text(cell)) if cell["cell_type"] == "code" else None
        if shown and (cell["outputs"] or shown[1] in names.doc):
            cell["outputs"] = cell["outputs"] or [
                {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": ""}}
            ]
            data = cell["outputs"][0]["data"]
            told = "".join(data["text/markdown"])
            data["text/markdown"] = described(told, shown[1], names, not chapter, linked)
        elif names.key(cell):
            cell["source"] = text(cell).replace("#| code-fold: show", "#| code-fold: true", 1)
        if is_test(cell, later[number]) and not names.key(cell):
            word = f'::::: {{.checked}}\n\n<p class="checked-word">{words["checked"]}</p>'
            done += [markdown_cell(word, "checked"), cell, markdown_cell(":::::", "checked-end")]
        elif cell.get("id") in lanes:
            done += by_lane(cell, words)
        else:
            done.append(cell)
    lines = imports(original["cells"])
    if lines:
        box = code_cell(FOLDED.format(words["imports"]) + lines, "imports")
        first = next((n for n, cell in enumerate(done) if cell["cell_type"] == "code"), len(done))
        done.insert(first if front else 2, box)
    page["cells"] = done
