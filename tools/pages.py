"""Makes the pages that are tables of the package's data, in English and in Chinese:
troubleshooting, what our command says, versions, cards, the glossary, the cheat sheet, what was run
where. Their words are in pages.toml and glossary.toml.

python tools/pages.py [--check]

--check writes nothing and fails where a page is not what would be made.
"""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from string import Formatter

from made import run
from translate import BOOK, CHINESE, as_file, chinese_pages, led, slug
from typer.main import get_command

from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.engine.advisories import advisories
from qwen_npu_tut.engine.stacks import Pin, Stack, stacks
from qwen_npu_tut.faces.cli import app

ROOT = Path(__file__).resolve().parent.parent
Cells = Iterator[tuple[str, str]]  # a cell's id and its Markdown


@cache
def data(name: str) -> dict:
    "One of the tables beside this file."
    return tomllib.loads((ROOT / "tools" / name).read_text(encoding="utf8"))


def in_language(text: dict | str, language: str) -> str:
    "A text of the data; English where its Chinese is still to be written."
    return text if isinstance(text, str) else text.get(language) or text["en"]


class Page:
    "One page's words in one language."

    def __init__(self, name: str, language: str):
        self.name, self.language = name, language
        self.own, self.words = data("pages.toml")[name], data("pages.toml")["words"]

    def said(self, text: dict | str) -> str:
        "A text of the data, as it is written there."
        return in_language(text, self.language)

    def word(self, name: str, **values) -> str:
        "A word that all pages use."
        return self.said(self.words[name]).format(**values)

    def text(self, name: str, **values) -> str:
        "A text of this page alone."
        return self.said(self.own[name]).strip().format(**values)

    def section(self, name: str, *made: str) -> str:
        "A heading with its anchor and its sentence, and what stands below."
        head = [self.heading(name, self.own[name]), self.text(f"{name}_about")]
        return "\n\n".join([*head, *made])

    def heading(self, name: str, title: dict) -> str:
        """A heading that links may lead to by a name of ours, and by its English words; the site
        makes a place of its words as they stand, too."""
        places = dict.fromkeys([name, slug(title["en"])])
        places.pop(slug(self.said(title)), None)
        return "\n\n".join(["".join(map(anchor, places)), f"## {self.said(title)}"]).strip()


# ---- Markdown ----


def code(text: str) -> str:
    "Code within a line, whatever it holds."
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, room = "`" * (longest + 1), " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{fence}{room}{text}{room}{fence}"


def block(text: str) -> str:
    "Lines of code."
    longest = max(map(len, re.findall("`{3,}", text)), default=2)
    return f"{'`' * (longest + 1)}text\n{text}\n{'`' * (longest + 1)}"


ASCII = re.compile("[!-~]+")
# Options, paths, variables, and whatever else Markdown would read as its own.
LIKE_CODE = re.compile(r"--?[A-Za-z]|[@~/]\w|.*[_$~|<>^\\*\[\]{}&@]|--$")
ISSUE = re.compile(r"([\w.-]+/[\w.-]+)#(\d+)")


def _token(match: re.Match) -> str:
    "One run of letters without a blank: its core as code or as a link, where it is either."
    before, core, after = re.fullmatch(r"""([("']*)(.*?)([.,;:!?)"']*)""", match[0]).groups()
    if core.count("'") % 2 and after[:1] == "'":
        core, after = core + "'", after[1:]
    if core.count("(") > core.count(")") and after[:1] == ")":
        core, after = core + ")", after[1:]
    if re.match(r"https?://[a-z]", core) and not re.search(r"[<>]|//(\d|localhost)", core):
        return f"{before}<{core}>{after}"
    if issue := ISSUE.fullmatch(core):
        return f"{before}[{core}](https://github.com/{issue[1]}/issues/{issue[2]}){after}"
    if LIKE_CODE.match(core) or re.match(r"https?://", core):
        core = code(core)
    return before + core + after


