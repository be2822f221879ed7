"The hub on loopback, asked by a plain HTTP client."

import hashlib
import json
import threading
from http.client import HTTPConnection, IncompleteRead
from urllib.parse import quote

import pytest
from patience import patient

from qwen_npu_tut.rehearsal.hub import (
    Corrupt,
    Cut,
    Fault,
    Hub,
    byte_range,
    listing,
    served,
    small_model,
)

MODEL = "owner/Small-0.6B"


@pytest.fixture
def folder(tmp_path):
    return small_model(tmp_path / "model", size=1000)


def ask(hub, path, method="GET", **headers):
    "Status, headers and body of one request, path sent as it is."
    connection = HTTPConnection("127.0.0.1", int(hub.url.rsplit(":", 1)[1]), timeout=patient(5))
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def file_at(path, revision="master"):
    return f"/api/v1/models/{MODEL}/repo?Revision={revision}&FilePath={quote(path, safe='')}"


def test_listing_has_what_the_client_reads(folder):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "notes.txt").write_text("你好")
    (folder / ".secret").write_text("stays here")
    with Hub(folder, MODEL) as hub:
        status, headers, body = ask(
            hub, f"/api/v1/models/{MODEL}/repo/files?Revision=master&Recursive=True"
        )
    rows = {row["Path"]: row for row in json.loads(body)["Data"]["Files"]}
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert "deeper/notes.txt" in rows and ".secret" not in rows and len(rows) == 6
    for path, row in rows.items():
        content = (folder / path).read_bytes()
        assert (row["Size"], row["Sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_file_is_hashed_again_only_when_it_changed(folder, monkeypatch):
    counted, digest = [], hashlib.file_digest
    monkeypatch.setattr(
        "qwen_npu_tut.rehearsal.hub.hashlib.file_digest",
        lambda *given: counted.append(given) or digest(*given),
    )
    first = listing(folder)
    assert listing(folder) == first and len(counted) == 5
    (folder / "config.json").write_text('{"architectures": ["Another"]}')
    assert listing(folder) != first and len(counted) == 6


@pytest.mark.parametrize(
    "asked, status, content_range, first, end",
    [
        (None, 200, None, 0, None),
        ("bytes=10-", 206, "bytes 10-{last}/{size}", 10, None),
        ("bytes=10-19", 206, "bytes 10-19/{size}", 10, 20),
        ("bytes=-5", 206, "bytes {tail}-{last}/{size}", -5, None),
        ("bytes=10-999999", 206, "bytes 10-{last}/{size}", 10, None),
        ("bytes=999999-", 416, "bytes */{size}", None, None),
        ("bytes=5-4", 416, "bytes */{size}", None, None),
        ("bytes=0-1,4-5", 200, None, 0, None),
        ("furlongs=1-2", 200, None, 0, None),
        ("bytes=²-", 200, None, 0, None),
    ],
)
def test_ranges(folder, asked, status, content_range, first, end):
    name = "model-00001-of-00002.safetensors"
    content = (folder / name).read_bytes()
    with Hub(folder, MODEL) as hub:
        answer = ask(hub, file_at(name), **({"Range": asked.encode("utf8")} if asked else {}))
    facts = {"size": len(content), "last": len(content) - 1, "tail": len(content) - 5}
    assert answer[0] == status
    assert answer[1]["Content-Range"] == (content_range.format(**facts) if content_range else None)
    if status != 416:
        assert answer[2] == content[first:end]


def test_an_empty_file(folder):
    (folder / "empty").touch()
    with Hub(folder, MODEL) as hub:
        assert ask(hub, file_at("empty"))[::2] == (200, b"")
        assert ask(hub, file_at("empty"), Range="bytes=0-")[0] == 416
    assert byte_range("bytes=-0", 5) is None


def test_head_says_the_length_and_sends_nothing(folder):
    with Hub(folder, MODEL) as hub:
        status, headers, body = ask(hub, file_at("config.json"), "HEAD")
        assert (status, int(headers["Content-Length"]), body) == (
            200,
            (folder / "config.json").stat().st_size,
            b"",
        )
        assert hub.asked == [("HEAD", "config.json", 0)] and not hub.sent


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/repos/internalAccelerationInfo",
        "/api/v1/models/owner/other/repo/files",
        f"/api/v1/models/{MODEL}",
        f"/api/v1/models/{MODEL}/repo",
        file_at("../model/config.json"),
        file_at("/etc/passwd"),
        file_at("./config.json"),
        file_at("nothing"),
        file_at("config.json", "v9"),
        f"/api/v1/models/{MODEL}/repo/files?Revision=v9",
        "//" + "a" * 2000,
    ],
)
def test_what_is_not_there_is_a_404_in_json(folder, path):
    with Hub(folder, MODEL) as hub:
        status, _, body = ask(hub, path)
    assert status == 404 and json.loads(body)["Success"] is False


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(folder, method):
    with Hub(folder, MODEL) as hub:
        status, headers, body = ask(hub, file_at("config.json"), method)
    assert (status, headers["Allow"], json.loads(body)["Code"]) == (405, "GET, HEAD", 405)


def test_a_cut_closes_the_connection_once(folder):
    name = "model-00002-of-00002.safetensors"
    with Hub(folder, MODEL, Cut(after=100)) as hub:
        with pytest.raises(IncompleteRead) as cut:
            ask(hub, file_at(name))
        assert len(cut.value.partial) == 100
        assert ask(hub, file_at(name))[2] == (folder / name).read_bytes()
        assert ask(hub, file_at("config.json"))[0] == 200


def test_corruption_hits_the_byte_and_only_it_also_in_a_range(folder):
    name = "model-00002-of-00002.safetensors"
    content = (folder / name).read_bytes()
    with Hub(folder, MODEL, Corrupt(at=1500, times=2)) as hub:
        whole, part, third = (
            ask(hub, file_at(name), **headers)[2] for headers in ({}, {"Range": "bytes=1500-"}, {})
        )
    assert [i for i, (a, b) in enumerate(zip(whole, content)) if a != b] == [1500]
    assert part[0] != content[1500] and part[1:] == content[1501:] and third == content


def test_a_fault_counts_down_across_threads():
    fault, hits = Fault("*.bin", times=50), []
    threads = [
        threading.Thread(target=lambda: hits.extend(fault.strikes("a.bin") for _ in range(40)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(hits) == 50 and not fault.strikes("a.txt")


def test_it_is_gone_after_the_block(folder):
    with Hub(folder, MODEL) as hub:
        assert hub.url.startswith("http://127.0.0.1:")
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "/")


def test_no_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match="no folder"):
        Hub(tmp_path / "nowhere", MODEL)
    assert served(tmp_path) == {}
