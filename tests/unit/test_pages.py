"""The made pages: what they tell is the package's data, whole, readable, and where links lead."""

import json
import re
from collections import Counter
from dataclasses import fields

import pages
import pytest
from machines import SHIPPED
from markdown_it import MarkdownIt
from nbdev.config import get_config

from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut import _modidx
from qwen_npu_tut.base.events import Problem, problem, table
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.engine.advisories import every_advisory
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.faces import cli

LANGUAGES = ("en", "zh")
FAILURES = table("failures.toml")
FINDINGS = {name: pages.whole(name) for name in table("findings.toml")}
PROBLEMS = {name: row for name, row in FINDINGS.items() if row.keys() >= {"what", "fix"}}
WORDS = pages.data("pages.toml")
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HAN = re.compile("[\u4e00-\u9fff]")

each_page = pytest.mark.parametrize("name", pages.PAGES)
each_language = pytest.mark.parametrize("language", LANGUAGES)


def text_of(name: str, language: str = "en") -> str:
    "All the Markdown of a page."
    cells = pages.notebook(name, language)["cells"]
    return "\n\n".join("".join(each["source"]) for each in cells if each["cell_type"] != "raw")


TEXTS = {
    (name, language): text_of(name, language) for name in pages.PAGES for language in LANGUAGES
}


def slug(title: str) -> str:
    "The name that the site gives a heading: letters, digits, _ - and . of its text."
    return re.sub(r"[^\w.-]", "", title.lower().replace(" ", "-"))


def anchors(text: str) -> Counter:
    "Where a link into a page may lead."
    headings = re.findall(r"^#{2,3} (.*)$", outside_of_code(text), re.M)
    return Counter([*map(slug, headings), *re.findall(r'<a id="([^"]+)"></a>', text)])


def outside_of_code(text: str) -> str:
    "A page without its blocks of code."
    return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.M | re.S)


def rendered(text: str) -> str:
    "What a reader sees of a sentence in Markdown."
    (line,) = [each for each in MARKDOWN.parse(text) if each.type == "inline"]
    return "".join(each.content for each in line.children if each.type in ("text", "code_inline"))


# ---- made of the data, and nothing else ----


@each_page
@each_language
def test_a_page_is_what_would_be_made(name, language):
    written = (pages.LANGUAGES[language] / f"{name}.ipynb").read_text(encoding="utf8")
    assert json.loads(written) == pages.notebook(name, language), "run: python tools/pages.py"


@each_page
@each_language
def test_a_page_says_that_it_is_made_and_has_fixed_cells(name, language):
    cells = pages.notebook(name, language)["cells"]
    assert ("skip_exec: true\n" in cells[0]["source"]) is (language == "zh")
    assert "Made by tools/pages.py" in cells[0]["source"][1] and cells[0]["cell_type"] == "raw"
    assert {each["cell_type"] for each in cells[1:]} == {"markdown"}
    ids = [each["id"] for each in cells]
    assert len({*ids}) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", each) for each in ids)


@each_page
@each_language
def test_each_place_has_one_name(name, language):
    twice = [place for place, count in anchors(TEXTS[name, language]).items() if count > 1]
    assert not twice


@each_page
@each_language
def test_links_between_made_pages_lead_somewhere(name, language):
    text = TEXTS[name, language]
    links = re.findall(r"\]\(((?!https?:)[^)\s]*)\)", outside_of_code(text))
    for page, _, place in (link.partition("#") for link in links):
        stem = page.removesuffix(".ipynb") or name
        if place and (stem, language) in TEXTS:
            assert anchors(TEXTS[stem, language])[place], (page, place)
        elif page:
            assert (pages.LANGUAGES[language] / page).is_file(), page


@each_page
def test_what_is_linked_in_english_is_there_in_chinese(name):
    "Under the same names, so that a link between pages holds in both languages."
    headings = map(slug, re.findall(r"^## (.*)$", outside_of_code(TEXTS[name, "en"]), re.M))
    if name != "glossary":  # its groups have no names; nothing leads there
        assert {*headings} <= {*anchors(TEXTS[name, "zh"])}


