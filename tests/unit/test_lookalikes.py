"""No row wins by accident: other names, other codes, quotations, and what a healthy run writes."""

import io
import json
import re
from functools import cache

import pytest
from packaging.requirements import Requirement

from groups import groups
from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut.base.events import table
from qwen_npu_tut.base.failures import Ran, Row, known
from qwen_npu_tut.engine.stacks import stacks

ROWS = [row for row in known().rows if not row.form]
ERRORS = [row for row in known().rows if row.severity == "error"]
KINDS = ["", "card", "emulated", "cpu"]
TOLD = [row for row in ROWS if row.severity != "benign" and not row.turn]


def found(text: str, kind: str = "") -> list:
    return diagnose(io.BytesIO(f"{text}\n".encode()), ran=Ran(kind))


def errors(text: str, kind: str = "") -> list[tuple[str, str]]:
    return [(each.id, each.text) for each in found(text, kind) if each.severity == "error"]


# ---- another name, another code ----

NAME = re.compile(  # of a library, a package, a program; others are quoted
    r"lib[A-Za-z]\w*\.so(?:\.\d+)*|(?<=')[A-Za-z_][\w.-]*(?=')|(?<=\")[A-Za-z_][\w.-]*(?=\")"
    r"|\b(?:torch_npu|triton|sgl_kernel\w*|deep_ep\w*|vllm\w*|torchvision|transformers|modelscope"
    r"|huggingface\.co|npu-smi|docker)\b"
)
CODE = re.compile(r"(?<![\w.])-?\d{2,6}(?![\w.])|\bE[A-Z0-9]\d{4}\b|\bERR\d{5}\b|0x[0-9a-f]+")


def others(word: str, row: Row) -> list[str]:
    "Names or codes that are not this one, and none of the row's others."
    if CODE.fullmatch(word):
        ways = [word[:-1] + digit for digit in "8459"] + [f"{word}7"]
        return [way for way in ways if way != word and not any(way in text for text in row.text)]
    stem, library, rest = word.partition(".so")
    return [f"{stem}x{library}{rest}", f"x{word}"]


@cache
def values(row: Row) -> tuple[str, ...]:
    "What the row reads in its example: it is about any such name."
    kind = row.on[0] if row.on else ""
    named = [each.names.values() for each in found(row.example, kind) if each.id == row.id]
    return tuple(value for each in named for value in each if value)


def changed(row: Row) -> list[tuple[str, str]]:
    "Texts that look like the row's failure and are none, each with what stands there instead."
    made = []
    for sentence in row.text:
        text = row.example if sentence in row.example else sentence
        if text == sentence and row.id not in [each.id for each in found(text)]:
            continue  # the sentence alone does not show it: the pattern wants more
        begin = text.index(sentence)
        for kind in (NAME, CODE):
            for word in kind.finditer(text):
                if word.end() <= begin or word.start() >= begin + len(sentence):
                    continue  # it stands beside the sentence, not in it
                if any(value in word[0] or word[0] in value for value in values(row)):
                    continue  # the row names what stands there, whatever it is
                for other in others(word[0], row):
                    whole = rf"(?<![\w-]){re.escape(word[0])}(?!\w)"
                    instead = re.sub(whole, other.replace("\\", r"\\"), text)
                    if any(each in instead and word[0] not in each for each in row.text):
                        continue  # another sentence of the row still says the same
                    made.append((other, instead))
    return made


@pytest.mark.parametrize("rows", groups(ROWS))
def test_another_name_or_code_is_another_failure(rows):
    wrong = {
        (row.id, other): text[:200]
        for row in rows
        for other, text in changed(row)
        if row.id in [each.id for each in found(text)]
    }
    assert wrong == {}


def test_names_and_codes_were_changed():
    assert sum(len(changed(row)) for row in ROWS) > 500


# ---- somebody's words ----

QUOTED = {
    "a prompt in SGLang's log": "[2026-11-26 10:00:00] Receive: obj=GenerateReqInput(rid='4', "
    "text={text!r}, sampling_params={{'max_new_tokens': 16}})",
    "a reply in SGLang's log": "[2026-11-26 10:00:00] Finish: obj=GenerateReqInput(rid='4', "
    "text='why?'), out={{'text': {text!r}}}",
    "a request": '{{"model": "m", "messages": [{{"role": "user", "content": {json}}}]}}',
    "a request without blanks": '{{"messages":[{{"role":"user","content":{json}}}]}}',
    "a reply": '{{"choices":[{{"message":{{"role":"assistant","content":{json}}}}}]}}',
    "a conversation of Python's": "INFO: messages=[{{'role': 'user', 'content': {text!r}}}]",
}


