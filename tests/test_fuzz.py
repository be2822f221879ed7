"""Whatever comes in, an answer comes out or an error of ours. A few hundred cases each; `make prove` runs 10,000."""
import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from qwen_npu_tut.call import chat_body, curl_line, split_thinking
from qwen_npu_tut.hub import byte_range, shard
from qwen_npu_tut.model import read_record, record_file, safe, tensors
from qwen_npu_tut.serve import Server, status
from qwen_npu_tut.settings import Problem, Settings, read_settings

many = settings(max_examples=int(os.environ.get("QWEN_NPU_EXAMPLES", "200")), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
PATHS = st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "model.safetensors", "\\", "C:", "x.incomplete"]), max_size=5).map("/".join)
SERVER = Server("default", "a-model", "http://127.0.0.1:30000", 1, "", "", "", (), 0.0)


def keyed(names: list[str]):
    "Objects that have some of these names, with any values."
    return st.dictionaries(st.sampled_from(names), JSON, max_size=len(names))


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
    if length < 0 or start >= 1000: assert found in (None, (0, 1000))
    else: assert found == (start, min(1000, start + length + 1))


@many
@given(data=st.binary(max_size=200), place=st.integers(0, 200), header=JSON | keyed(["a", "__metadata__"]))
def test_a_shard_is_read_or_refused(tmp_path, data, place, header):
    good, text = shard(["a", "b"], 8), json.dumps(header).encode()
    for content in (data, good[:place] + data + good[place + len(data):], len(text).to_bytes(8, "little") + text + data):
        (tmp_path / "file").write_bytes(content)
        try: assert all(isinstance(name, str) for name in tensors(tmp_path / "file"))
        except ValueError as error: assert str(error).startswith("It")


@many
@given(text=keyed(["model", "folder", "source", "revision", "files"]).map(json.dumps) | JSON.map(json.dumps) | st.text())
def test_a_damaged_record_counts_as_none(tmp_path, text):
    os.environ["QWEN_NPU_HOME"] = str(tmp_path)
    file = record_file(tmp_path / "models" / "one")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf8", "surrogatepass"))
    assert read_record(tmp_path / "models" / "one") is None


@many
@given(text=keyed(list(Server.__dataclass_fields__)).map(json.dumps) | JSON.map(json.dumps) | st.text())
def test_a_damaged_server_record_is_a_state(tmp_path, text):
    os.environ["QWEN_NPU_HOME"] = str(tmp_path)
    (tmp_path / "servers").mkdir(exist_ok=True)
    (tmp_path / "servers" / "default.json").write_bytes(text.encode("utf8", "surrogatepass"))
    assert status("default")["state"] in ("stopped", "dead")


@many
@given(data=st.binary() | st.text().map(str.encode) | st.tuples(st.sampled_from(["port", "host", "model", "nothing"]), JSON.map(json.dumps)).map(lambda pair: f"{pair[0]} = {pair[1]}".encode()))
def test_a_settings_file_is_read_or_refused(tmp_path, data):
    (tmp_path / "qwen-npu.toml").write_bytes(data)
    try: assert isinstance(read_settings(tmp_path / "qwen-npu.toml", environment={}), Settings)
    except Problem as problem: assert problem.code == 2 and problem.fix


@many
@given(st.text(), st.text())
def test_thinking_is_split_where_it_ends(thinking, answer):
    split_thinking(thinking)
    if "</think>" not in thinking: assert split_thinking(f"<think>\n{thinking}\n</think>\n\n{answer}") == (thinking.strip(), answer.lstrip("\n"))


@many
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_question_survives_the_shell(question):
    body = chat_body(SERVER.name, [{"role": "user", "content": question}], think=False)
    words = shlex.split(curl_line(SERVER, body).replace(" \\\n", " "))
    assert json.loads(words[words.index("-d") + 1])["messages"] == body["messages"]


@pytest.fixture(autouse=True)
def kept_home(monkeypatch, tmp_path: Path):
    "QWEN_NPU_HOME is put back after each test."
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path))
