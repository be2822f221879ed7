"""Every command that a fix of failures.toml names exists and can be typed.

Nothing is run: shells, pip and our own command are asked to read a line, and other programs are
held to what their documentation says (programs.toml). Options of SGLang are asked of SGLang's own
parser in tests/engine/test_real_fixes.py; here their form alone counts."""

import re
import shlex
import string
import subprocess
from collections import defaultdict
from dataclasses import replace

import pytest
from fixes import CAPITALS, finding_fixes, fixes, simple_commands
from packaging.requirements import InvalidRequirement, Requirement
from pip._internal.cli.main_parser import parse_command
from pip._internal.commands import create_command
from pip._internal.exceptions import CommandError
from programs import DOCKER_RUN, USAGE, WHAT, refused
from typer.main import get_command

from groups import groups
from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.failures import known, told
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.faces import cli

APP = get_command(cli.app)
BY_OWNER = defaultdict(list)
for each in (*fixes(), *finding_fixes()):
    BY_OWNER[each.owner].append(each)

# Files that `source` may read: CANN's, NNAL's, an environment's, or one to be named.
SOURCED = re.compile(
    r"/usr/local/Ascend/(?:ascend-toolkit|cann|nnal/atb|nnae)/set_env\.sh|(?:[\w/]+/)?bin/activate"
    r"|/data/\w+|[A-Z]+|/etc/profile|~/\.bashrc|\S*(?:set_env|setenv)\.(?:ba)?sh"
)

# Looks like something to type, and stands among words. Options that are merely spoken of
# (leave --page-size out) are not typed; with a value they are.
TYPED = re.compile(
    rf"qwen-npu (?:{'|'.join(APP.commands)})\b|\bexport \w+=|\bunset \w*_\w+|\bpip install\b"
    r"|\bpython[\d.]* -|\buv pip |\bdocker (?:run|ps|exec|save|load|pull|login|info|inspect)\b"
    r"|\bnpu-smi (?:info|set)\b|\bhccn_tool -|\bapt-get |\bdnf install|\byum install|\bsudo "
    r"|\bsystemctl |\bjournalctl|\bkubectl |\bcurl (?:-|http)|\bgit (?:clone|-|ls-|sub)"
    r"|\bsource [/~]|\b(?:ls|cat|rm|grep|du|df|free|head|tail|ln|chmod|chown|lspci|uname|ss|mkdir)"
    r" [-/~]|\bcd [~/\"$]|\becho \$|\blsmod\b|\bdmesg\b"
    r"|(?<![\w-])--?[a-z][\w-]* (?:\d|/|[a-z]\w*\d\b|llguidance\b|npu\b)"
)


def ours(words: list[str]) -> str:
    "What our own command says against its words, which it reads and does not run."
    try:
        command, context, rest = APP, APP.make_context("qwen-npu", list(words)), words
        while hasattr(command, "commands"):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, list(rest), parent=context)
    except SystemExit:
        return ""  # --help, --version
    except Exception as error:
        return getattr(error, "message", "") or f"{type(error).__name__}: {error}"
    given = [context.params.get("stack")]
    given += [context.params.get("name")] if context.parent and words[:1] == ["stack"] else []
    strange = [each for each in given if each and each not in stacks() and each != "NAME"]
    return f"there is no set {strange[0]}" if strange else ""


def pips(words: list[str]) -> str:
    "What pip says against its words."
    try:
        name, rest = parse_command(list(words))
        _, given = create_command(name).parse_args(rest)
    except SystemExit as ended:
        return "" if ended.code == 0 else f"pip refuses {' '.join(words)}"
    except CommandError as error:
        return str(error)
    if name in ("install", "download"):
        for each in given:
            if re.match(r"[./~]|https?://", each) or each == "DIR" or each.endswith(".whl"):
                continue
            try:
                Requirement(re.sub(r"(?<=[=<>~])[A-Z]+$", "1.0", each))
            except InvalidRequirement as error:
                return f"{each}: {str(error).splitlines()[0]}"
    return ""


def pythons(words: list[str]) -> str:
    "What stands against the words of a Python."
    while words[:1] and (words[0] in ("-u", "-I") or words[0] == "-X"):
        words = words[2:] if words[0] == "-X" else words[1:]
    if words in (["-V"], ["--version"]):
        return ""
    if words[:1] == ["-c"] and len(words) == 2:
        try:
            compile(words[1], "-c", "exec")
        except SyntaxError as error:
            return f"no Python: {error}"
        return ""
    if words[:2] == ["-m", "pip"]:
        return pips(words[2:])
    if words[:2] == ["-m", "venv"]:
        return refused(words[2:], "--clear --system-site-packages --upgrade DIR", judged)
    if words[:2] == ["-m", "sglang.launch_server"]:
        return "" if all(re.match(r"--|[\w/.]", word) for word in words[2:]) else "strange words"
    return f"python {' '.join(words)} is not known here"


