"""The command in Chinese: help, wrong lines, tables in columns, a terminal without Chinese letters;
and no sentence of the package that is glued together in code."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import COMMAND

import qwen_npu_tut
from qwen_npu_tut.base.events import Event, Words, columns, language, table, word
from qwen_npu_tut.faces import cli, terminal, views
from qwen_npu_tut.server import lifecycle

PACKAGE = Path(qwen_npu_tut.__file__).parent
A2 = PACKAGE / "machines" / "a2.json"
LANGUAGES = ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES", "LANG")  # what comes first wins
FRAME = table("frame.toml")
HAN = "\u3400-\u9fff"


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")


def shell(*words: str, **variables: str) -> subprocess.CompletedProcess:
    "The command as a shell runs it, in the language that only these variables name; bytes."
    around = {name: value for name, value in os.environ.items() if name not in LANGUAGES}
    line = [*COMMAND[:-1], *words]
    return subprocess.run(line, capture_output=True, env={**around, **variables}, timeout=60)


# ---- which language ----


@pytest.mark.parametrize("place", range(4), ids=LANGUAGES)
def test_of_four_variables_the_first_wins(place, monkeypatch):
    for name in LANGUAGES:
        monkeypatch.delenv(name, raising=False)
    assert language() == "en"
    for first, later in (("zh_CN.UTF-8", "en_US.UTF-8"), ("en_US.UTF-8", "zh_CN.UTF-8")):
        for number, name in enumerate(LANGUAGES):
            monkeypatch.setenv(name, first if number == place else later if number > place else "")
        assert language() == first[:2]


@pytest.mark.parametrize(
    "named", ["zh", "zh_CN.UTF-8", "zh_TW.UTF-8", "zh_HK", "Chinese_China.936"]
)
def test_every_chinese_is_simplified_chinese(named, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_LANG", named)
    assert (language(), word("stopped")) == ("zh", "未运行")


@pytest.mark.parametrize("words, code", [(["--help"], 0), (["chek"], 2), (["check"], 1)])
def test_a_terminal_without_chinese_letters_gets_english(words, code, tmp_path):
    words = [*words, "--machine", str(A2), "--stack", "cann-9.1"] if words == ["check"] else words
    said, others = {}, ["latin-1", "big5", "shift_jis"] if words == ["--help"] else []
    for encoding in ("utf-8", "ascii", *others):
        spoken = {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": encoding}
        done = shell(*words, **spoken, QWEN_NPU_HOME=str(tmp_path))
        assert done.returncode == code
        said[encoding] = done.stdout + done.stderr
    plain = shell(*words, QWEN_NPU_LANG="en", QWEN_NPU_HOME=str(tmp_path))
    english = plain.stdout + plain.stderr
    assert re.search(f"[{HAN}]", said.pop("utf-8").decode())
    assert {*said.values()} == {english}


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_letter_that_a_terminal_lacks_stops_nothing(encoding, serving, tmp_path):
    "A reply, a name and a document that hold letters of many scripts."
    there = {"QWEN_NPU_URL": serving(reply="你好 é 👩 → ✓").url, "QWEN_NPU_HOME": str(tmp_path)}
    spoken = {"QWEN_NPU_LANG": "zh", "PYTHONIOENCODING": encoding}
    for words in (
        ["chat", "你好！"],
        ["verify", str(tmp_path / "é👩中\udc80")],
        ["chat", "-h\u00e9"],
    ):
        done = shell(*words, **there, **spoken)
        assert b"Traceback" not in done.stderr and (done.stdout + done.stderr).strip()
        (done.stdout + done.stderr).decode(encoding)  # and not in another encoding
    code = shell("verify", "/n\u00f6/中👩", "--json", **there, **spoken)
    assert "/nö/中👩" in json.loads(code.stdout.decode(encoding))["error"]["what"]


@pytest.mark.parametrize("named, said", [("en", "A name is longer"), ("zh", "名称超过了")])
def test_a_name_too_long_for_the_file_system_is_no_traceback(named, said, tmp_path):
    "86 Chinese letters are more than the 255 bytes that a folder's name may have."
    home = str(tmp_path / ("坏" * 86))
    for words, there in ((["verify", "x" * 5000], str(tmp_path)), (["status"], home)):
        done = shell(*words, QWEN_NPU_LANG=named, QWEN_NPU_HOME=there)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(said) and b"name-too-long" in done.stderr


# ---- help ----

# Names and values, which stay as they are.
NAMES = {"Hugging Face", "KV cache", "Linux aarch64", "make docs"}
PAGES = """
import json
from qwen_npu_tut.faces.cli import app
from typer.main import get_command

