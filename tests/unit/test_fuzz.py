(
    """""Whatever comes in, an answer comes out or an error of ours.

A few hundred cases each; `make prove` runs 10,000."""
    ""
)

import io
import json
import os
import re
import shlex
from pathlib import Path

import machines
import pytest
from any_json import JSON, keyed, many
from hypothesis import given, strategies as st

from qwen_npu_tut.server.client import chat_body, curl_line, endpoint_of, split_thinking
from qwen_npu_tut.base.diagnose import diagnose, reply_lines
from qwen_npu_tut.base.failures import decode, known
from qwen_npu_tut.rehearsal.hub import byte_range, shard
from qwen_npu_tut.model.folder import read_receipt, receipt_file, safe, tensors
from qwen_npu_tut.host.npusmi import read_npu_smi
from qwen_npu_tut.host.record import read_record, scrub
from qwen_npu_tut.engine.resolve import classify
from qwen_npu_tut.server.lifecycle import Server, status
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.settings import Settings, read_settings
from qwen_npu_tut.host.software import accepts, read_version_file, version_key

PATHS = st.text() | st.lists(
    st.sampled_from(["..", ".", "", "a", "model.safetensors", "\\", "C:", "x.incomplete"]),
    max_size=5,
).map("/".join)
SERVER = Server("default", "a-model", "http://127.0.0.1:30000", 1, "", "", "", (), 0.0)


@many
@given(PATHS)
def test_a_safe_path_stays_inside(path):
    if safe(path):
        joined = os.path.normpath(os.path.join("/models/one", path))
        assert joined.startswith("/models/one/") and "\0" not in path


@many
@given(st.text(), st.integers(0, 1000))
def test_a_range_is_within_the_file(asked, size):
    for text in (asked, f"bytes={asked}"):
        found = byte_range(text, size)
        assert found is None or found == (0, size) or 0 <= found[0] < found[1] <= size


@many
@given(st.integers(0, 2000), st.integers(-2000, 2000))
def test_a_range_means_what_it_says(start, length):
    found = byte_range(f"bytes={start}-{start + length}", 1000)
    if length < 0 or start >= 1000:
        assert found in (None, (0, 1000))
    else:
        assert found == (start, min(1000, start + length + 1))


@many
@given(
    data=st.binary(max_size=200),
    place=st.integers(0, 200),
    header=JSON | keyed(["a", "__metadata__"]),
)
def test_a_shard_is_read_or_refused(tmp_path, data, place, header):
    good, text = shard(["a", "b"], 8), json.dumps(header).encode()
    for content in (
        data,
        good[:place] + data + good[place + len(data) :],
        len(text).to_bytes(8, "little") + text + data,
    ):
        (tmp_path / "file").write_bytes(content)
        try:
            assert all(isinstance(name, str) for name in tensors(tmp_path / "file"))
        except ValueError as error:
            assert str(error).startswith("It")


@many
@given(
    text=keyed(["model", "folder", "source", "revision", "files"]).map(json.dumps)
    | JSON.map(json.dumps)
    | st.text()
)
def test_a_damaged_receipt_counts_as_none(tmp_path, text):
    os.environ["QWEN_NPU_HOME"] = str(tmp_path)
    file = receipt_file(tmp_path / "models" / "one")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf8", "surrogatepass"))
    assert read_receipt(tmp_path / "models" / "one") is None


@many
@given(
    text=keyed(list(Server.__dataclass_fields__)).map(json.dumps) | JSON.map(json.dumps) | st.text()
)
def test_a_damaged_document_of_a_server_is_a_state(tmp_path, text):
    os.environ["QWEN_NPU_HOME"] = str(tmp_path)
    (tmp_path / "servers").mkdir(exist_ok=True)
    (tmp_path / "servers" / "default.json").write_bytes(text.encode("utf8", "surrogatepass"))
    assert status("default")["state"] in ("stopped", "dead")


@many
@given(
    data=st.binary()
    | st.text().map(str.encode)
    | st.tuples(st.sampled_from(["port", "host", "model", "nothing"]), JSON.map(json.dumps)).map(
        lambda pair: f"{pair[0]} = {pair[1]}".encode()
    )
)
def test_a_settings_file_is_read_or_refused(tmp_path, data):
    (tmp_path / "qwen-npu.toml").write_bytes(data)
    try:
        assert isinstance(read_settings(tmp_path / "qwen-npu.toml", environment={}), Settings)
    except Problem as problem:
        assert problem.code == 2 and problem.fix


@many
@given(st.text(), st.text())
def test_thinking_is_split_where_it_ends(thinking, answer):
    split_thinking(thinking)
    if "</think>" not in thinking:
        assert split_thinking(f"<think>\n{thinking}\n</think>\n\n{answer}") == (
            thinking.strip(),
            answer.lstrip("\n"),
        )