# A command where a sentence has it without backticks: up to the end of the clause.
COMMAND = re.compile(
    r"""--[a-z][\w-]*\ (?:[A-Z]{2,}(?![A-Za-z])[\w-]*|cpu\b|emulated\b|cann-[\w.]*\w|\d+)
    |(?:^|(?<=[(：（、；，])|(?<=[:;,]\ )|(?<=then\ )|(?<=(?:by|or)\ )|(?<=(?:with|host)\ )
    |(?<=[先再用或后加]\ ))
    (?:sudo|export|unset|qwen-npu|npu-smi|uv|python|gzip|iconv|source|bash|ps|cat|useradd|chmod
    |docker\ (?=run|ps|inspect|stop)|some-command|RUN)\b
    (?:'[^']*' | "[^"]*" | \$\([^)]*\) | [.,;](?=\S)
    |(?!\ (?:shows|lists|names|takes|completes|makes)\b)[^'".,;()`\u2e80-\uffef])*""",
    re.X,
)


def prose(text: str) -> str:
    "A sentence of the data as Markdown: what stands in backticks there stays code."
    parts = text.split("`")
    return "".join(
        code(part) if place % 2 else ASCII.sub(_token, part) for place, part in enumerate(parts)
    )


def _command(match: re.Match) -> str:
    "The command as code, the blank behind it outside."
    words = match[0].rstrip()
    return f"`{words}`{match[0][len(words) :]}"


def advice(text: str) -> str:
    "A sentence of findings.toml, whose commands stand there as a terminal shows them."
    text = re.sub("(?<=[，。：；？！、）]) ", "", " ".join(text.split()))
    parts = text.split("`")
    parts[::2] = [COMMAND.sub(_command, part) for part in parts[::2]]
    return prose("`".join(parts))


def sourced(text: str) -> str:
    "Who says so: `owner/name#1, #2` leads to both issues."
    repository = ""

    def whole_name(match: re.Match) -> str:
        nonlocal repository
        repository = match[1] or repository
        return f"{repository}#{match[2]}"

    return prose(re.sub(r"([\w.-]+/[\w.-]+)?(?<!VU)#(\d+)\b", whole_name, text))


def capitals(field: str) -> str:
    "A placeholder's name as a word in capitals: {stack.pins[cann].version} is CANN-VERSION."
    names = [re.sub(r"\d+$", "", each) for each in re.findall(r"[A-Za-z_]\w*", field)]
    names = names[-2:] if names[-1] in ("name", "version") else names[-1:]
    return "-".join(names).upper().replace("_", "-")


def filled(text: str) -> str:
    "A sentence with words in capitals for its placeholders; of those side by side one is filled."
    made, names = "", []
    for literal, field, _, _ in [*Formatter().parse(text), ("", None, "", None)]:
        if literal or field is None:
            in_code = made.count("`") % 2
            made += "".join(names[:1]) if in_code else " / ".join(dict.fromkeys(names))
            made += " " * bool(names and re.match("[A-Za-z\u4e00-\u9fff]", literal))
            made, names = made + literal, []
        if field:
            names.append(capitals(field))
    return made


OWN_PLACES = re.compile(r"(?:/home|/Users)/[\w.-]+/|/root/|/tmp/(?=[\w.-])")


def impersonal(text: str) -> str:
    "A line of somebody's log without the folders of that machine."
    return OWN_PLACES.sub(lambda found: "$TMPDIR/" if "tmp" in found[0] else "~/", text)


def anchor(name: str) -> str:
    "A place that a link may lead to."
    return f'<a id="{name}"></a>'


def as_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    "A table; a cell is Markdown already."
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


# ---- troubleshooting ----

GRADES = {"confirmed": "stated"}  # the makers' own word is a source too


def group_of(row: dict, form: bool) -> str:
    "Where a row of failures.toml stands: the rule is told in pages.toml."
    if row["severity"] == "benign":
        return "noise"
    if form and row.get("rank", 1) > 1:
        return "plain"
    groups = data("pages.toml")["group"]
    return next(
        (each["id"] for each in groups if any(re.match(one, row["id"]) for one in each["ids"])), ""
    )


def entry(page: Page, row: dict, form: bool) -> str:
    "One failure: the line that shows it, cause, fix, and who says so."
    word, colon = page.word, page.word("colon")
    facts = [word(row["severity"])]
    facts += [word(", ".join(row["on"]))] if "on" in row else []
    facts += [word("form")] if form else [GRADES.get(row["proof"], row["proof"])]
    lines = [
        f"### {row['id']}",
        block(impersonal(row["example"])),
        f"**{word('cause')}**{colon}{prose(filled(page.said(row['cause'])))}",
        f"**{word('fix')}**{colon}{prose(filled(page.said(row['fix'])))}",
    ]
    if not form:
        texts = " · ".join(code(impersonal(each.strip())) for each in row["text"])
        lines.append(f"{word('shows')}{colon}{texts}")
        facts.append(f"{word('source')}{colon}{sourced(row['source'])}")
    return "\n\n".join([*lines, "*" + "* · *".join(facts[:-1]) + "* · " + facts[-1]])