@pytest.mark.parametrize("rows", groups(known().rows))
def test_a_quotation_is_no_failure(rows):
    for row in rows:
        as_json = json.dumps(row.example, ensure_ascii=len(row.id) % 2 == 0)
        said = {"text": row.example, "json": as_json}
        told = {
            name: ids
            for name, form in QUOTED.items()
            if not (name == "a reply" and row.example.startswith("reply "))  # there it is one
            and (ids := [each.id for each in found(f"INFO: a line\n{form.format(**said)}")])
        }
        assert told == {}, row.id


CODED = "something failed, error code is 507012"  # of which no row knows
START = "[2026-11-26 10:00:00] server_args=ServerArgs(model_path='/m')"


@pytest.mark.parametrize(
    "before",
    [QUOTED["a prompt in SGLang's log"].format(text=CODED), f"SIGTERM received\n{CODED}\n{START}"],
    ids=["quoted", "after a stop"],
)
def test_a_code_is_still_heard_when_it_is_said_in_earnest(before):
    assert found(before) == [] or all(each.severity == "benign" for each in found(before))
    assert "507012" in [each.id for each in found(f"{before}\n{CODED}")]


# ---- a log that ends with JSON, and a reply ----

BODY = '{"object":"error","message":"The model x does not exist.","code":404}'
HEADERS = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\r\n"
METER = "  % Total    % Received\r\n100    74  100    74    0     0   7400      0 --:--:-- 7400\r\n"


def test_what_stands_before_json_is_read_too():
    failed = "ModuleNotFoundError: No module named 'orjson'"
    ids = [each.id for each in found(f"{failed}\n{BODY}")]
    assert ids[0] == [each.id for each in found(failed)][0] and "http-error-body" in ids


@pytest.mark.parametrize(
    "before", ["", "\n", HEADERS, METER + HEADERS, f"* Trying\n< x\n{HEADERS}"]
)
def test_a_reply_is_one_with_its_headers(before):
    (first, *_) = found(before + BODY)
    assert first.id == "http-error-body" and first.text.startswith("reply error: The model x")


# ---- what goes well ----


@cache
def packages() -> list[str]:
    "Packages that rows and owners name, and those of the sets."
    data = table("failures.toml")
    told = " ".join(
        text
        for row in (*data["failure"], *data["form"], *data["owner"])
        for part in ("fix", "missing", "mismatch")
        for text in row.get(part, {}).values()
    )
    named = re.findall(r"pip install ([^`]*)", told)
    words = {word.strip("'\",;.") for each in named for word in each.split()}
    words |= set(re.findall(r"No module named '(\w+)", " ".join(row.example for row in ROWS)))
    words |= {pin for stack in stacks().values() for pin in stack.pins}
    plain = {re.split(r"[=<>\[]", word)[0] for word in words}
    return sorted(each for each in plain if re.fullmatch(r"[a-z][\w.-]+", each))


PIP = """\
Collecting {name}
Collecting {name}==1.0 (from -r requirements.txt (line 3))
  Downloading {file}-1.0-cp311-cp311-manylinux_2_28_aarch64.whl (12.3 MB)
     ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 12.3/12.3 MB 45.6 MB/s eta 0:00:00
  Downloading https://pypi.org/packages/{file}-1.0.tar.gz (4.5 kB)
  Using cached {file}-1.0-py3-none-any.whl (12 kB)
Requirement already satisfied: {name} in /opt/env/lib/python3.11/site-packages (1.0)
Requirement already satisfied: {name}>=0.9 in ./env/lib (from sglang==0.5.23) (1.0)
  Getting requirements to build wheel: started
  Getting requirements to build wheel: finished with status 'done'
  Preparing metadata (pyproject.toml) ... done
Building wheels for collected packages: {name}
  Building wheel for {name} (pyproject.toml) ... done
  Created wheel for {name}: filename={file}-1.0-py3-none-any.whl size=1234 sha256=0a1b
Successfully built {name}
Installing collected packages: {name}
  Attempting uninstall: {name}
    Found existing installation: {name} 0.9
    Uninstalling {name}-0.9:
      Successfully uninstalled {name}-0.9
Successfully installed {name}-1.0
 + {name}==1.0
{name}                    1.0
Import {name} passed
"""
BUILDS = """\
-- Found {name}: /opt/{name} (found version "1.0")
-- Looking for {name} - found
-- Performing Test HAVE_{macro} - Success
-- Performing Test HAVE_{macro} - Failed
[ 50%] Building CXX object CMakeFiles/{name}.dir/csrc/error.cpp.o
[ 75%] Linking CXX shared library lib{file}.so
[100%] Built target {name}
copying {file}/errors.py -> build/lib/{file}
copying {file}/exceptions/failed.py -> build/lib/{file}/exceptions
adding '{file}/fatal_error.py'
running build_ext
"""