@many
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_question_survives_the_shell(question):
    body = chat_body(SERVER.name, [{"role": "user", "content": question}], think=False)
    words = shlex.split(curl_line(endpoint_of(SERVER), body).replace(" \\\n", " "))
    assert json.loads(words[words.index("-d") + 1])["messages"] == body["messages"]


PRINTED = [
    text
    for machine in (machines.A2, machines.A3, machines.OLD_910)
    for text in machine.answers().values()
    if len(text) > 60
]
PRINTED += [
    text
    for machine in (machines.A2, machines.A3)
    for path, text in machine.files().items()
    if text and "Ascend" in path
]
COMMANDS = st.sampled_from(
    [
        "npu-smi info",
        "npu-smi info -m",
        "npu-smi info -t board -i 0",
        "npu-smi info -t health -i 0",
        "",
    ]
) | st.text(max_size=9)


@st.composite
def damaged(draw):
    "A text that was printed, with pieces cut out, doubled, or replaced."
    text = draw(st.sampled_from(PRINTED))
    for _ in range(draw(st.integers(0, 5))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, min(len(text), begin + 200)))
        text = (
            text[:begin]
            + draw(
                st.sampled_from(["", text[begin:end] * 2, "|", "\n", "NA", "/ ", "9" * 30, "\x00"])
                | st.text(max_size=5)
            )
            + text[end:]
        )
    return text


@many
@given(text=damaged() | st.text(), command=COMMANDS)
def test_whatever_npu_smi_prints_is_read_and_no_number_is_made_up(text, command):
    reading = json.loads(json.dumps(read_npu_smi(text, command).asdict()))
    printed = set(re.findall(r"[0-9]+(?:\.[0-9]+)?", text))
    rows = [
        *(reading.get("devices") or []),
        *(reading.get("processes") or []),
        *reading.get("map", []),
        *reading.get("non_compute", []),
    ]
    for row in rows:
        for value in row.values():
            if isinstance(value, int | float):
                assert any(float(word) == abs(value) for word in printed), (value, text)


@many
@given(
    text=damaged() | st.text(),
    path=st.sampled_from(
        ["/a/driver/version.info", "version.cfg", "/etc/ascend_install.info", "x.ini", "", "/"]
    )
    | st.text(),
)
def test_whatever_a_version_file_holds_is_read(text, path):
    found = read_version_file(text, path)
    assert found.path == path and json.dumps(found.asdict())
    assert found.version is None or found.version in text


@many
@given(
    st.lists(
        st.text() | st.from_regex(r"[0-9]{1,3}(\.(rc|RC|b|sph)?[0-9]{1,3}){0,4}", fullmatch=True),
        min_size=3,
        max_size=3,
    )
)
def test_versions_have_an_order(versions):
    one, two, three = sorted(versions, key=version_key)
    assert accepts([[one, three]], two)
    accepts([versions], versions[0])


@many
@given(
    before=st.binary(max_size=300),
    row=st.sampled_from([row for row in known().rows if row.id != "traceback-cut"]),
    after=st.binary(max_size=300),
    text=st.text(),
)
def test_a_failure_is_found_wherever_it_stands(before, row, after, text):
    before = before.replace(b"\x1b", b"").replace(b"\r", b"")
    # a log that names an emulated NPU is not a card's
    before, after = (each.replace(b"-emulated-npu", b"") for each in (before, after))
    log = before + b"\n" + row.example.encode() + b"\n" + after
    found = diagnose(io.BytesIO(log))
    mine = next(each for each in found if each.id == row.id)
    last = before.count(b"\n") + 2 + row.example.count("\n")
    if any(each.startswith("reply ") for each in row.text) or reply_lines(log):
        last += 5  # a reply's JSON is read as five lines
    assert mine.line <= last and mine.severity == row.severity
    assert all(each.isprintable() for each in mine.text) and json.dumps(
        [each.asdict() for each in found]
    )
    decode(text)


@many
@given(
    keyed(
        [
            "qwen_npu_record",
            "files",
            "commands",
            "variables",
            "denied",
            "groups",
            "python",
            "disk_bytes",
        ]
    ).map(json.dumps)
    | JSON.map(json.dumps)
    | st.text()
)
def test_a_damaged_record_of_a_machine_is_refused(tmp_path, text):
    (tmp_path / "machine.json").write_bytes(text.encode("utf8", "surrogatepass"))
    try:
        read_record(tmp_path / "machine.json")
    except Problem as problem:
        assert problem.code == 2 and problem.fix


@many
@given(st.text(), st.sampled_from(["li", "node-17", "wang.wei"]), st.text())
def test_a_name_does_not_stay(before, name, after):
    assert f" {name} " not in scrub(f"{before} {name} {after}", [name])


@many
@given(st.integers() | st.none(), st.text())
def test_a_resolver_always_gets_one_of_four_words(code, said):
    assert classify(code, said) in (
        "resolves",
        "does not exist",
        "does not fit",
        "index not reached",
    )


@pytest.fixture(autouse=True)
def kept_home(monkeypatch, tmp_path: Path):
    "QWEN_NPU_HOME is put back after each test."
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path))