def test_a_chinese_page_leads_to_chinese_pages_and_pictures():
    text = TEXTS["versions", "zh"]
    assert "](../pictures/versions.zh.svg)" in text and "](messages.ipynb#" in text
    assert "](../rehearsal/emulated/switch.ipynb)" in TEXTS["proved", "zh"]
    texts = [TEXTS[name, "zh"] for name in pages.PAGES]
    assert not re.search(r"\]\(\.\./\w+\.ipynb", "".join(texts)), "every page of the book has one"


# ---- readable ----


@each_page
@each_language
def test_tables_are_whole(name, language):
    "Each row has the cells of its head, and no line of a table is left over as text."
    for cell in pages.notebook(name, language)["cells"][1:]:
        tokens = MARKDOWN.parse("".join(cell["source"]))
        width = 0
        for token in tokens:
            assert not (token.type == "inline" and re.match(r"\s*\|", token.content)), token.content
        for row in re.split("(?=<tr>)", MARKDOWN.render("".join(cell["source"])))[1:]:
            heads, cells = row.count("<th"), row.count("<td")
            width = heads or width
            assert (heads or cells) == width, row
            assert heads or "<td></td>" != row[row.find("<td") :][:9], row


SENTENCES = {
    f"{row['id']} {part} {language}": pages.filled(row[part][language])
    for row in (*FAILURES["failure"], *FAILURES["form"])
    for part in ("cause", "fix")
    for language in LANGUAGES
}


def test_a_sentence_reads_as_it_was_written():
    "Nothing in a cause or a fix is taken for Markdown, and nothing is lost."
    for place, text in SENTENCES.items():
        told = "".join(text.split("`")).split()
        assert rendered(pages.prose(text)).split() == told, place


def test_a_message_reads_as_it_was_written():
    "Nothing is lost; a line's end behind a Chinese mark becomes no blank."
    for name, row in PROBLEMS.items():
        for part in ("what", "fix"):
            for text in map(pages.filled, filter(None, row[part].values())):
                told = re.sub(r"(?<=[，。：；？！、）])\s+", "", "".join(text.split("`"))).split()
                assert rendered(pages.advice(text)).split() == told, (name, part)


@pytest.mark.parametrize(
    "text, seen",
    [
        ("a|b", "`a|b`"),
        ("take --stack cpu.", "take `--stack` cpu."),
        ("<think>, and [x]", "`<think>`, and `[x]`"),
        ("see `npu-smi info`: two", "see `npu-smi info`: two"),
        ("设置MODEL_NAME，", "设置`MODEL_NAME`，"),
        ("(see owner/name#12)", "(see [owner/name#12](https://github.com/owner/name/issues/12))"),
        ("at https://x.org/a_b.", "at <https://x.org/a_b>."),
        ("a `` ` `` b", None),
    ],
)
def test_prose(text, seen):
    if seen is None:
        assert pages.code("a`b") == "``a`b``" and pages.code("`") == "`` ` ``"
    else:
        assert pages.prose(text) == seen


@pytest.mark.parametrize(
    "text, seen",
    [
        ("{library}{package2}: no", "LIBRARY / PACKAGE: no"),
        ("`ls {file}{file2}`", "`ls FILE`"),
        ("{stack.pins[cann].version} {machine.python:or unknown}", "CANN-VERSION PYTHON"),
        ("{name!r} {cause}Its", "NAME CAUSE Its"),
        ("{{a}}", "{a}"),
    ],
)
def test_placeholders_are_words_in_capitals(text, seen):
    assert pages.filled(text) == seen


@each_language
def test_no_placeholder_is_left(language):
    for name in ("troubleshooting", "messages"):
        told = re.sub(r"`[^`\n]*`", "", outside_of_code(TEXTS[name, language]))
        assert not re.findall(r"\{[a-z][\w.\[\]]*(?:![rs])?(?::[^}]*)?\}", told)


# ---- troubleshooting ----


@each_language
def test_each_failure_has_its_place(language):
    places = anchors(TEXTS["troubleshooting", language])
    for row in (*FAILURES["failure"], *FAILURES["form"]):
        assert places[row["id"]] == 1, row["id"]
    assert places["codes"] == 1


def test_each_failure_is_told_whole():
    text = TEXTS["troubleshooting", "en"]
    parts = dict(
        (each.partition("\n")[0], each) for each in re.split(r"^### ", text, flags=re.M)[1:]
    )
    for row in FAILURES["failure"]:
        told = parts[row["id"]]
        for each in row["text"]:
            assert pages.code(pages.impersonal(each.strip())) in told, row["id"]
        assert pages.sourced(row["source"]) in told and pages.impersonal(row["example"]) in told
        grade = {"confirmed": "stated"}.get(row["proof"], row["proof"])
        assert grade in table("grades.toml")["grades"] and f"*{grade}*" in told