def troubleshooting(page: Page) -> Cells:
    "Every failure that is known, in groups; then whose part it is, and the codes."
    known, groups = table("failures.toml"), data("pages.toml")["group"]
    rows = [(row, kind == "form") for kind in ("failure", "form") for row in known[kind]]
    yield "intro", page.text("intro", form=page.word("form"))
    groups = sorted(groups, key=lambda each: each["place"])
    inside = {
        group["id"]: [each for each in rows if group_of(*each) == group["id"]] for group in groups
    }
    listed = [
        f"- [{page.said(group['title'])}](#{group['id']})"
        f"{page.word('rows', count=len(inside[group['id']]))}"
        for group in groups
    ]
    yield "contents", "\n".join([page.heading("contents", page.own["contents"]), "", *listed])
    for group in groups:
        head = [
            page.heading(group["id"], group["title"]),
            page.said(group["about"]),
        ]
        made = (entry(page, *each) for each in inside[group["id"]])
        yield group["id"], "\n\n".join([*head, *made])
    yield "owners", page.section("owners", *(part(page, each) for each in known["owner"]))
    rows = [
        [value, page.said(meaning), page.said(title)]
        for kind, title in data("pages.toml")["codes"].items()
        for value, meaning in known["codes"][kind].items()
    ]
    head = [page.word("code"), page.word("meaning"), page.word("kind")]
    told = prose(filled(page.said(known["code"]["fix"])))
    yield "codes", page.section("codes", told, as_table(head, rows))


def part(page: Page, owner: dict) -> str:
    "Whose part a name belongs to, and what to do about it in each case."
    name = filled(owner["name"] if isinstance(owner["name"], str) else page.said(owner["name"]))
    advices = [
        f"- *{page.text(case)}*{page.word('colon')}{prose(filled(page.said(owner[case])))}"
        for case in ("missing", "mismatch", "raised")
        if case in owner
    ]
    return "\n".join([f"**{prose(name)}**", "", *advices])


# ---- what our command says ----


def whole(name: str) -> dict:
    "A row of findings.toml with what it has from the row that it is like."
    row = table("findings.toml")[name]
    return {**(whole(row["like"]) if "like" in row else {}), **row}


def part_of(row: dict) -> str:
    "Where a message stands: what `check` looks at, what was typed, everything else."
    if row.keys() & {"ok", "level", "source"}:
        return "checked"
    return "typed" if row.get("code") == 2 else "stopped"


def also_called(name: str) -> list[str]:
    "Other names that findings of a row go by, as `check` prints them."
    pins = (row["pins"] for row in table("stacks.toml").values() if "pins" in row)
    disputed = {package for each in pins for package, pin in each.items() if "against" in pin}
    if name == "disputed":
        return [f"disputed-{package}" for package in sorted(disputed)]
    return data("pages.toml")["also"].get(name, [])


def message(page: Page, name: str, row: dict, level: str) -> str:
    "One sentence of our command, what to do, and who says so."
    word, colon = page.word, page.word("colon")
    fix = page.said(row["fix"])
    told = page.text("printed") if re.fullmatch(r"\{[^}]*\}", fix) else advice(filled(fix))
    source = row.get("source", "")
    facts = [f"*{word(level)}*"] if level else []
    if source and not source.startswith("{"):
        facts.append(f"{word('source')}{colon}{sourced(filled(source))}")
    lines = [
        "".join(map(anchor, also_called(name) + [name] * (name != name.lower()))),
        f"### {name}",
        f"**{word('says')}**{colon}{advice(filled(page.said(row['what'])))}",
        f"**{word('fix')}**{colon}{told}",
        " · ".join(facts),
    ]
    return "\n\n".join(filter(None, lines))


def messages(page: Page) -> Cells:
    "Every sentence of our command that asks for something to be done, with its fix."
    rows = {name: whole(name) for name in table("findings.toml")}
    rows = {name: row for name, row in rows.items() if row.keys() >= {"what", "fix"}}
    yield "intro", page.text("intro")
    for part in ("stopped", "typed", "checked"):
        inside = {name: row for name, row in rows.items() if part_of(row) == part}
        level = "warn" if part == "checked" else ""
        made = [message(page, name, row, row.get("level", level)) for name, row in inside.items()]
        yield part, page.section(part, *made)
    known = table("stacks.toml")["advisory"]
    made = [message(page, f"advisory-{row['id']}", plain(row), "") for row in known]
    yield "advised", page.section("advised", *made)


