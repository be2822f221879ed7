"""The Chinese edition: made of one code and two texts, and whoever falls behind is named.

What the tool does is shown on made-up books; the last tests hold the book itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbdev.test
import pages
import pytest
import translate
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = {
    "title001": "# Serve\n\n> One call starts SGLang.",
    "words001": "## In one command\n\n`qwen-npu serve` with 16,384 tokens [more](06_call.ipynb#a).",
    "words002": "![A picture](pictures/tokens.svg)\n\n```sh\nmake up   # all\n```\n\n### Why",
}
CHINESE = {
    "title001": "# 启动服务\n\n> 一次调用启动 SGLang。",
    "words001": "## 一条命令\n\n用 16384 个 token 运行 `qwen-npu serve`：[更多](06_call.ipynb#a)。",
    "words002": "![一张图](pictures/tokens.svg)\n\n```sh\nmake up   # 全部\n```\n\n### 为什么",
}
CODE = {
    "code0001": "#| export\ndef f():\n    return 1",
    "code0002": "#| default_exp x",
    "code0003": "#| lanes\nf()",
}
SHOWN = '<div class="terminal">\n\n```text\n{}\n```\n\n</div>'
OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}


class Book:
    "A page and its Chinese text in a folder of their own."

    def __init__(self, root: Path):
        self.root, self.english = root, dict(ENGLISH)
        self.text = root / "nbs/zh/_05_serve.md"
        self.notebook = root / "nbs/zh/05_serve.ipynb"
        (root / "nbs/zh").mkdir(parents=True)
        (root / "nbs/pictures").mkdir()
        (root / "nbs/pictures/tokens.zh.svg").write_text("<svg/>")
        (root / "tools").mkdir()
        shutil.copy(ROOT / "tools/glossary.toml", root / "tools")
        self.write()

    def write(self):
        "The English page, as it is now."
        cells = [{"cell_type": "markdown", "id": id, "source": s} for id, s in self.english.items()]
        for id, source in CODE.items():
            outputs = [OUTPUT] if id == "code0003" else []
            cells.append(
                dict(cell_type="code", id=id, source=source, outputs=outputs, execution_count=None)
            )
        for cell in cells:
            cell |= {"metadata": {}, "source": cell["source"].splitlines(keepends=True)}
        page = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (self.root / "nbs/05_serve.ipynb").write_text(json.dumps(page), encoding="utf8")

    def change(self, **cells: str | None):
        "Give English cells other words; None takes one out."
        self.english |= cells
        self.english = {id: words for id, words in self.english.items() if words is not None}
        self.write()

    def translated(self) -> str:
        "The text with all blocks filled, which is written too."
        blocks = [
            str(translate.Block(id, translate.digest(self.english[id]), CHINESE[id]))
            for id in self.english
        ]
        self.text.write_text("\n".join(blocks), encoding="utf8")
        return self.text.read_text(encoding="utf8")

    def cells(self) -> dict[str, str]:
        "The made notebook's cells."
        page = json.loads(self.notebook.read_text(encoding="utf8"))
        return {each["id"]: "".join(each["source"]) for each in page["cells"]}

    def files(self) -> dict[str, str]:
        return {
            path.name: path.read_text(encoding="utf8", errors="replace")
            for path in sorted((self.root / "nbs/zh").iterdir())
        }


@pytest.fixture
def book(tmp_path, monkeypatch):
    "A whole book, translated and made."
    for name, folder in {"ROOT": "", "BOOK": "nbs", "CHINESE": "nbs/zh"}.items():
        monkeypatch.setattr(translate, name, tmp_path / folder)
    made = Book(tmp_path)
    made.translated()
    return made


@pytest.fixture
def tool(monkeypatch, capsys):
    "A function that runs tools/translate.py: its exit code and what it printed."

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["translate.py", *words])
        try:
            code = translate.main()
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_whole_page_is_made_and_stays(book, tool):
    text = book.translated()
    assert tool() == (0, "", "")
    assert book.text.read_text(encoding="utf8") == text
    assert tool("--check") == (0, "", "")
    cells = book.cells()
    assert "lang: zh\nskip_exec: true" in cells["made"] and "nbs/zh/_05_serve.md" in cells["made"]
    assert cells["title001"] == CHINESE["title001"]


def test_code_and_outputs_are_those_of_the_english_page(book, tool):
    "Nothing is exported: nbdev would write the module twice."
    tool()
    cells = json.loads(book.notebook.read_text(encoding="utf8"))["cells"]
    code = {each["id"]: each for each in cells if each["cell_type"] == "code"}
    assert "".join(code["code0001"]["source"]) == "def f():\n    return 1"
    assert "".join(code["code0003"]["source"]) == CODE["code0003"] and "code0002" not in code
    assert code["code0003"]["outputs"] == [OUTPUT]


def test_links_and_headings(book, tool):
    "To the Chinese page and picture where there is one; English places hold in Chinese."
    (book.root / "nbs/zh/_06_call.md").write_text("", encoding="utf8")
    shutil.copy(book.root / "nbs/05_serve.ipynb", book.root / "nbs/06_call.ipynb")
    tool()
    cells = book.cells()
    assert "](06_call.ipynb#a)" in cells["words001"]
    assert "](../pictures/tokens.zh.svg)" in cells["words002"]
    assert '<a id="in-one-command"></a>\n\n## 一条命令' in cells["words001"]
    names = {"05_serve.ipynb"}
    assert translate.led("[a](host/x.ipynb#b) [c](#d) [e](05_serve.ipynb)", names) == (
        "[a](../host/x.ipynb#b) [c](#d) [e](05_serve.ipynb)"
    )
    assert translate.led("[a](https://x.org/y) `[z](q.ipynb)`", names).startswith("[a](https:")
    assert translate.led("```\n[a](x.ipynb)\n```", names) == "```\n[a](x.ipynb)\n```"
    assert translate.anchored("## SGLang", "## SGLang") == "## SGLang", "it has its place already"


def test_a_new_cell_stands_in_english(book, tool):
    book.change(words003="A sentence with [a link](host/machine.ipynb).")
    code, out, err = tool("--check")
    assert (
        code == 1
        and out == "new      05_serve words003 A sentence with [a link](host/machine.ipynb).\n"
    )
    assert "05_serve.ipynb is out of date: python tools/translate.py" in err
    assert tool()[0] == 0, "it is written, and may be committed: a test says what is left"
    assert book.cells()["words003"] == "A sentence with [a link](../host/machine.ipynb)."
    empty = f"<!-- cell words003 {translate.digest(book.english['words003'])} -->\n"
    assert book.text.read_text(encoding="utf8").endswith(f"\n\n{empty}")
    assert tool("--check") == (0, out, "")


def test_a_changed_cell_has_a_note_until_it_is_accepted(book, tool):
    book.change(words001=ENGLISH["words001"].replace("with", "has"))
    code, out, _ = tool()
    assert code == 0 and out.startswith("changed  05_serve words001 ## In one command")
    assert book.cells()["words001"].startswith(f"{translate.CHANGED}\n\n<a id=")
    before = book.text.read_text(encoding="utf8")
    assert tool("--accept", "words001") == (0, "", "")
    assert translate.CHANGED not in book.cells()["words001"]
    after = book.text.read_text(encoding="utf8")
    assert [a == b for a, b in zip(before.splitlines(), after.splitlines())].count(False) == 1
    assert tool("--accept", "words001", "--check")[0] == 2


def test_a_changed_title_keeps_its_form(book, tool):
    "nbdev drops from a title cell what is neither the title nor its one line."
    book.change(title001="# Serve it\n\n> One call.")
    tool()
    lines = book.cells()["title001"].splitlines()
    assert lines[0] == "# 启动服务" and lines[-1].startswith("> ") and len(lines) == 3
    assert lines[-1].endswith(translate.CHANGED)


def test_blanks_at_line_ends_are_no_change(book, tool):
    book.change(words001=ENGLISH["words001"].replace("\n\n", "  \n\n") + "\n\n")
    assert tool() == (0, "", "")


def test_a_gone_block_is_kept_and_comes_back(book, tool):
    book.change(words001=None)
    code, out, _ = tool()
    assert code == 0 and out.startswith("gone     05_serve words001 ## 一条命令")
    text = book.text.read_text(encoding="utf8")
    kept = (
        f"<!-- gone words001 {translate.digest(ENGLISH['words001'])} -->\n{CHINESE['words001']}\n"
    )
    assert text.endswith(kept) and "words001" not in book.cells()
    assert tool("--check")[0] == 0, "kept once, it stays where it is"
    book.change(words001=ENGLISH["words001"])
    assert tool() == (0, "", "")
    assert "<!-- gone" not in book.text.read_text(encoding="utf8")
    assert "一条命令" in book.cells()["words001"]


def test_a_gone_block_without_words_leaves_nothing(book, tool):
    with book.text.open("a", encoding="utf8") as file:
        file.write("\n<!-- cell nothing1 00000000 -->\n")
    assert tool() == (0, "", "") and "nothing1" not in book.text.read_text(encoding="utf8")


KEY = "<!-- cell words001 "


@pytest.mark.parametrize(
    "change, line, said",
    [
        (lambda t: t.replace(KEY, "<!-- cell words001"), 6, "is no key: <!-- cell ID 8-DIGITS -->"),
        (lambda t: t.replace(KEY, "<!-- cel words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "<!-- ｃｅｌｌ words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "＜!-- cell words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "<!--\tcell\twords001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "单元格 words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "<!- cell words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "<!-- CELL words001 "), 6, "is no key"),
        (lambda t: t.replace(KEY, "<!-- cell words001 1"), 6, "is no key"),
        (
            lambda t: t.replace(KEY, "<!-- cell title001 "),
            6,
            "the cell title001 has a block already",
        ),
        (lambda t: "Words\n" + t, 1, "'Words' is no key"),
    ],
)
def test_a_broken_key_is_named_with_its_line_and_nothing_is_written(book, tool, change, line, said):
    book.text.write_text(change(book.translated()), encoding="utf8")
    before = book.files()
    code, out, err = tool()
    assert (code, out) == (1, "") and said in err and len(err.splitlines()) == 1
    assert err.startswith(f"nbs/zh/_05_serve.md:{line}: ") and "Traceback" not in err
    assert book.files() == before


def test_an_editor_s_mark_and_line_ends_change_nothing(book, tool):
    "Windows' editors write a byte order mark, and CR LF."
    text = book.translated()
    book.text.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert tool() == (0, "", "")
    assert book.cells()["title001"] == CHINESE["title001"]


def test_what_cannot_be_read_is_said(book, tool):
    book.text.write_bytes("\n# 启动服务".encode("gbk"))
    code, out, err = tool()
    assert (code, out) == (1, "") and err.startswith("nbs/zh/_05_serve.md:2: it is not UTF-8")
    book.text.rename(book.text.with_name("_no_page.md"))
    assert tool() == (1, "", "nbs/zh/_no_page.md: there is no nbs/no_page.ipynb\n")


@pytest.mark.parametrize(
    "page, said",
    [
        ('{"cells": [', "it cannot be read"),
        ("<<<<<<< HEAD\n", "it cannot be read"),
        ("[]", "it is no notebook whose cells have ids"),
        ('{"cells": [{"cell_type": "markdown", "source": []}]}', "cells have ids"),
        ('{"cells": [{"id": "a"}, {"id": "a"}]}', "two cells have the id a"),
    ],
)
def test_an_english_page_that_cannot_be_read_is_named(book, tool, page, said):
    (book.root / "nbs/05_serve.ipynb").write_text(page, encoding="utf8")
    before = book.files()
    code, out, err = tool()
    assert (code, out) == (1, "") and err.startswith("nbs/05_serve.ipynb: ") and said in err
    assert book.files() == before


def test_an_empty_cell_is_nothing_to_translate(book, tool):
    book.change(words003="")
    assert tool() == (0, "", "") and "words003" not in book.cells()


def test_a_cell_of_two_pages_is_named(book, tool):
    "--accept would write into one of them."
    shutil.copy(book.text, book.text.with_name("_two.md"))
    shutil.copy(book.root / "nbs/05_serve.ipynb", book.root / "nbs/two.ipynb")
    fault = "05_serve and two have a cell words001 with a Chinese block\n"
    assert tool("--accept", "words001") == (1, "", fault)


def test_a_page_without_a_text_is_named(book, tool):
    "A text that was deleted, a page that has none yet; not a page of the library."
    tool()
    book.text.unlink()
    (book.root / "nbs/host.ipynb").write_text('{"cells": [], "x": "#| default_exp host"}')
    (book.root / "nbs/new.ipynb").write_text('{"cells": []}')
    told = "no text  nbs/zh/_05_serve.md\nno text  nbs/zh/_new.md\n"
    assert tool("--check") == (0, told, "")


def test_what_cannot_be_written_is_said(book, tool):
    book.notebook.mkdir()
    code, out, err = tool()
    assert (code, out) == (1, "") and "05_serve.ipynb" in err and len(err.splitlines()) == 1


def test_a_made_page_of_other_bytes_is_made_anew(book, tool):
    book.notebook.write_bytes(b"\xff")
    assert "out of date" in tool("--check")[2]
    assert tool() == (0, "", "") and book.cells()["title001"] == CHINESE["title001"]


def test_the_tool_by_its_name_has_no_traceback():
    command = [sys.executable, ROOT / "tools/translate.py", "--check", "--diff", "no-such-cell"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "no page has a cell no-such-cell with a Chinese block\n"


def test_diff_says_what_changed_in_the_english(book, tool):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=book.root, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "as it was translated")
    book.change(words001=ENGLISH["words001"].replace("with", "has"))
    git("commit", "-qam", "another word")
    code, out, err = tool("--diff", "words001")
    assert (code, err) == (0, "")
    assert f"-{ENGLISH['words001'].splitlines()[-1]}" in out.splitlines()
    assert any(line.startswith("+`qwen-npu serve` has") for line in out.splitlines())
    assert translate.CHANGED not in "".join(book.files().values()), "it only looks"


@pytest.mark.parametrize(
    "english, chinese, lacks",
    [
        ("Run `make up`.", "运行 make up。", ["lacks `make up`"]),
        ("Run `make up`.", "运行 `make up`。", []),
        ("It has 16,384 tokens.", "有 16384 个 token。", []),
        ("It has 16,384 tokens.", "有 16,384 个 token。", []),
        ("It has 16,384 tokens.", "有 1.6 万个 token。", ["lacks the number 16,384"]),
        ("20,000 and 150,000 and 300,000,000", "2 万、15万和 3 亿", []),
        ("20,000", "两万", ["lacks the number 20,000"]),
        ("3.11 or 3.12", "3.11", ["lacks the number 3.12"]),
        ("12 of 3", "3 个中的 3.12", ["lacks the number 12"]),
        ("[a](x.ipynb#b)", "[甲](x.ipynb)", ["lacks the address x.ipynb#b"]),
        ("<https://x.org/3>", "见 x.org", ["lacks the address https://x.org/3"]),
        ('<img src="a.svg">', "", ["lacks the address a.svg"]),
        ("## A\n\n### B", "## 甲", ["has the headings ['##'], the English ['##', '###']"]),
        ("```sh\nmake up # go\n```", "```sh\nmake up  # 开始\n```", []),
        (
            "```sh\nmake up\n```",
            "```sh\nmake down\n```",
            ["lacks the line 'make up'", "has the line 'make down' besides"],
        ),
        (
            "```text\npip a\n```",
            "```text\npip b\n```",
            ["lacks the line 'pip a'", "has the line 'pip b' besides"],
        ),
        (SHOWN.format("done  2 s"), SHOWN.format("完成  2 s"), []),
        ("one `a` and ``b`c``", "`a`", ["lacks `b`c`"]),
        ("123,456,789", "1.23457 亿", ["lacks the number 123,456,789"]),
        ("40 GB, 9 % in 5 ms", "40 MB，5ms 内 9%", ["lacks the number 40 GB"]),
        ("The server runs.", "The server runs.", ["has no Chinese"]),
        ("an A2 server", "A3 服务器", ["lacks A2"]),
        ("0.5.3rc0", "0.5.3", ["lacks 0.5.3rc0"]),
        ("Qwen3-8B", "用Qwen3-8B。", []),
        ("`port`", "`--port-range`", ["lacks `port`"]),
        ("`a`", "用`a`。", []),
        ("[a](x.ipynb)", "[甲](xx.ipynb)", ["lacks the address x.ipynb"]),
        ("see https://x.org/a.", "见 https://x.org/b。", ["lacks the address https://x.org/a"]),
        ("see https://x.org/a.", "见 https://x.org/a。", []),
        ("```sh\na\n```", "```sh\na\nb\n```", ["has the line 'b' besides"]),
        ("```sh\na\nb\n```", "```sh\nb\na\n```", ["has its lines of code in another order"]),
        ("Run.", "运行。\n```", ["has a fence ``` that does not end"]),
        ("# A\n\n> b", "甲\n\n> 乙", ["has the headings [], the English ['#']"]),
        ("- a\n- b", "- 甲", ["has 1 list items, the English 2"]),
        ("| a |\n| - |\n| b |", "| 甲 |\n| - |", ["has 2 table rows, the English 3"]),
        ("the driver", "司机", ["says 'driver' otherwise than the glossary: 驱动"]),
        ("the driver", "驱动", []),
        ("`driver` alone", "`driver`", []),
    ],
)
def test_what_a_block_lacks(english, chinese, lacks):
    assert translate.faults(english, chinese) == lacks


def test_a_fault_is_told_with_its_place(book, tool):
    text = book.translated().replace("`qwen-npu serve`", "`qwen-npu start`")
    book.text.write_text(text, encoding="utf8")
    fault = "nbs/zh/_05_serve.md: the block words001 lacks `qwen-npu serve`\n"
    assert tool() == (1, "", fault)
    assert "qwen-npu start" in book.cells()["words001"], "one may look at it all the same"
    book.change(words001=ENGLISH["words001"] + " More.")
    code, out, err = tool()
    assert (code, err) == (0, "") and out.startswith("changed"), "it was written for other words"


def test_a_saved_page_takes_its_twin_along(book, tool):
    "tools/run_notebooks.py saves outputs; the Chinese page shows them without another step."
    tool()
    made = book.notebook.read_text(encoding="utf8")
    book.notebook.write_text("{}", encoding="utf8")
    translate.remake("no_chinese_text")
    translate.remake("05_serve")
    assert book.notebook.read_text(encoding="utf8") == made


# ---- the book itself ----

BOOK = translate.pages()
NAMES = sorted(path.stem for path in translate.CHINESE.glob("*.ipynb"))


def test_every_chinese_page_is_made():
    assert NAMES == sorted([*(page.name for page in BOOK), *pages.PAGES])


def test_the_chinese_pages_follow_the_english_ones():
    "New, changed and gone: all empty. A text that lacks something is named, too."
    assert translate.without_chinese() == []
    assert [line for page in BOOK for line in page.lists()] == []
    assert [fault for page in BOOK for fault in page.faults()] == []


def test_a_cell_has_one_page():
    "--diff and --accept know a cell by its id alone."
    ids = [cell for page in BOOK for cell in page.by_cell]
    assert len({*ids}) == len(ids) > 100


def code_of(path: Path) -> list[tuple[str, str, list]]:
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    code = (each for each in cells if each["cell_type"] == "code")
    told = [(each["id"], "".join(each["source"]), each["outputs"]) for each in code]
    return [each for each in told if translate.EXPORTS.sub("", each[1]).strip()]


@pytest.mark.parametrize("name", NAMES)
def test_code_and_outputs_are_the_same(name):
    english = code_of(translate.BOOK / f"{name}.ipynb")
    chinese = code_of(translate.CHINESE / f"{name}.ipynb")
    assert [(id, translate.EXPORTS.sub("", code), out) for id, code, out in english] == chinese


@pytest.mark.parametrize("name", NAMES)
def test_nbdev_runs_no_made_page(name, monkeypatch):
    "Its code was run as the English page's."
    monkeypatch.setattr(nbdev.test, "CaptureShell", lambda *_: pytest.fail("it was run"))
    assert nbdev.test.test_nb(translate.CHINESE / f"{name}.ipynb") == (True, 0)


@pytest.mark.parametrize("name", NAMES)
def test_stress_is_not_shown_as_stars(name):
    """Beside full-width marks Markdown does not see where bold ends: **是。**不 shows its stars,
    **是**。不 does not."""
    cells = json.loads((translate.CHINESE / f"{name}.ipynb").read_text(encoding="utf8"))["cells"]
    parser = MarkdownIt("commonmark").enable("table")
    inside = [
        text.content
        for cell in cells
        if cell["cell_type"] == "markdown"
        for token in parser.parse("".join(cell["source"]))
        for text in token.children or ()
        if text.type == "text"
    ]
    assert inside and [text for text in inside if "**" in text] == []