def test_groups_hold_every_row_once():
    groups = {each["id"]: 0 for each in WORDS["group"]}
    for kind in ("failure", "form"):
        for row in FAILURES[kind]:
            group = pages.group_of(row, kind == "form")
            assert group in groups, f"no group of tools/pages.toml takes {row['id']}"
            groups[group] += 1
    assert all(groups.values()), groups
    assert sorted(each["place"] for each in WORDS["group"]) == [*range(1, len(groups) + 1)]


@pytest.mark.parametrize(
    "row, group",
    [
        ("cann-environment-not-set", "environment"),
        ("dcmi-init-failed", "device"),
        ("resolver-refused", "packages"),
        ("submodules-missing", "build"),
        ("weights-damaged", "download"),
        ("certificate-refused", "network"),
        ("docker-no-rights", "containers"),
        ("port-taken", "start"),
        ("core-timed-out", "operators"),
        ("hccl-socket-timeout", "several"),
        ("npu-out-of-memory", "memory"),
        ("reply-cut-at-max-tokens", "requests"),
        ("deprecation-notes", "noise"),
    ],
)
def test_groups_are_the_ones_a_reader_looks_in(row, group):
    (found,) = [each for each in FAILURES["failure"] if each["id"] == row]
    assert pages.group_of(found, form=False) == group


@each_language
def test_every_code_is_told(language):
    assert WORDS["codes"].keys() == FAILURES["codes"].keys()
    text = TEXTS["troubleshooting", language].rpartition("\n## ")[2]
    for kind in FAILURES["codes"].values():
        for value, meaning in kind.items():
            cells = meaning[language].replace("|", "\\|")
            assert f"| {value} | {cells} |" in text, value


# ---- what our command says, and where it leads ----


@each_language
def test_each_message_has_its_place(language):
    places = anchors(TEXTS["messages", language])
    assert not [name for name in PROBLEMS if places[name] != 1]
    assert not [each.id for each in every_advisory() if not places[f"advisory-{each.id}"]]


def led_to(line: str) -> tuple[str, str]:
    "Page and place that a line ends with: an address, or a notebook while nobody owns a site."
    site = f"{get_config(path=pages.ROOT).doc_host}{get_config(path=pages.ROOT).doc_baseurl}/"
    page = r"nbs/(\S+)\.ipynb, entry (\S+) \(make docs shows it as a page\)"
    found = re.fullmatch(rf"More: (?:{re.escape(site)}(\S+)\.html#(\S+)|{page})", line)
    assert found and bool(found[1]) is (".invalid/" not in site), line
    return found[1] or found[3], found[2] or found[4]


def test_where_there_is_a_site_its_address_is_printed(monkeypatch):
    site = {"doc_host": "https://docs.example.org", "doc_baseurl": "/guide"}
    monkeypatch.setitem(_modidx.d, "settings", site)
    expected = ["More: https://docs.example.org/guide/messages.html#usage"]
    assert cli._see("messages", "usage") == expected


def test_a_chinese_line_leads_to_the_chinese_page(monkeypatch):
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    (line,) = cli._see("messages", "usage")
    assert (
        "nbs/zh/messages.ipynb 中的条目 usage" in line and anchors(TEXTS["messages", "zh"])["usage"]
    )
    site = {"doc_host": "https://docs.example.org", "doc_baseurl": "/guide"}
    monkeypatch.setitem(_modidx.d, "settings", site)
    expected = ["更多说明：https://docs.example.org/guide/zh/messages.html#usage"]
    assert cli._see("messages", "usage") == expected


@pytest.mark.parametrize("name", sorted({*PROBLEMS} - {"interrupted"}))
def test_a_problem_leads_to_its_entry(name):
    values = {each: "x" for part in ("what", "fix") for each in fields_in(PROBLEMS[name][part])}
    try:
        made = problem(name, **values)
    except (KeyError, AttributeError, ValueError, TypeError, IndexError):
        made = Problem("", "", row=name)  # its sentence takes more than a word
    (line,) = cli._see("messages", made.row)
    page, place = led_to(line)
    assert made.row == name and anchors(TEXTS[page, "en"])[place]