def plain(row: dict) -> dict:
    "An advisory as a row whose sentences hold no placeholders."
    doubled = str.maketrans({"{": "{{", "}": "}}"})
    told = {
        part: {language: text.translate(doubled) for language, text in row[part].items()}
        for part in ("what", "fix")
    }
    return {**told, "source": row["source"].translate(doubled)}


# ---- versions ----

# What a set is made of, and the columns of the first table.
COLUMNS = ["driver", "cann", "torch", "torch-npu", "triton-ascend", "sglang", "sgl-kernel-npu"]


def pinned(page: Page, pin: Pin | None) -> str:
    "A version and its grade, for a table's cell."
    if not pin:
        return "-"
    disputed = f"{page.word('comma')}{page.word('disputed')}" if pin.against else ""
    return f"{pin.version}<br>{pin.proof}{disputed}"


def versions(page: Page) -> Cells:
    "The table of all sets, then each set with its sources, disputes and advisories."
    sets = {name: each for name, each in stacks().items() if not each.image}
    comma = page.word("comma")
    yield "intro", f"![{page.text('picture')}](pictures/versions.svg)\n\n{page.text('intro')}"
    rows = [
        [
            f"[{name}](#{name})",
            f"{comma.join(each.series) or page.text('no_npu')}<br>{comma.join(each.architectures)}"
            f"<br>Python {comma.join(each.python)}",
            *(pinned(page, each.pins.get(package)) for package in COLUMNS),
        ]
        for name, each in sets.items()
    ]
    head = [page.word("stack"), page.text("fits"), *(called(page, each) for each in COLUMNS)]
    yield "table", page.section("table", as_table(head, rows))
    yield "grades", page.section("grades", grades(page))
    for name, each in sets.items():
        yield f"stack-{name.replace('.', '-')}", one_set(page, each)


def disputes(page: Page, pin: Pin) -> str:
    "Who says otherwise, below the source."
    colon = page.word("colon")
    return f"<br>**{page.word('against')}**{colon}{sourced(pin.against)}" if pin.against else ""


def called(page: Page, package: str) -> str:
    "A part of a set as people write it."
    names = {"cann": "CANN", "sglang": "SGLang", "torch-npu": "torch_npu"}
    return page.word("driver") if package == "driver" else names.get(package, package)


def grades(page: Page) -> str:
    "The six grades and what they mean."
    rows = [
        [f"**{name}**", page.said(said)] for name, said in table("grades.toml")["grades"].items()
    ]
    return as_table([page.word("grade"), page.word("meaning")], rows)


def one_set(page: Page, stack: Stack) -> str:
    "One set of versions: what it is for, each version, images, notes, what is known against it."
    word, colon, comma, known = page.word, page.word("colon"), page.word("comma"), stacks()
    facts = [
        f"- {page.text('fits')}{colon}{comma.join(stack.series) or page.text('no_npu')}"
        f" · {comma.join(stack.architectures)} · Python {comma.join(stack.python)}"
        f" · glibc {stack.glibc}+",
        f"- {page.text('proved')}{colon}{prose(stack.proved)}",
    ]
    if stack.refused:
        facts.append(f"- {page.text('refused')}{colon}{prose(stack.refused)}")
    for series, image in stack.images.items():
        facts.append(f"- {page.text('image')} {series} (`{stack.name}-image`){colon}{code(image)}")
    facts += [f"- {page.text('note')}{colon}{prose(note)}" for note in stack.notes]
    rows = [
        [called(page, package), pin.version, pin.proof, sourced(pin.source) + disputes(page, pin)]
        for package, pin in stack.pins.items()
    ]
    head = [word(each) for each in ("part", "version", "grade", "source")]
    against = [*advisories(stack)]
    image = known.get(f"{stack.name}-image")
    against += [each for each in advisories(image) if each not in against] if image else []
    listed = " · ".join(f"[{each.id}](messages.ipynb#advisory-{each.id})" for each in against)
    return "\n\n".join(
        [
            f"## {stack.name}",
            prose(stack.title) + page.text("stop"),
            "\n".join(facts),
            as_table(head, rows),
            f"{page.text('known')}{colon}{listed or page.text('nothing')}",
        ]
    )


