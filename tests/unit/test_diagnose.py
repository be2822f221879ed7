"""Every known failure is told by its own name, roots before echoes, noise as noise.

Files that are no logs are one sentence."""

import io
import json
import os
import re
from itertools import product
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import machines
import pytest
from groups import groups
from patience import patient

from qwen_npu_tut.faces import cli
from qwen_npu_tut.engine.findings import check
from qwen_npu_tut.base.diagnose import LONGEST, diagnose, likely_cause, open_log
from qwen_npu_tut.base.failures import Ran, known, plain
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.engine.plan import FileDone, Step, run_plan
from qwen_npu_tut.server.lifecycle import Server, last_words
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.stacks import stacks

ROWS = {row.id: row for row in known().rows if not row.form}
ALL = {row.id: row for row in known().rows}
FAILED = sorted(
    (Path(__file__).parents[1] / "support" / "recorded").glob("*.log")
)  # of the cpu stack, SGLang 0.5.23
PARTS = re.compile(
    r"torch_npu|CANN|NNAL|HCCL|npu-smi|[Aa]scend|davinci|sgl-kernel-npu|\bdriver"
    r"|set_env\.sh|\bA[23]\b|910B"
)
SERVER = Server("default", "a-model", "http://127.0.0.1:1", 1, "", "", "", (), 0.0)
GUIDE = Path(__file__).resolve().parents[3] / "shared" / "guide" / "guide.md"


def causes(text: str, kind: str = "") -> list[str]:
    return [each.id for each in diagnose(io.BytesIO(text.encode()), ran=Ran(kind))]


@pytest.mark.parametrize("rows", groups(known().rows))
def test_an_example_is_told_by_its_own_row(rows):
    "Asked of the whole table: no other row or form stands before it."
    for row in rows:
        text = f"INFO: a line before\n{row.example}\nINFO: a line after\n"
        assert causes(text)[0] == row.id
        assert all(causes(text, kind)[0] == row.id for kind in row.on), row.id


def told_without_the_log(cause) -> str:
    "What we say of a cause, without the words that were read in the log."
    told = f"{cause.cause} {cause.fix}"
    read = [*map(plain, cause.names.values()), *cause.owner.split()]
    for name in sorted(filter(None, read), key=len, reverse=True):
        told = told.replace(name, "")
    return told


def named_parts(told: str) -> list[str]:
    "Parts of an NPU that a sentence names; a flag that is to be left out names none."
    return PARTS.findall(told.replace("--attention-backend ascend", ""))


def test_who_speaks_for_an_engine_without_an_npu_names_none_of_its_parts():
    told = {
        row.id: named_parts(f"{row.cause} {row.fix}")
        for row in known().rows
        if set(row.on) != {"card"} and "card" not in row.on
    }
    assert {name: parts for name, parts in told.items() if parts} == {}
    assert {name for row in known().rows for name in row.on} == {"card", "emulated", "cpu"}


@pytest.mark.parametrize("rows", groups(row for row in known().rows if row.on == ("card",)))
def test_what_an_npu_fails_of_explains_nothing_without_one(tmp_path, rows):
    for row, kind in product(rows, ("cpu", "emulated")):
        (tmp_path / "log").write_text(f"{row.example}\n")
        cause = likely_cause(tmp_path / "log", ran=Ran(kind))
        assert cause is None or not named_parts(f"{told_without_the_log(cause)}")
        found = causes(row.example, kind)
        assert all(name in ALL and ALL[name].on != ("card",) for name in found), "nor does a code"


def test_what_a_processor_fails_of_explains_nothing_on_an_npu():
    text = "\n".join(row.example for row in known().rows if not row.turn)
    found = {ALL[name].on for name in causes(text, "card") if name in ALL}
    assert all("card" in on for on in found if on) and () in found


@pytest.mark.parametrize("log", FAILED, ids=lambda log: log.stem)
def test_an_engine_without_an_npu_that_failed(log):
    "Each was made by running the cpu stack; a file's name is its cause."
    cause, text = likely_cause(log, ran=Ran("cpu")), log.read_bytes()
    assert cause and cause.id == log.stem
    for each in diagnose(io.BytesIO(text), ran=Ran("cpu")):
        assert not named_parts(told_without_the_log(each)), each.id
    if b"server_args=" in text:
        assert likely_cause(log).id == log.stem, "the log says what it was"