def fields_in(text: dict) -> set[str]:
    "The values that a sentence wants."
    return {re.split(r"\W", each)[0] for each in re.findall(r"\{([^}]+)\}", text["en"])}


def test_a_wrong_line_ends_with_its_address(run):
    code, out, err = run("no-such-command")
    assert (code, out) == (2, "") and len(err.splitlines()) == 3
    assert led_to(err.splitlines()[-1]) == ("messages", "usage")


def test_what_goes_well_has_no_address(run):
    for words in (("--help",), ("stack", "list"), ("stack", "show", "cpu")):
        code, out, err = run(*words)
        assert code == 0 and "More: " not in out + err


def test_json_has_no_address(run):
    _, out, err = run("stack", "show", "nothing", "--json")
    assert json.loads(out)["error"].keys() == {"what", "fix"} and err == ""


def test_ctrl_c_has_no_address(run, monkeypatch):
    monkeypatch.setattr(cli, "app", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
    code, out, err = run("status")
    assert code == 130 and len(err.splitlines()) == 2 and "http" not in out + err


@pytest.mark.parametrize("record", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_check_leads_to_its_worst_finding(run, record):
    _, out, _ = run("check", "--machine", str(record), "--json")
    found = json.loads(out)["findings"]
    _, out, _ = run("check", "--machine", str(record))
    page, place = led_to(out.splitlines()[-1])
    assert anchors(TEXTS[page, "en"])[place]
    trouble = [each for each in found if each["level"] != "ok"]
    blocked = [each for each in trouble if each["level"] == "block"]
    assert place == (blocked or trouble)[0]["id"]


def test_every_name_of_a_finding_is_a_place():
    "Whatever `check` may name: first arguments of what makes findings, in any module."
    pattern = re.compile(r'(?:\bsee|\bjudged|\bFinding)\((?:machine, stack, )?f?"([^"]+)"')
    sources = [path.read_text(encoding="utf8") for path in sorted(cli_root().rglob("*.py"))]
    names = {name for text in sources for name in pattern.findall(text)}
    disputed = {
        f"disputed-{package}"
        for each in stacks().values()
        for package, pin in each.pins.items()
        if pin.against
    }
    places = anchors(TEXTS["messages", "en"])
    fixed = {
        name for name in names if "{" not in name and (name not in FINDINGS or name in PROBLEMS)
    }
    fixed -= {"advisories"}  # it is never trouble
    assert len(fixed) > 15 and {name for name in names if "{" in name} == {
        "advisory-{each.id}",
        "disputed-{name}",
    }
    assert not [name for name in fixed | disputed | {"torch", "torch_npu"} if not places[name]]


def cli_root():
    "The package's folder."
    return pages.ROOT / "qwen_npu_tut"


@pytest.mark.parametrize(
    "line, place",
    [
        ("ImportError: libhccl.so: cannot open shared object file", "cann-environment-not-set"),
        ("ModuleNotFoundError: No module named 'quite_unknown'", "module-missing"),
        ("some call failed, error code is 507015: [EZ9999]", ""),
    ],
)
def test_diagnose_leads_to_the_first_cause(run, tmp_path, line, place):
    log = tmp_path / "a.log"
    log.write_text(f"{line}\n")
    with open(log, "rb") as file:
        first = diagnose(file)[0]
    code, out, _ = run("diagnose", str(log))
    page, told = led_to(out.splitlines()[-1])
    assert (code, page) == (0, "troubleshooting") and anchors(TEXTS[page, "en"])[told]
    assert told == (place or ("codes" if first.by == "code" else first.id))


def test_nothing_found_leads_to_our_own_page(run, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("all is well\n")
    code, _, err = run("diagnose", str(log))
    assert code == 1 and led_to(err.splitlines()[-1]) == ("messages", "no-cause-found")


# ---- the other pages ----


@each_language
def test_each_stack_is_on_the_page_of_versions(language, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_LANG", language)
    text = TEXTS["versions", language]
    for name, each in stacks().items():
        assert (f"(`{name}`)" if each.image else f"\n## {name}\n") in text, name
        for pin in () if each.image else each.pins.values():
            assert f"| {pin.version} | {pin.proof} | {pages.sourced(pin.source)}" in text
            assert pages.sourced(pin.against) in text
        assert pages.prose(each.title) in text or each.image
        assert all(pages.prose(one) in text for one in (each.refused, *each.notes))


@each_language
def test_each_series_is_on_the_page_of_cards(language):
    text, known = TEXTS["cards", language], table("devices.toml")
    told = {each["series"] for each in WORDS["card"]}
    assert (
        told
        == {*known["series"].values()}
        == {each["series"] for each in WORDS["cards"]["product"]}
    )
    for number, series in known["pci"].items():
        assert f"| **{series}** | 19e5:{number.removeprefix('0x')} |" in text
    for chip in known["chips"].values():
        assert f"{chip['total_mib']:,} MiB" in text


@pytest.mark.parametrize("card", WORDS["card"], ids=lambda card: card["example"])
def test_a_cards_name_tells_its_series(card):
    known = table("devices.toml")["series"]
    series = next(each for form, each in known.items() if re.match(form, card["example"]))
    assert series == card["series"]
    assert any(card["example"][:3].lstrip("Ad") in card[part]["en"] for part in ("smi", "chip"))


@each_language
def test_each_command_is_on_the_cheat_sheet(language):
    text = TEXTS["cheatsheet", language]
    names = [name for name, _ in pages.commands(pages.get_command(cli.app))]
    assert len(names) > 15
    for name in names:
        assert re.search(rf"^\| `qwen-npu {name}[` ]", text, re.M), name
    for row in table("commands.toml").values():
        for flag in row.get("flags", ()):
            assert all(f"`{each}`" in text for each in flag.split("/")), flag
    settings = [each.name for each in fields(Settings)]
    assert list(WORDS["setting"]) == settings
    assert all(f"`QWEN_NPU_{name.upper()}`" in text for name in settings)


def test_variables_and_folders_are_the_packages_own():
    source = "".join(path.read_text(encoding="utf8") for path in cli_root().rglob("*.py"))
    for each in WORDS["folder"]:
        assert f'"{each["name"].partition("/")[0]}"' in source, each
    data = "".join(path.read_text(encoding="utf8") for path in cli_root().rglob("*.toml"))
    for each in WORDS["variable"]:
        assert each["name"] in source + data, each


# ---- in Chinese ----


def texts_in(value) -> list[dict]:
    "Every text of a table that has an English and a Chinese part."
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    if not isinstance(value, dict):
        return []
    if "en" in value:
        return [value]
    return [text for each in value.values() for text in texts_in(each)]


FRAMES = texts_in(WORDS) + texts_in(pages.data("glossary.toml"))


def test_every_frame_has_its_chinese():
    for text in FRAMES:
        assert text.keys() == {"en", "zh"} and text["zh"].strip(), text
        words = re.sub(r"`[^`]*`|\*", "", text["en"])
        if len(re.findall(r"[a-z]{3,}", words)) > 3:
            assert HAN.search(text["zh"]) or "、" in text["zh"], (
                text
            )  # names alone have their comma


def test_chinese_has_its_blanks():
    "A blank between Chinese and Latin letters, none between Chinese ones, no hard line break."
    for text in FRAMES:
        told = re.sub(r"```.*?```", "", text["zh"], flags=re.S)
        assert not re.search(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", told), told
        assert not re.search(r"[\u4e00-\u9fff] +[\u4e00-\u9fff]", told), told
        assert not re.search(r"[\u4e00-\u9fff]\n[^\n|#-]", told), told


def test_chinese_pages_lack_no_sentence_that_the_data_has():
    text = TEXTS["troubleshooting", "zh"]
    for row in (*FAILURES["failure"], *FAILURES["form"]):
        for part in ("cause", "fix"):
            assert pages.prose(pages.filled(row[part]["zh"])) in text, row["id"]
    text = TEXTS["messages", "zh"]
    for name, row in PROBLEMS.items():
        for part in ("what", "fix"):
            told = row[part]["zh"] or row[part]["en"]
            if not re.fullmatch(r"\{[^}]*\}", told):
                assert pages.advice(pages.filled(told)) in text, name


def test_chinese_pages_have_no_english_frame():
    told = "\n".join(TEXTS[name, "zh"] for name in pages.PAGES)
    for text in FRAMES:
        words = re.findall(r"[A-Za-z]{2,}", re.sub(r"`[^`]*`", "", text["en"]))
        if text["en"] != text["zh"] and len(words) > 5:
            assert text["en"].strip() not in told, text["en"]