# ---- cards ----


def cards(page: Page) -> Cells:
    "Which chip is which: names, numbers, memory, products, and the sets that are for it."
    yield "intro", page.text("intro")
    pci = {series: number for number, series in table("devices.toml")["pci"].items()}
    head = [page.text(each) for each in ("smi", "series", "pci", "memory", "sets")]
    rows, colon = [], page.word("colon")
    for card in data("pages.toml")["card"]:
        sets = [
            f'<span class="text-nowrap">[{name}](versions.ipynb#{name})</span>'
            for name, each in stacks().items()
            if card["series"] in each.series and not each.refused and not each.image
        ]
        number = pci.get(card["series"], "").removeprefix("0x")
        sold, reports = page.said(card["sold"]), page.said(card["reports"])
        rows.append(
            [
                f"{page.said(card['smi'])}<br>{page.text('chip')}{colon}{page.said(card['chip'])}",
                f"**{card['series']}**",
                f"19e5:{number}" if number else page.text("unknown"),
                f"{sold}<br>{page.text('reports')}{colon}{reports}",
                "<br>".join(sets) or page.text("no_set"),
            ]
        )
    yield "table", page.section("table", as_table(head, rows), page.text("table_source"))
    head = [page.text("series"), page.text("products")]
    rows = [[f"**{each['series']}**", page.said(each["names"])] for each in page.own["product"]]
    yield "products", page.section("products", as_table(head, rows), page.text("products_source"))
    for part in ("driverless", "driver", "board", "name", "pitfalls"):
        yield part, page.section(part)


# ---- glossary ----


def glossary(page: Page) -> Cells:
    "The terms in groups, each in English and Chinese, with what it means."
    known = data("glossary.toml")
    yield "intro", page.text("intro")
    for group, title in known["groups"].items():
        rows = []
        for term in known["term"]:
            if term["group"] != group:
                continue
            names = [prose(term["name"][each]) for each in ("en", "zh")]
            names = names if page.language == "en" else names[::-1]
            name = f"{anchor(term['id'])}**{names[0]}**"
            name += f"<br>{names[1]}" if names[1] != names[0] else ""
            rows.append([name, page.said(term["about"])])
        head = [page.text("term"), page.word("meaning")]
        yield group, f"## {page.said(title)}\n\n{as_table(head, rows)}"


# ---- cheat sheet ----


def commands(group, before: str = "") -> Iterator[tuple]:
    "Every command of ours, click's, with its name, in the order of `--help`."
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{before}{name} ")
        else:
            yield before + name, each


def usage(name: str, command) -> str:
    "A command's line: what goes by its place, in capitals."
    words = []
    for each in command.params:
        if each.param_type_name == "argument":
            word = (each.name or "").upper()
            words.append(word if each.required else f"[{word}]")
    return code(" ".join(["qwen-npu", name, *words]))


def cheatsheet(page: Page) -> Cells:
    "Commands, options, variables, exit codes, folders, ports."
    yield "intro", page.text("intro")
    rows, options, helps = [], {}, table("commands.toml")
    for name, command in commands(get_command(app)):
        told = page.said(helps[f"qwen-npu {name}"]["help"])
        given = [each for each in command.params if each.param_type_name == "option"]
        flags = [code("/".join([each.opts[0], *each.secondary_opts])) for each in given]
        rows.append([usage(name, command), f"{prose(told)}<br>{' '.join(flags)}"])
        for each in given:
            key = (*each.opts, *each.secondary_opts), each.help
            options.setdefault(key, []).append(name)
    head = [page.text(each) for each in ("command", "does")]
    yield "commands", page.section("commands", as_table(head, rows))
    help_of = {row["help"][each]: row["help"] for row in helps.values() for each in row["help"]}
    comma = page.word("comma")
    rows = [
        [" ".join(map(code, flags)), prose(page.said(help_of[told])), comma.join(names)]
        for (flags, told), names in options.items()
    ]
    head = [page.text(each) for each in ("option", "does", "of")]
    yield "all_options", page.section("all_options", as_table(head, rows))
    own = data("pages.toml")
    rows = []
    for each in fields(Settings):
        default = code(str(each.default)) if each.default is not None else page.text("unset")
        told = prose(page.said(own["setting"][each.name]))
        default = f"{page.text('default')}{page.word('colon')}{default}"
        rows.append([code(f"QWEN_NPU_{each.name.upper()}"), f"{told}<br>{default}"])
    head = [page.text(each) for each in ("variable", "means")]
    yield "settings", page.section("settings", as_table(head, rows))
    for name, first in (
        ("variables", "variable"),
        ("exits", "exit"),
        ("folders", "folder"),
        ("ports", "port"),
    ):
        rows = [[code(each["name"]), page.said(each["about"])] for each in own[first]]
        yield name, page.section(name, as_table([page.text(first), page.text("means")], rows))