def judged(words: list[str]) -> str:
    "What stands against a simple command, empty where it can be typed."
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]  # for this command only
        if not words:
            return ""
    words = [CAPITALS.get(word, word) for word in words]
    name = re.sub(r"^/(?:usr/)?s?bin/", "", words[0])
    rest = words[1:]
    if name == "COMMAND" or name == "exec" and rest == ["COMMAND"]:
        return ""
    if name == "qwen-npu":
        return ours(rest)
    if name == "pip":
        return pips(rest)
    if re.fullmatch(r"python(?:3(?:\.\d+)?)?", name):
        return pythons(rest)
    if name in ("bash", "sh") and rest and re.fullmatch(r"-[a-z]*c", rest[0]):
        return typed(rest[1]) if len(rest) == 2 else f"{name} {rest[0]} takes one text"
    if name == "exec":
        return judged(rest)
    if name == "bash" and rest and rest[0][0] != "-":
        return judged([f"./{rest[0].removeprefix('./')}", *rest[1:]])  # a script and its words
    if name == "export":
        wrong = [each for each in rest if not re.fullmatch(r"[A-Za-z_]\w*=\S*", each)]
        return f"no assignment: {wrong[0]}" if wrong or not rest else ""
    if name in ("source", ".") and rest and not SOURCED.fullmatch(rest[0]):
        return f"nothing says what {rest[0]} is"
    if name not in WHAT:
        return f"no program {name} is known here"
    if name == "git":
        while rest[:1] == ["-c"]:
            rest = rest[2:]
    usages = [USAGE[f"{name} {rest[0]}"]] if rest and f"{name} {rest[0]}" in USAGE else []
    if usages:
        return refused(rest[1:], usages[0], judged)
    if name not in USAGE:
        return f"{name} has no {rest[0] if rest else 'use alone'} here"
    if name == "find":
        rest = [word for word in rest if word not in ("-o", "!")]
    return refused(rest, USAGE[name], judged)


def typed(command: str) -> str:
    "What stands against what a person would type, empty where it can be typed."
    if not command.strip() or command != command.strip():
        return "a blank at its end"
    if "…" in command or "..." in command:
        return "not whole: …"
    if command.startswith("-"):
        return options(command)
    read = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    if read.returncode:
        return read.stderr.strip()
    try:
        return "; ".join(filter(None, map(judged, simple_commands(command))))
    except ValueError as error:
        return str(error)


def options(command: str) -> str:
    "Options that docker run or an engine gets; an engine's are asked of it elsewhere."
    words = [word for each in simple_commands(command) for word in each]
    if not refused(words, DOCKER_RUN, judged):
        return ""
    fits = all(re.fullmatch(r"--[a-z][a-z0-9-]+(?:=\S+)?|[^-]\S*", word) for word in words)
    return "" if fits and words[0].startswith("--") else "no option of docker run or of an engine"


@pytest.mark.parametrize("owners", groups(BY_OWNER))
def test_every_command_of_a_fix_can_be_typed(owners):
    wrong = {
        f"{owner} {fix.language}: {command}": why
        for owner in owners
        for fix in BY_OWNER[owner]
        for command in fix.commands()
        if (why := typed(command))
    }
    assert wrong == {}


def test_what_is_typed_stands_in_backticks():
    wrong = {
        (fix.owner, fix.language): found
        for fix in fixes()
        if (found := [match[0] for match in TYPED.finditer(fix.prose())])
    }
    odd = [(fix.owner, fix.language) for fix in fixes() if fix.text.count("`") % 2]
    assert wrong == {} and not odd


def braces_without_a_name(row: dict) -> set[str]:
    "What stands in the braces of a row's sentences that nothing gives it."
    read = {"stack", "version", "owner", "meaning", *re.compile(row.get("pattern", "")).groupindex}
    if row in FORMS:
        read |= {"file", "at", "function"}  # of the frame that raised
    for owner in known().owners if "owner" in row else ():
        read |= {*re.compile(owner.pattern).groupindex}
    told = [*row["cause"].values(), *row["fix"].values()]
    return {
        name
        for text in told
        for _, name, _, _ in string.Formatter().parse(text)
        if name is not None and name not in read
    }


FORMS = table("failures.toml")["form"]


def test_braces_hold_names_that_the_pattern_reads():
    "A row with another says nothing at all. A command's own is doubled: `awk '{{print $2}}'`."
    for row in [*table("failures.toml")["failure"], *FORMS]:
        assert braces_without_a_name(row) == set(), row["id"]