def pages(name, command, parent=None):
    context = command.context_class(command, info_name=name, parent=parent)
    yield context.command_path, command.get_help(context)
    for each in getattr(command, "commands", {}).items(): yield from pages(*each, context)

print(json.dumps(dict(pages("qwen-npu", get_command(app)))))
"""


def pages(columns: int = 80, **variables) -> dict[str, str]:
    "Every page of help, as a new process lays it out."
    around = {**os.environ, "QWEN_NPU_LANG": "zh", "COLUMNS": str(columns), **variables}
    done = subprocess.run(
        [sys.executable, "-c", PAGES], capture_output=True, env=around, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def helps():
    return pages()


def english(text: str) -> list[str]:
    "English words side by side that are no names: code, options and placeholders are left out."
    bare = re.sub(r"`[^`]*`|<[^<>]*>+|--?[\w-]+|https?:\S+|[A-Z]+(?:_[A-Z]+)+|\.\.\.", "·", text)
    bare = re.sub(r"[\[\]{}]+", " ", bare)
    found = re.findall(r"[A-Za-z][\w./-]*(?:,? [A-Za-z][\w./-]*)+", re.sub(r" +", " ", bare))
    return [each for each in found if each not in NAMES and re.search("[a-z]{3}", each)]


def test_every_page_of_help_is_chinese(helps):
    assert len(helps) == 2 + len(cli.app.registered_commands + cli.stack_app.registered_commands)
    for name, text in helps.items():
        usage, _, told = text.partition("\n")  # names alone stand in the first line
        assert usage.startswith(f"用法：{name} [OPTIONS]") and "显示本帮助。" in told
        assert english(told) == [], name
        assert all(each not in told for each in ("required", "default", "env var", "Options:"))


def test_no_english_is_overlooked():
    "What the test above looks for is found in the English pages."
    for name, text in pages(QWEN_NPU_LANG="en").items():
        assert english(text.partition("\n")[2]), name


@pytest.mark.parametrize("wide", [50, 80])
def test_help_is_laid_out_by_columns(wide):
    for name, text in pages(wide).items():
        assert "\u2060" not in text and not re.search(f"[{HAN}] [{HAN}]", text), name
        for line in text.splitlines():
            assert columns(line) <= max(wide, 52), line
            assert not re.match(" *[，。：；？！、）]", line), line
        # what is said of an option begins in one column, also in the lines that follow
        for part in re.split(r"^\S.*$", text, flags=re.M)[1:]:
            first = [each for each in part.splitlines() if re.match("  -", each)]
            starts = {re.search(r"^(  \S.*?  +)\S", each).end(1) for each in first}
            rest = [each for each in part.splitlines() if re.match("    ", each)]
            if first:
                assert len(starts) == 1, part
                assert {len(each) - len(each.lstrip()) for each in rest} <= starts, part


def test_the_list_of_commands_shows_whole_sentences(helps):
    listed = helps["qwen-npu"].partition("命令：\n")[2]
    entries = re.sub(r"\n {4,}", "", listed).splitlines()
    assert len(entries) == len(cli.app.registered_commands) + 1
    assert all(each.endswith("。") and each.count("。") == 1 for each in entries)


def test_every_word_of_the_frame_is_one_of_typers():
    "A newer typer may say it in other words: then the Chinese would not be found."
    lines = "\n".join(pages(200, QWEN_NPU_LANG="en").values())
    for row in FRAME["help"].values():
        form = re.sub(r"\\\{\w+\\\}", ".+", re.escape(row["en"].strip()))
        assert re.search(form, lines), row["en"]


# ---- a line that is wrong ----

WRONG = {
    "no-such-command-like": ["chek"],
    "no-such-command": ["zzzz"],
    "no-such-option-like": ["plan", "--stac"],
    "no-such-option": ["plan", "--bogus"],
    "missing-argument-of": ["export"],
    "missing-argument": ["fit"],
    "extra-arguments": ["plan", "one", "two"],
    "option-without-value": ["up", "--port"],
    "option-with-value": ["up", "--yes=3"],
    "invalid": ["logs", "-n", "x"],
    "not-of-these": ["plan", "--format", "a: b"],
    "not-a-whole-number": ["up", "--port", "abc"],
    "too-large": ["up", "--port", "9" * 5000],
    "invalid-variable": ["up"],
    "not-a-switch": ["up"],
}


def test_each_wrong_line_is_tried():
    assert WRONG.keys() == FRAME["usage"].keys()


@pytest.mark.parametrize("row", WRONG)
def test_a_wrong_line_is_answered_in_chinese(row, run, monkeypatch):
    if WRONG[row] == ["up"]:
        monkeypatch.setenv("QWEN_NPU_YES", "maybe")
    code, out, before = run(*WRONG[row])
    form = re.sub(r"\\\{\w+\\\}", ".+", re.escape(FRAME["usage"][row]["en"]))
    assert (code, out) == (2, "") and re.search(form, before, re.S)
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    code, out, told = run(*WRONG[row])
    assert (code, out) == (2, "") and english(re.sub("'[^']*'|：one two", "·", told)) == []
    form = re.sub(r"\\\{\w+\\\}", ".+", re.escape(FRAME["usage"][row]["zh"]))
    assert re.search(form, told, re.S)


def test_what_typer_says_and_we_do_not_know_stays_english(chinese):
    for text in ("Something new: {x}.", "Invalid", "没有选项", ""):
        assert cli._framed(text, "usage") == text
    # the part that is known is Chinese, the rest whole
    assert cli._framed("Invalid value for 'x': Brand new.", "usage") == "'x' 的值无效：Brand new."


def test_a_question_is_asked_again_until_it_is_answered(chinese, monkeypatch, capsys):
    given = iter(["maybe", "Y"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(given))
    monkeypatch.setattr("typer._click.termui.visible_prompt_func", lambda prompt: next(given))
    cli._agree("删除 x？")
    assert capsys.readouterr().out.count("删除 x？ [y/N]") == 2


# ---- tables ----


def test_a_chinese_letter_takes_two_columns(chinese):
    assert [columns(each) for each in ("", "ok", "正常", "正常。", "é→·")] == [0, 2, 4, 6, 3]
    assert Words().format("{:6}|{:6}|{:6}|", "ok", "正常", "太长的词") == "ok    |正常  |太长的词|"
    assert Words().format("{:4}|{:.2}|{:4}", "中", "abc", 7) == "中  |ab|   7"


def starts(lines: list[str], number: int) -> set[int]:
    "The columns in which the word of that number begins."
    found = [re.match(r"(?:\S+(?: \S+)*? +){%d}" % number, each) for each in lines]
    return {columns(each[0]) for each in found if each}


def test_tables_are_in_line(run, chinese):
    out = run("check", "--machine", str(A2), "--stack", "cann-9.1")[1].splitlines()
    levels = [each for each in out if re.match("(正常|警告|阻塞) ", each)]
    assert {each[:2] for each in levels} == {"正常", "警告", "阻塞"} and starts(levels, 1) == {9}
    below = [each for each in out if re.match(" +(解决办法|出处) ", each)]
    assert len(below) > 3 and {columns(re.match(r" +\S+ +", each)[0]) for each in below} == {27}
    out = run("plan", "--machine", str(A2), "--stack", "cann-8.5")[1].splitlines()
    rows = [each for each in out if re.match("(需自备|待执行|已完成|已知) ", each)]
    assert {each[:2] for each in rows} == {"需自", "待执", "已知"} and starts(rows, 1) == {7}
    out = run("status")[1].splitlines()
    assert [each[:7].split()[0] for each in out] == ["状态"] and starts(out, 1) == {7}


def test_json_keeps_its_keys_and_ids(run, monkeypatch):
    spoken = {}
    for each in ("en", "zh"):
        monkeypatch.setenv("QWEN_NPU_LANG", each)
        found = json.loads(run("check", "--machine", str(A2), "--json")[1])
        spoken[each] = [(row["id"], row["level"], [*row]) for row in found["findings"]]
        state = json.loads(run("status", "--json")[1])
        assert state["state"] == "stopped" and "log" in state
    assert spoken["en"] == spoken["zh"]


def test_a_download_is_told_in_chinese(chinese):
    event = Event("downloading", "a.bin", done=10**9, total=2 * 10**9, rate=10**7)
    assert terminal.running_line(event) == "a.bin  1.0 GB / 2.0 GB（50%）10.0 MB/s，剩余 2 分钟"
    stalled = Event("downloading", "a.bin", done=10**9, total=2 * 10**9)
    assert terminal.running_line(stalled) == "a.bin  1.0 GB / 2.0 GB（50%）"


def test_the_end_of_a_log_is_told_in_chinese(chinese, tmp_path):
    (tmp_path / "x.log").write_text("one\ntwo\n")
    told = lifecycle.last_words(tmp_path / "x.log").splitlines()
    assert told == ["日志的最后几行：", "  one", "  two", f"完整日志：{tmp_path / 'x.log'}"]


# ---- words ----


def test_every_value_of_a_table_has_its_word():
    "And no word without a value."
    advisories = {row["kind"] for row in table("stacks.toml")["advisory"]}
    severities = {row["severity"] for row in table("failures.toml")["failure"]}
    found = {*views.SIGNS, *advisories, *severities, *lifecycle.PHASES}
    found |= {"pass", "fail", "unsupported", "running", "starting", "dead", "stopped"}
    found |= {"state", "url", "pid", "model", "log", "fix", "source", "line"}
    found |= {"by you", "to do", "done", "known", "all together"}
    found |= {"offered", "missing", "asked about", "not called", "imported only", "new"}  # drift
    found |= {"resolves", "does not exist", "does not fit", "index not reached", "not on an index"}
    found |= {"offered", "missing", "imported only", "not called", "asked about", "new"}
    named = {
        call.args[0].value
        for tree in map(ast.parse, SOURCES.values())
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "word"
        and isinstance(call.args[0], ast.Constant)
    }
    assert found | named == table("phrases.toml")["word"].keys()


# ---- no sentence is glued together in code ----

SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] not in ("programs", "rehearsal")  # they run elsewhere
}
# What looks like a sentence and is none, by its file and the first words that stand in it.
NOT_SAID = {
    "engine/cpu.py": ["torch"],  # the content of a mark
    "engine/environment.py": ["A 2x2 product on the chip"],  # the line that a step looks for
    "engine/installation.py": [" or "],  # an argument of the program read_back.py
    "host/npusmi.py": ["Process id"],  # npu-smi's words
    "server/lifecycle.py": ["The server is fired up"],  # SGLang's words
    "model/hubs.py": ["file should be of size", "Consistency check failed"],  # a client's words
}
WORD = re.compile(r"(?<![^\s\0(])[A-Za-z]?[a-z]+(?=[\s\0.,:;!?)]|$)")


def literal(node: ast.AST) -> str:
    "What stands in an expression of texts, with a \\0 for each value."
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "\0"
    if isinstance(node, ast.JoinedStr):
        return "".join(map(literal, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return literal(node.left) + literal(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("join", "format") and isinstance(node.func.value, ast.Constant):
            return literal(node.func.value) + "\0"
    return "\0"


def glued(source: str) -> list[str]:
    "English that a module puts together with values, or says without any, outside of docstrings."
    tree, found, inside = ast.parse(source), [], set()
    for node in ast.walk(tree):  # what stands first in a body is a docstring
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            inside |= {id(each.value) for each in node.body[:1] if isinstance(each, ast.Expr)}
        if isinstance(node, ast.keyword) and node.arg == "doc":
            inside.add(id(node.value))
    for node in ast.walk(tree):
        text = literal(node)
        if id(node) in inside or not text.strip("\0"):
            continue
        inside |= {id(each) for each in ast.walk(node)}
        words, values = len(WORD.findall(text)), "\0" in text
        joins = isinstance(node, ast.Call) and re.fullmatch(r" [a-z]+ \0", text)
        sentence = words > 2 and re.search(r"\w[.?!]$", text.strip())
        if joins or (words > 1 and values) or sentence:
            found.append(text)
    return found


@pytest.mark.parametrize("module", SOURCES)
def test_a_sentence_is_a_row_and_not_glued_in_code(module):
    said = [
        each
        for each in glued(SOURCES[module])
        if not any(first in each for first in NOT_SAID.get(module, []))
    ]
    assert said == [], "write it as a row of findings.toml or phrases.toml, in both languages"


def test_every_exception_is_needed():
    for module, firsts in NOT_SAID.items():
        found = glued(SOURCES[module])
        assert all(any(first in each for each in found) for first in firsts), module


@pytest.mark.parametrize(
    "line",
    [
        'print(f"{name} is not there")',
        'raise Problem("There is no " + name + " here", "")',
        'echo("%s has gone" % name)',
        'echo("{} has gone".format(name))',
        'echo(" and ".join(names))',
        'echo("It is not there.")',
        'echo(f"{a}: " + f"it has {b} bytes")',
    ],
)
def test_what_is_glued_is_found(line):
    assert glued(f"def f(name):\n    'A docstring of some words.'\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        'run(f"{home}/stacks/{name}")',
        'echo(phrase("with-fix", told=each))',
        'echo(", ".join(names))',
        're.compile(f"{a}: (.*)")',
        'word("by you")',
        'line = ["pip", f"--index-url={index}"]',
    ],
)
def test_what_is_no_sentence_is_left_alone(line):
    assert glued(f"def f(name):\n    'A docstring of {{some}} words.'\n    {line}\n") == []