def test_there_are_recorded_failures():
    assert len(FAILED) > 8


@pytest.mark.parametrize("kind", ["card", "emulated", "cpu", ""])
@pytest.mark.parametrize("lacking", ["triton.language.extra.cann", "vllm", "sgl_kernel"])
def test_a_model_that_sglang_leaves_out_is_no_failure(lacking, kind):
    "SGLang 0.5.23 imports every model it knows, and leaves out those that it cannot import."
    left_out = "Ignore import error when loading sglang.srt.models.lilicorr"
    text = f"[2026-11-26 08:22:43] {left_out}: No module named '{lacking}'\n"
    found = diagnose(io.BytesIO(text.encode()), ran=Ran(kind))
    assert not [each.id for each in found if each.severity == "error"]


EMULATED = [row for row in ROWS.values() if row.id.startswith("emulated-")]
SENTENCES = Path(cli.__file__).parents[1] / "rehearsal" / "emulated" / "sentences.toml"


@pytest.mark.parametrize("kind", ["card", "emulated", "cpu", ""])
@pytest.mark.parametrize("row", EMULATED, ids=lambda row: row.id)
def test_what_an_emulated_npu_says_is_no_cards_failure(row, kind):
    assert causes(row.example, kind) == [row.id]


@pytest.mark.parametrize("row", EMULATED, ids=lambda row: row.id)
def test_it_is_what_the_emulation_really_says(row):
    "An example holds a sentence of the emulation, whatever values that has, or one that is here."
    said = [each["en"] for each in tomllib.loads(SENTENCES.read_text(encoding="utf8")).values()]
    said += ["Failed to load the backend extension: qwen_npu_emulated", "g++ failed with {code} on"]
    forms = [re.sub(r"\\{[^}]*\\}", ".+", re.escape(each)) for each in said]
    assert any(re.search(form, row.example) for form in forms)


TOLD = {
    **{"name": "NPU_EMULATED_COUNT", "value": "two", "least": 1, "most": 9, "chip": "A9"},
    **{"known": "A2, A3", "way": "natve", "file": "/opt/engine/2.14.1.so", "what": "sparse_mode 4"},
    **{"device": 8, "last": 7, "operator": "npu_rotary_mul", "names": "lengths", "seconds": 60},
    **{"given": 3, "shape": "[2, 3]", "free": "1 GiB", "total": "60 GiB", "allocated": "59 GiB"},
}


@pytest.mark.parametrize("kind", ["emulated", ""])
@pytest.mark.parametrize("name", tomllib.loads(SENTENCES.read_text(encoding="utf8")))
def test_what_the_emulation_says_in_chinese_has_the_same_cause(name, kind):
    row = tomllib.loads(SENTENCES.read_text(encoding="utf8"))[name]
    english, chinese = (
        causes(f"RuntimeError: {row[language]}\n".format(wanted=4, **TOLD), kind)
        for language in ("en", "zh")
    )
    assert english == chinese or name == "captures-already", row["zh"]
    assert english or name == "captures-already"


@pytest.mark.parametrize("row", ["compiler-failed", "mapped"])
def test_what_its_build_says_in_chinese_has_the_same_cause(row):
    said = json.loads((SENTENCES.parents[2] / "programs" / "said.json").read_text("utf8"))[row]
    values = {"compiler": "g++", "code": 1, "source": "device.cpp", "last": "error: no such file"}
    english, chinese = (causes(said[each].format(**values)) for each in ("en", "zh"))
    assert english == chinese != []


@pytest.mark.parametrize(
    "said",
    [
        "MemoryError",
        "DefaultCPUAllocator: can't allocate memory: you tried to"
        " allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)",
    ],
)
def test_memory_that_is_not_there(said):
    assert causes(f"Traceback (most recent call last):\n{said}\n", "cpu") == ["main-memory-full"]


CRASH, HERE, THERE = (
    "Segmentation fault (core dumped)\n",
    "segmentation-fault-on-cpu",
    "segmentation-fault",
)