@pytest.mark.parametrize("lines", [PIP, BUILDS], ids=["pip", "builds"])
def test_packages_that_go_in_well_are_no_failure(lines):
    assert len(packages()) > 30 and Requirement("sglang")
    text = "".join(
        lines.format(name=name, file=name.replace("-", "_"), macro=name.upper())
        for name in packages()
    )
    for kind in KINDS:
        assert errors(text, kind) == []


SERVING = """\
[2026-11-26 10:00:00] server_args=ServerArgs(model_path='/models/Qwen3-8B', device='{device}')
[2026-11-26 10:00:01 TP0] Load weight begin. avail mem=60.81 GB
[2026-11-26 10:00:09 TP0] Load weight end. type=Qwen3ForCausalLM, avail mem=45.27 GB
[2026-11-26 10:00:09 TP0] KV Cache is allocated. #tokens: 262144, K size: 18.0 GB, V size: 18.0 GB
[2026-11-26 10:00:10 TP0] Memory pool end. avail mem=8.83 GB
[2026-11-26 10:00:12] INFO:     Started server process [4711]
[2026-11-26 10:00:12] INFO:     Uvicorn running on http://0.0.0.0:30000 (Press CTRL+C to quit)
[2026-11-26 10:00:14] The server is fired up and ready to roll!
[2026-11-26 10:00:15 TP0] Prefill batch. #new-seq: 1, #new-token: 500, #cached-token: 404, \
token usage: 0.00, #running-req: 0, #queue-req: 0,
[2026-11-26 10:00:16 TP0] Decode batch. #running-req: 1, #token: 507, token usage: 0.00, \
{graph} graph: True, gen throughput (token/s): 50.15, #queue-req: 0,
[2026-11-26 10:00:17] INFO:     127.0.0.1:50707 - "POST /v1/chat/completions HTTP/1.1" 200 OK
[2026-11-26 10:00:17] INFO:     127.0.0.1:50000 - "GET /health HTTP/1.1" 200 OK
[2026-11-26 10:00:17] INFO:     10.0.0.5:4040 - "GET /v1/models HTTP/1.1" 200 OK
[2026-11-26 10:00:18] Cache flushed successfully!
"""


@pytest.mark.parametrize("kind, device, graph", [("card", "npu", "npu"), ("cpu", "cpu", "cuda")])
def test_a_service_that_goes_on_is_no_failure(kind, device, graph):
    "With all the noise that a healthy run makes, between its lines."
    noise = [row.example for row in ROWS if row.severity == "benign" and not row.turn]
    assert len(noise) > 15
    lines = SERVING.format(device=device, graph=graph).splitlines()
    mixed = [f"{lines[at % len(lines)]}\n{said}" for at, said in enumerate(noise)]
    for known_kind in ("", kind):
        assert errors("\n".join([*lines, *mixed, *lines]), known_kind) == []


# ---- asked to end ----

STOPS = [row.example for row in ROWS if row.turn == "ends"]


def of_a_run(row) -> bool:
    "Whether a stop before an example ends its run: no reply, no example with a run of its own."
    alone = "server_args=" in row.example or any(each.startswith("reply ") for each in row.text)
    return not alone and row.id != "traceback-cut"  # that is about the end of a log


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop[:30])
@pytest.mark.parametrize("rows", groups(row for row in ERRORS if of_a_run(row)))
def test_what_follows_a_stop_is_no_failure(rows, stop):
    for row in rows:
        assert errors(f"{stop}\n{row.example}") == [], row.id
        assert row.id in [name for name, _ in errors(f"{row.example}\n{stop}")]