def test_both_languages_name_the_same_commands():
    for owner, written in BY_OWNER.items():
        told = {fix.language: sorted(set(fix.commands())) for fix in written}
        assert told.get("zh", told["en"]) == told["en"], owner


def test_every_sentence_is_written_in_both_languages():
    lacking = [owner for owner, told in BY_OWNER.items() if len(told) == 1]
    known = {fix.owner for fix in fixes()}
    assert [owner for owner in lacking if owner in known] == []


@pytest.mark.parametrize(
    "command, why",
    [
        ("qwen-npu stack shew cpu", "No such command"),
        ("qwen-npu stack show cann-7", "no set cann-7"),
        ("qwen-npu install --stack", "requires an argument"),
        ("qwen-npu logs --lines x1", "a valid integer"),
        ("python -m pip install sglang==VERSION==2", "xpected"),
        ("python -m pip instal sglang", "unknown command"),
        ("python -m pip install --index-ulr http://a sglang", "pip refuses"),
        ("python -m pip install sglang>=0.5", "a redirection"),
        ("python -c 'import torch; print('", "no Python"),
        ("docker runn IMAGE", "docker has no"),
        ("docker run --ip=host IMAGE", "no option --ip"),
        ("docker run --network host", "0 words"),
        ("npu-smi info -x 1", "no option -x"),
        ("systemctl status", ""),
        ("export A = 1", "no assignment"),
        ("echo 'x", "unexpected EOF"),
        ("cat /etc/hosts | grpe x", "no program grpe"),
        ("sudo -u root lss -l", "no program lss"),
        ("ls $(idd -u)", "no program idd"),
        ("bash -lc 'lss'", "no program lss"),
        ("for i in 0 1; do hccn_toll -i $i -ip -g; done", "no program hccn_toll"),
        ("-x 3", "no option of docker"),
        ("curl -N http://a ...", "not whole"),
        ("source x.sh", "nothing says"),
    ],
)
def test_a_wrong_command_is_found(command, why):
    assert why in typed(command)


@pytest.mark.parametrize(
    "command",
    [
        "qwen-npu stack show NAME",
        "qwen-npu download MODEL --hub https://huggingface.co",
        "python -m pip install --no-deps torch==VERSION 'numpy<2'",
        "-v /a:/b:ro --device /dev/davinci0",
        "--mem-fraction-static 0.8",
        "cd ~ && ls -l /dev/davinci* | grep -iE 'a|b'; echo $PATH",
        "for i in 0 1; do hccn_tool -i $i -link -g; done | grep switch",
        "export LD_LIBRARY_PATH=/usr/lib/$(uname -m)-linux-gnu:$LD_LIBRARY_PATH",
        "timeout 20 npu-smi info 2>/dev/null",
        "PIP_REQUIRE_HASHES=0 qwen-npu install",
        "/bin/bash -c 'source FILE && exec COMMAND'",
    ],
)
def test_a_right_command_is_none(command):
    assert typed(command) == ""


def test_each_program_is_known_for_something():
    assert {name.partition(" ")[0] for name in USAGE} == set(WHAT)
    assert all(len(what) > 2 for what in WHAT.values())


# ---- what a log says never becomes a command ----

EVIL = [
    "{};reboot;",
    "{}$(reboot)",
    "{}`reboot`",
    "{}'; reboot '",
    '{}"; reboot "',
    "{}&&reboot",
    "-{}",
]
NAMING = {
    row.id: names
    for row in known().rows
    if (names := set(re.findall(r"\{(\w+)\}", "".join(re.findall(r"`[^`]*`", row.fix)))))
    - {"stack", "version"}
}


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_log_says_is_a_word_of_a_command_at_most(evil):
    for row in known().rows:
        if row.id in NAMING:
            stays_one_word(row, evil)


def stays_one_word(row, evil: str) -> None:
    row, read = replace(row, owner=()), {name: "7" for name in re.compile(row.pattern).groupindex}
    for name in NAMING[row.id] & {*read}:
        plain = told(row, read)[1].split("`")[1::2]
        strange = told(row, {**read, name: evil.format(7)})[1].split("`")[1::2]
        assert [len(words(each)) for each in strange] == [len(words(each)) for each in plain]
        assert " ".join(strange).count(" -") == " ".join(plain).count(" -"), "no option either"
        expanded = [re.sub(r"'[^']*'", "", each).count("$(") for each in strange]
        assert expanded == [each.count("$(") for each in plain]


def words(command: str) -> list[str]:
    return list(shlex.shlex(command, posix=True, punctuation_chars=True))