@pytest.mark.parametrize(
    "said, found",
    [
        ("server_args={'model_path': '/m', 'device': 'cpu'}", [HERE]),
        ("server_args=ServerArgs(device='npu')", [THERE]),
        ("python -m sglang.launch_server --device=npu", [THERE]),
        ("x = torch.zeros(4, device='cpu')", [THERE, HERE]),
        ("server_args=ServerArgs(device='npu')\nsglang serve --device cpu", [THERE, HERE]),
    ],
)
def test_a_log_says_itself_which_engine_it_was(said, found):
    assert causes(f"{said}\n{CRASH}") == found
    assert causes(f"{said}\n{CRASH}", "card") == [THERE], "unless somebody knows better"


@pytest.mark.parametrize(
    "stack, told",
    [
        ("cpu", "was started with a flag for one"),
        ("cann-9.0", "torch_npu is not installed"),
        ("", "torch_npu is not installed"),
    ],
)
def test_a_servers_last_words_are_about_its_engine(tmp_path, stack, told):
    log = tmp_path / "log"
    log.write_text("ModuleNotFoundError: No module named 'torch_npu'\n")
    said = last_words(log, replace(SERVER, stack=stack).ran)
    assert told in said and (stack in said or stack == "cpu")


@pytest.mark.parametrize("kind", ["card", "emulated", "cpu", ""])
def test_a_plans_failure_is_about_its_engine(private_home, tmp_path, kind):
    failing = (sys.executable, "-c", f"print({CRASH!r}); raise SystemExit(1)")
    step = Step("work", "to fail", failing, FileDone(tmp_path / "never"))
    with pytest.raises(Problem) as raised:
        run_plan([step], os.environ, ran=Ran(kind))
    assert ("torch_npu" in raised.value.fix) is (kind in ("card", ""))


@pytest.mark.parametrize("words", [("install",), ("up", "--yes")], ids=lambda words: words[0])
def test_the_command_says_for_which_engine_it_installs(run, monkeypatch, words):
    def refused(steps, environment, report, ran):
        raise Problem(f"For {ran.stack}, {ran.kind}.", "")

    monkeypatch.setattr("qwen_npu_tut.engine.plan.run_plan", refused)
    assert "For cpu, cpu." in "".join(run(*words, "--stack", "cpu")[1:])


@pytest.mark.parametrize("name", ["cpu", "cann-9.0"])
def test_a_deep_checks_failure_is_about_its_engine(name):
    said = f"Can't open MIDR_EL1 sysfs entry\n{CRASH}"
    machine = replace(read_machine(machines.A2.host()), probe=said)
    found = {each.id: each for each in check(machine, stacks()[name]).findings}[
        "torch" if name == "cpu" else "torch_npu"
    ]
    assert found.level == "block" and "crashed" in found.what
    assert ("torch_npu" in found.fix) is (name != "cpu")


@pytest.mark.parametrize(
    "row, root",
    [(row, ALL[root]) for row in ROWS.values() for root in row.follows if root != "*"],
    ids=lambda row: row.id,
)
def test_roots_come_before_echoes(row, root):
    found = causes(f"{row.example}\nsomething between\n{root.example}\n")
    assert found.index(root.id) < found.index(row.id)


@pytest.mark.parametrize(
    "wrapper", [row for row in ROWS.values() if row.follows == ("*",)], ids=lambda row: row.id
)
def test_wrappers_rank_below_any_other_error(wrapper):
    for row in ROWS.values():
        if row.severity == "error" and row.follows != ("*",):
            assert (
                causes(f"{wrapper.example}\n{row.example}\n")[-1 if wrapper.id == row.id else 0]
                != wrapper.id
            )


def test_errors_come_before_warnings_and_noise():
    order = {"error": 0, "warning": 1, "benign": 2}
    text = "\n".join(
        row.example for row in sorted(ROWS.values(), key=lambda row: -order[row.severity])
    )
    levels = [order[ROWS[name].severity] for name in causes(text) if name in ROWS]
    assert levels == sorted(levels) and set(levels) == {0, 1, 2}


@pytest.mark.skipif(not GUIDE.is_file(), reason="the guide is not here")
def test_what_the_guide_printed_has_noise_at_most():
    printed = "\n".join(GUIDE.read_text(encoding="utf8").split("```")[1::2])
    assert [
        each.id for each in diagnose(io.BytesIO(printed.encode())) if each.severity != "benign"
    ] == []