# ---- what was run where ----


def graded(page: Page, row: dict) -> tuple[str, str, str]:
    "A row of grades.toml: what it is, its grades, and for each what was run, by what."
    found = {name: row[name] for name in table("grades.toml")["grades"] if name in row}
    colon, stop = page.word("colon"), page.text("stop")
    told = [
        f"**{name}**{colon}{page.said(each)}{stop}{' '.join(map(code, each['by']))}"
        for name, each in found.items()
    ]
    return page.said(row["what"]), page.word("comma").join(found), "<br>".join(told)


def proved(page: Page) -> Cells:
    "What was run where: grades, each step with its proofs, the emulated NPU and what it found."
    known = table("grades.toml")
    rows = [graded(page, row) for row in [*known["step"], *known["beside"]]]
    yield "intro", f"{page.text('intro')}\n\n{grades(page)}"
    head = [page.text(each) for each in ("step", "step_grades", "step_proofs")]
    short = as_table(head[:2], (row[:2] for row in rows))
    long = as_table(head[::2], (row[::2] for row in rows))
    yield "walk", page.section("walk", short, long, page.text("walk_run"))
    for part in ("stand_ins", "emulation", "reveals", "record"):
        yield part, page.section(part)


# ---- notebooks ----

PAGES: dict[str, Callable[[Page], Cells]] = {
    "troubleshooting": troubleshooting,
    "messages": messages,
    "versions": versions,
    "cards": cards,
    "glossary": glossary,
    "cheatsheet": cheatsheet,
    "proved": proved,
}
LANGUAGES = {"en": BOOK, "zh": CHINESE}  # and where a language's pages lie


@contextmanager
def speaking(language: str) -> Iterator[None]:
    "What the package says, such as the title of a stack, comes in this language."
    before = os.environ.get("QWEN_NPU_LANG")
    os.environ["QWEN_NPU_LANG"] = language
    try:
        yield
    finally:
        os.environ.pop("QWEN_NPU_LANG")
        os.environ.update({} if before is None else {"QWEN_NPU_LANG": before})


def notebook(name: str, language: str = "en") -> dict:
    "A page as a notebook of Markdown cells, as nbdev_clean would leave it."
    page = Page(name, language)
    with speaking(language):
        made = [
            ("title", f"# {page.text('title')}\n\n> {page.text('promise', **counted())}"),
            *PAGES[name](page),
        ]
    if language == "zh":
        names = chinese_pages() | {f"{each}.ipynb" for each in PAGES}
        made = [(id, led(text, names)) for id, text in made]
    front = f"---\n{FRONT}{FRONT_OF[language]}---"
    cells = [{"cell_type": "raw", "id": "made", "metadata": {}, "source": front}]
    cells += [
        {"cell_type": "markdown", "id": id, "metadata": {}, "source": text} for id, text in made
    ]
    for cell in cells:
        cell["source"] = cell["source"].splitlines(keepends=True)
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


# The first line is for whoever opens the notebook; the others are the site's.
FRONT = """# Made by tools/pages.py: edit the data, not this page.
toc-depth: 2
code-copy: false
"""
FRONT_OF = {"en": "", "zh": "lang: zh\nskip_exec: true\n"}


def counted() -> dict[str, int]:
    "What a page's one line may count."
    known = table("failures.toml")
    return {
        "rows": len(known["failure"]),
        "forms": len(known["form"]),
        "terms": len(data("glossary.toml")["term"]),
        "sets": sum(not each.image for each in stacks().values()),
    }


def made() -> dict[Path, str]:
    "Every page's file and text."
    return {
        folder / f"{name}.ipynb": as_file(notebook(name, language))
        for language, folder in LANGUAGES.items()
        for name in PAGES
    }


def main() -> int:  # exit code
    "Write the pages, or say which is out of date."
    return run(__doc__, "tools/pages.py", made)


if __name__ == "__main__":
    sys.exit(main())