@pytest.mark.parametrize(
    "line, code",
    [
        ("RuntimeError: ERR01006 OPS memory", "ERR01006"),
        ("something failed. ret is -8006", "-8006"),
        ("aclrtMalloc failed, error code is 507012", "507012"),
        ("[ERROR] drvRetCode=46 in halOpen", "46"),
        ("EI9999: Inner Error!", "EI9999"),
    ],
)
def test_codes_without_a_row_are_decoded(line, code):
    found = diagnose(io.BytesIO(line.encode()))
    assert (
        [each.id for each in found] == [code]
        and known().codes
        and found[0].cause.startswith(f"The code {code} means")
    )


def test_lines_are_counted_across_blocks(monkeypatch):
    monkeypatch.setattr("qwen_npu_tut.base.diagnose.BLOCK", 1000)
    text = "x" * 79 + "\n"
    found = diagnose(
        io.BytesIO((text * 1234 + ROWS["triton-missing"].example + "\n" + text * 7).encode())
    )
    assert [(each.id, each.line) for each in found] == [("triton-missing", 1235)]


def test_a_line_without_an_end():
    far = "y" * (3 * LONGEST)
    assert causes(f"{far} {ROWS['triton-missing'].example}") == ["triton-missing"]


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[1;31mModuleNotFoundError\x1b[0m: No module named \x1b[33m'triton'\x1b[0m\n",
        "50%\rModuleNotFoundError: No module named 'triton'\r60%\n",
        "\udce4\udcbd ModuleNotFoundError: No module named 'triton'\n",
        "\0\0ModuleNotFoundError: No module named 'triton'\r\n",
    ],
)
def test_escapes_carriage_returns_and_broken_letters(text):
    found = diagnose(io.BytesIO(text.encode("utf8", "surrogateescape")))
    assert [each.id for each in found] == ["triton-missing"] and found[0].text.isprintable()


def command(*words, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from qwen_npu_tut.faces.cli import main; main()",
            "diagnose",
            *words,
        ],
        capture_output=True,
        timeout=patient(60),
        **more,
    )


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_bytes(os.urandom(100_000)), "is no text"),
        (lambda path: path.write_bytes("x\n".encode("utf-16")), "UTF-16"),
        (lambda path: None, "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file"),
    ],
    ids=["folder", "empty", "binary", "UTF-16", "missing", "device"],
)
def test_what_is_no_log_is_one_sentence(tmp_path, make, said):
    make(tmp_path / "log")
    done = command(str(tmp_path / "log"))
    assert (
        done.returncode == 2
        and said in done.stderr.decode()
        and b"Traceback" not in done.stderr
        and not done.stdout
    )


def test_a_log_of_somebody_else(monkeypatch, tmp_path):
    (tmp_path / "log").write_text("x")

    def refused(*given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(Problem, match="cannot be read: Permission denied"):
        open_log(str(tmp_path / "log"))


def test_pipes(tmp_path):
    text = ROWS["triton-missing"].example.encode()
    assert b"triton" in command("-", input=text).stdout
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[text], daemon=True).start()
    assert b"triton" in command(str(tmp_path / "pipe")).stdout


def test_the_command(monkeypatch, capsys, tmp_path):
    (tmp_path / "log").write_text(
        f"fine\n{ROWS['uncaught-exception'].example}\n{ROWS['nnal-not-found'].example}\n"
    )

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["qwen-npu", "diagnose", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    code, out, _ = run(str(tmp_path / "log"), "--json")
    found = json.loads(out)["findings"]
    assert (
        code == 0
        and [(each["id"], each["line"]) for each in found][0] == ("nnal-not-found", 3)
        and found[-1]["id"] == "uncaught-exception"
    )
    keys = {"id", "severity", "cause", "fix", "source", "line", "text", "by", "owner", "names"}
    assert set(found[0]) == keys
    code, out, _ = run(str(tmp_path / "log"))
    assert code == 0 and "set_env.sh" in out
    (tmp_path / "crashed").write_text("Segmentation fault (core dumped)\n")
    assert "torch_npu" in run(str(tmp_path / "crashed"))[1]
    code, out, _ = run(str(tmp_path / "crashed"), "--stack", "cpu")
    assert code == 0 and "Compiled code crashed" in out and "torch_npu" not in out
    assert run(str(tmp_path / "crashed"), "--stack", "no-such-stack")[0] == 2
    (tmp_path / "fine").write_text("all is well\n")
    assert run(str(tmp_path / "fine"))[0] == 1
    assert run(str(tmp_path / "fine"), "--json")[:2] == (1, '{\n  "findings": []\n}\n')
