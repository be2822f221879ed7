"Downloads by the real clients from the hub on loopback, with faults; slow ones: prove_download."

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from outcomes import (
    FIRST,
    MODEL,
    SECOND,
    Changes,
    Held,
    Reset,
    Says,
    broken,
    contents,
    fails,
    hurry,
    proved,
    sent_weights,
    weights,
    whole,
)
from patience import patient

from qwen_npu_tut.model.download import download, repair, trusted
from qwen_npu_tut.rehearsal.hub import LISTING, Answers, Corrupt, Cut, Fault, Slow
from qwen_npu_tut.rehearsal.hub import Hub, small_model
from qwen_npu_tut.model.folder import model_folder, read_receipt, receipt_file, verify
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.settings import shown
from qwen_npu_tut.model.hubs import chosen_hub, hub_problem

PROGRAM = f"""
import os, sys
from qwen_npu_tut.model import download as module
from qwen_npu_tut.model.download import download
from qwen_npu_tut.base.events import Problem

if "QUICK" in os.environ: module.PATIENCE = {{False: 0, True: 0}}
seen = set()
def tell(event):
    if event.kind not in seen: print(event.kind, event.text, flush=True)
    seen.add(event.kind)

try: print(download({MODEL!r}, hub=sys.argv[1], tell=tell))
except Problem as problem: sys.exit(print(problem.what) or 1)
"""


@pytest.fixture(autouse=True)
def house(tmp_path, monkeypatch):
    "A home of its own for the package and for everybody else."
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "house"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "user").mkdir()
    return tmp_path / "house"


@pytest.fixture
def original(tmp_path):
    return small_model(tmp_path / "original")


@pytest.fixture
def script(tmp_path):
    "Starts a download in a process of its own; prints what it is told, then the proof."
    started = []

    def start(hub, **environment):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, hub],
                env=os.environ | environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def same(one, other):
    return contents(one) == contents(other)


def wait_for(what, seconds=10):
    end = time.monotonic() + patient(seconds)
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_plain(original, house, tmp_path, capfd):
    events = []
    with Hub(original, MODEL) as hub:
        proof = download(MODEL, hub=hub.url, tell=events.append)
    folder = house / "models" / "owner--Small-0.6B"
    assert proof and proof.folder == folder == model_folder(MODEL) and same(folder, original)
    assert (proof.files, proof.bytes) == (
        5,
        sum(file.stat().st_size for file in original.iterdir()),
    )
    receipt = read_receipt(folder)
    assert (receipt.model, receipt.source, receipt.revision, len(receipt.files)) == (
        MODEL,
        hub.url,
        "master",
        5,
    )
    assert receipt_file(folder) == house / "models" / "records" / "owner--Small-0.6B.json"
    done = [event.done for event in events]
    assert done == sorted(done) and done[-1] == proof.bytes == events[-1].total
    assert {event.kind for event in events} == {
        "downloading"
    }  # hashed while it was written, and not read again
    assert events[-1].rate > 0 and events[-1].left == 0
    assert capfd.readouterr() == ("", "")
    assert (
        list((tmp_path / "user").iterdir()) == []
    )  # the client kept its own things out of the user's home


def test_again_asks_nobody_and_imports_nothing_heavy(original, script):
    with Hub(original, MODEL) as hub:
        download(MODEL, hub=hub.url)
    began = time.perf_counter()
    assert download(MODEL, hub="http://127.0.0.1:9")
    assert time.perf_counter() - began < patient(0.05)
    code = """import sys
from qwen_npu_tut.model.download import download
assert download(sys.argv[1])
assert not {'modelscope_hub', 'requests', 'tqdm'} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code, MODEL], check=True, timeout=patient(20))


def test_a_touched_folder_is_settled_without_the_hub(original):
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    os.utime(folder / SECOND)
    assert not proved(folder)
    assert download(MODEL, hub="http://127.0.0.1:9") and proved(folder)


def test_another_model_under_the_same_name_comes_when_asked_for(original):
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    (original / "config.json").write_text('{"architectures": ["Other"]}')
    with Hub(original, MODEL) as hub:
        assert download(MODEL, hub=hub.url) and not hub.asked
        assert download(MODEL, hub=hub.url, fresh=True) and set(hub.sent) == {"config.json"}
    assert same(folder, original) and proved(folder)


def test_json_has_its_five_keys(original):
    (original / "config.json").unlink()
    (original / SECOND).write_bytes(b"")
    found = json.loads(json.dumps(verify(original).asdict()))
    assert found == {
        "folder": str(original),
        "whole": False,
        "files": 4,
        "bytes": found["bytes"],
        "missing": ["config.json"],
        "bad": [{"file": SECOND, "why": "It has 0 bytes, too few for the header it announces."}],
    }


def test_cut_and_resumed_to_the_byte(original):
    with Hub(original, MODEL, Cut(after=1_234_567)) as hub:
        assert download(MODEL, hub=hub.url)
    assert [start for _, _, start in hub.asked if start] == [1_234_567]
    assert sent_weights(hub) == weights(original)


def test_killed_and_finished(original, house, script):
    folder = house / "models" / "owner--Small-0.6B"
    with Hub(original, MODEL, Slow(0.05)) as hub:
        process = script(hub.url)
        wait_for(lambda: sent_weights(hub) > 2_000_000)
        process.kill()
        process.wait()
    assert read_receipt(folder) is None and not proved(folder)
    held = weights(folder) + sum(
        file.stat().st_size for file in folder.glob("*.safetensors.incomplete")
    )
    assert 0 < held < weights(original)
    with Hub(original, MODEL) as hub:
        assert download(MODEL, hub=hub.url)
    assert sent_weights(hub) == weights(original) - held and same(folder, original)


@pytest.mark.parametrize("speaks", ["modelscope", "huggingface"])
def test_ctrl_c_stops_at_once_and_keeps_what_came(original, house, script, speaks):
    with Hub(original, MODEL, Slow(0.05), speaks) as hub:
        process = script(hub.url)
        wait_for(lambda: sent_weights(hub) > 1_000_000)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=patient(10))
    assert time.monotonic() - began < patient(2) and "KeyboardInterrupt" in errors
    assert list((house / "models" / "owner--Small-0.6B").glob("*.incomplete"))


def test_two_at_once(original, script):
    with Hub(original, MODEL, held := Held(400_000)) as hub:
        first = script(hub.url)
        wait_for(lambda: hub.asked)
        second = script(hub.url)
        assert second.stdout.readline() == f"waiting {first.pid}\n"
        held.go.set()
        outputs = [process.communicate(timeout=patient(30))[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0) and all(
        "is whole: 5 files" in output for output in outputs
    )
    assert sent_weights(hub) == weights(original)


def test_corrupt_always(original, house, monkeypatch):
    hurry(monkeypatch)
    spoils = Corrupt(at=2_000_000, pattern=SECOND)
    with (
        Hub(original, MODEL, spoils) as hub,
        pytest.raises(Problem, match=f"{SECOND} of {MODEL} arrived several times"),
    ):
        download(MODEL, hub=hub.url)
    folder = house / "models" / "owner--Small-0.6B"
    assert not (folder / SECOND).exists() and read_receipt(folder) is None and not proved(folder)
    with Hub(original, MODEL) as healed:
        assert download(MODEL, hub=healed.url)
    assert set(healed.sent) == {SECOND}


def row(**changes):
    return lambda entries: [
        entry | (changes if entry["Path"] == SECOND else {}) for entry in entries
    ]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            lambda entries: entries + [entries[0] | {"Path": "../evil"}],
            "'../evil', which would be written outside",
        ),
        (
            lambda entries: entries + [entries[0] | {"Path": "/tmp/evil-by-listing"}],
            "which would be written outside",
        ),
        (
            lambda entries: entries + [entries[0] | {"Path": "a/../../../evil"}],
            "which would be written outside",
        ),
        (
            lambda entries: entries + [entries[0] | {"Path": "..\\evil"}],
            "which would be written outside",
        ),
        (lambda entries: [], "lists no files"),
        (lambda entries: [{"Path": "deeper", "Type": "tree"}], "lists no files"),
        (row(Sha256=None), "without a SHA-256"),
        (row(Sha256="abc"), "without a SHA-256"),
        (row(Size=None), "a size that cannot be true"),
        (row(Size=-1), "a size that cannot be true"),
        (lambda entries: entries + entries[:1], "lists a file of owner/Small-0.6B twice"),
        (lambda entries: "<html>", "something that is not a listing"),
    ],
)
def test_a_listing_that_is_not_trusted_writes_nothing(original, house, tmp_path, change, sentence):
    with Hub(original, MODEL, Says(change)) as hub, pytest.raises(Problem) as problem:
        download(MODEL, hub=hub.url)
    assert sentence in problem.value.what and problem.value.fix
    assert not (house / "models" / "owner--Small-0.6B").exists() and not hub.asked
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil-by-listing").exists()


@pytest.mark.parametrize(
    "gone, sentence",
    [
        (SECOND, SECOND),
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors.index.json", "model.safetensors"),
    ],
)
def test_a_listing_that_cannot_be_whole_costs_no_weights(original, gone, sentence):
    forgets = Says(lambda entries: [entry for entry in entries if entry["Path"] != gone])
    with (
        Hub(original, MODEL, forgets) as hub,
        pytest.raises(Problem, match=f"listing of {MODEL} lacks {sentence}"),
    ):
        download(MODEL, hub=hub.url)
    assert sent_weights(hub) == 0 and not proved(model_folder(MODEL))


def test_an_index_that_points_outside(original):
    (original / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../secret.safetensors"}})
    )
    with Hub(original, MODEL) as hub, pytest.raises(Problem, match="index.json cannot be used"):
        download(MODEL, hub=hub.url)


def test_a_hub_whose_hashes_are_right_and_whose_model_is_not(original):
    os.truncate(original / SECOND, 1000)
    with (
        Hub(original, MODEL) as hub,
        pytest.raises(Problem, match=f"{SECOND}: It has 1000 bytes, and its header describes 3000"),
    ):
        download(MODEL, hub=hub.url)
    assert read_receipt(model_folder(MODEL)) is None


def test_unknown_model_and_revision(original):
    with (
        Hub(original, "owner/another") as hub,
        pytest.raises(Problem, match=f"does not know {MODEL}"),
    ):
        download(MODEL, hub=hub.url)
        with pytest.raises(Problem, match="does not know owner/another"):
            download("owner/another", hub=hub.url, revision="v9")


def test_nobody_answers(script):
    process = script(
        "http://user:secret@127.0.0.1:9", QUICK="1", MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS="1"
    )
    output, errors = process.communicate(timeout=patient(20))
    assert (
        process.returncode == 1
        and "http://127.0.0.1:9 cannot be reached" in output
        and "secret" not in output + errors
    )


def test_a_proxy_is_not_asked_for_a_hub_on_this_machine(original, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Hub(original, MODEL) as hub:
        assert download(MODEL, hub=hub.url)
    assert "no_proxy" not in os.environ


def mounted(path, options):
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")


def test_no_room_is_said_before_a_byte(original, tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "size=2m")
    try:
        with (
            Hub(original, MODEL) as hub,
            pytest.raises(Problem, match="6.0 MB are still to come and .* has room for 2.1 MB"),
        ):
            download(MODEL, to=disk / "model", hub=hub.url)
        assert not hub.asked
    finally:
        subprocess.run(["umount", disk], check=False)


def test_a_disk_that_fills_on_the_way(original, tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "size=8m")

    class Fills(Fault):
        def stream(self, path, start, blocks):
            if self.strikes(path):
                (disk / "somebody else").write_bytes(bytes(5_000_000))
            return blocks

    try:
        with (
            Hub(original, MODEL, Fills("*.safetensors", times=1)) as hub,
            pytest.raises(Problem, match="The disk is full"),
        ):
            download(MODEL, to=disk / "model", hub=hub.url)
        assert read_receipt(disk / "model") is None and not proved(disk / "model")
        (disk / "somebody else").unlink()
        with Hub(original, MODEL) as hub:
            assert download(MODEL, to=disk / "model", hub=hub.url)
        assert sent_weights(hub) < weights(original)
    finally:
        subprocess.run(["umount", disk], check=False)


def test_a_target_that_cannot_be_written(original, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        Hub(original, MODEL) as hub,
        pytest.raises(Problem, match="cannot be written to: Not a directory"),
    ):
        download(MODEL, to=tmp_path / "file" / "model", hub=hub.url)
        disk = tmp_path / "disk"
        mounted(disk, "ro")
        try:
            with pytest.raises(Problem, match="cannot be written to: Read-only file system"):
                download(MODEL, to=disk / "model", hub=hub.url)
        finally:
            subprocess.run(["umount", disk], check=False)
    assert not hub.asked


def test_a_house_that_cannot_be_written(original, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "file"))
    with pytest.raises(Problem, match="cannot be used"):
        download(MODEL, hub="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "name",
    ["config.json", SECOND, f"{SECOND}.incomplete", f"{SECOND}.parallel_tmp", f"{SECOND}_0_99"],
)
def test_a_symbolic_link_is_not_followed(original, tmp_path, name):
    victim, target = tmp_path / "victim", tmp_path / "target"
    victim.write_text("mine")
    target.mkdir()
    (target / name).symlink_to(victim)
    with Hub(original, MODEL) as hub, pytest.raises(Problem, match="is a symbolic link"):
        download(MODEL, to=target, hub=hub.url)
    assert victim.read_text() == "mine" and not hub.asked


def test_a_folder_elsewhere_has_a_receipt_of_its_own(original, tmp_path, house):
    with Hub(original, MODEL) as hub:
        assert download(MODEL, to=tmp_path / "mine", hub=hub.url) and proved(tmp_path / "mine")
    assert not (house / "models" / "owner--Small-0.6B").exists() and same(
        tmp_path / "mine", original
    )
    assert receipt_file(tmp_path / "mine") != receipt_file(tmp_path / "deeper" / "mine")
    moved = (tmp_path / "mine").rename(tmp_path / "other")
    assert (
        read_receipt(moved) is None
        and not proved(moved)
        and "Nobody has proved it yet" in str(proved(moved))
    )
    assert verify(moved, "quick") and not proved(moved)  # a quick look is no proof
    assert verify(moved) and proved(moved)


@pytest.mark.parametrize(
    "hurt, whole_file",
    [
        (lambda file: os.truncate(file, 1000), "It has 1000 bytes instead of"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\1"),
            "Its content is not what it was",
        ),
        (lambda file: file.unlink(), "It is missing"),
    ],
)
def test_a_file_hurt_afterwards_is_named_and_fetched_alone(original, hurt, whole_file):
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    hurt(folder / SECOND)
    assert not proved(folder) and whole_file in str(verify(folder))
    with Hub(original, MODEL) as hub:
        assert download(MODEL, hub=hub.url)
    assert set(hub.sent) == {SECOND} and same(folder, original)


def test_what_is_wrong_with_a_folder_is_told_in_the_readers_language(original, monkeypatch):
    "Whole, or what is wrong with each file."
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    assert str(proved(folder)) == f"{shown(folder)} 完整：5 个文件，6.0 MB。"
    os.truncate(folder / SECOND, 1000)
    (folder / "config.json").unlink()
    lines = str(verify(folder)).splitlines()
    assert lines[0] == f"{shown(folder)} 中的模型不完整："
    assert lines[1].startswith(f"  {SECOND}：大小为 1000 字节，应为 ")
    assert lines[2] == "  config.json：缺失。"
    with pytest.raises(Problem, match="请补全模型"):
        proved(folder).or_problem()


def test_a_torn_receipt_counts_as_none(original):
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    for torn in ("", "[]", "{", '{"files": [{"path": 1}]}', '{"model": "a"}', "\0"):
        receipt_file(folder).write_text(torn)
        assert read_receipt(folder) is None and not proved(folder)
    with Hub(original, MODEL) as hub:
        assert download(MODEL, hub=hub.url)
    assert not hub.sent  # everything was there; only the proof was made again


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", SECOND])
def test_a_folder_of_ones_own(original, gone):
    assert download(str(original)) == proved(original)
    (original / gone).unlink()
    with pytest.raises(Problem, match=f"{gone}: It is missing"):
        download(str(original))


def test_from_a_folder(original, tmp_path, house):
    blobs = tmp_path / "blobs"
    original.rename(blobs)
    original.mkdir()
    for file in blobs.iterdir():
        (original / file.name).symlink_to(file)  # as Hugging Face's cache has it
    proof = download(MODEL, source=original)
    assert (
        proof
        and same(proof.folder, blobs)
        and not any(file.is_symlink() for file in proof.folder.iterdir())
    )
    (blobs / "config.json").unlink()
    with pytest.raises(Problem, match="config.json: It is missing"):
        download("owner/other", source=original)
    assert not (house / "models" / "owner--other").exists()
    with pytest.raises(Problem, match="There is no folder"):
        download("owner/third", source=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "model",
    [
        "Qwen3-8B",
        "../../etc/passwd",
        "a/b/c",
        "/no/such/folder",
        "",
        "a/..",
        "a b/c",
        "~/nothing",
        "~nobody-here/x",
        "a/" + "b" * 5000 + "/c",
        "a\0b",
    ],
)
def test_neither_folder_nor_id(model):
    with pytest.raises(Problem, match="neither a folder nor a model's id") as problem:
        download(model)
    assert problem.value.code == 2


def test_every_failure_has_words():
    import modelscope_hub as hub

    def words(error):
        return hub_problem(error, "a/b", "http://hub").what

    assert "arrived empty" in words(
        hub.FileIntegrityError("Hash mismatch for x: expected abc..., got e3b0c44298fc1c14...")
    )
    assert "arrived empty" in words(
        hub.FileSizeMismatchError(
            "Server announced 0 bytes for x but the repository lists 12 bytes"
        )
    )
    assert "arrived several times" in words(hub.FileIntegrityError("Hash mismatch"))
    assert "arrived empty" in words(
        OSError("Consistency check failed: file should be of size 12 but has size 0 (x)")
    )
    assert "does not let us read" in words(hub.PermissionDeniedError("no", status_code=403))
    assert "HTTP 503" in words(hub.ServerError("busy", status_code=503))
    assert "cannot be reached" in words(hub.NetworkError("下载失败"))
    assert "The disk is full" in words(OSError(28, "No space left on device"))
    assert "client failed at a/b: NameError" in words(NameError("x"))
    assert "could not be written" in words(OSError(30, "Read-only file system"))
    with pytest.raises(Problem, match="written outside"):
        trusted([SimpleNamespace(path="a/../..", size=1, sha256="0" * 64)], "a/b")


BOTH = pytest.mark.parametrize("speaks", ["modelscope", "huggingface"])


@BOTH
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: Fault(),
        lambda folder: Cut(1_000_000, times=3),
        lambda folder: Corrupt(2_000_000, times=1, pattern=SECOND),
        lambda folder: Answers(200, (folder / SECOND).read_bytes()[:-9], times=1, pattern=SECOND),
        lambda folder: Answers(200, b"", times=1, pattern=SECOND),
        lambda folder: Answers(200, b"<html>", times=1, pattern=SECOND),
        lambda folder: Answers(
            200, (folder / SECOND).read_bytes()[:-9], times=1, pattern=SECOND, Connection="close"
        ),
        lambda folder: Answers(429, times=1, Retry_After="1"),
        lambda folder: Answers(500, times=1),
        lambda folder: Reset("*.safetensors", times=1),
        lambda folder: Changes(folder),
    ],
    ids="plain cut corrupt truncated empty html unannounced 429 500 reset changed".split(),
)
def test_it_comes_whole_all_the_same(original, monkeypatch, speaks, make):
    hurry(monkeypatch)
    monkeypatch.setattr("qwen_npu_tut.model.download.PATIENCE", {False: 5, True: 5})
    with Hub(original, MODEL, make(original), speaks) as hub:
        whole(hub)
    assert (
        read_receipt(model_folder(MODEL)).revision
        == {"modelscope": "master", "huggingface": "main"}[speaks]
    )


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    "make, sentence, left",
    [
        (
            lambda folder: Corrupt(2_000_000, pattern=SECOND),
            f"{SECOND} of {MODEL} arrived several times",
            {FIRST},
        ),
        (
            lambda folder: Answers(200, (folder / SECOND).read_bytes()[:-9], pattern=SECOND),
            f"{SECOND} of {MODEL} arrived several times",
            {FIRST},
        ),
        (
            lambda folder: Answers(200, b"", pattern=SECOND),
            f"{SECOND} of {MODEL} arrived empty",
            {FIRST},
        ),
        (
            lambda folder: Answers(200, b"<html>", pattern=SECOND),
            f"{SECOND} of {MODEL} arrived several times",
            {FIRST},
        ),
        (lambda folder: Answers(401, pattern=SECOND), "does not let us read", {FIRST}),
        (lambda folder: Answers(403, pattern=SECOND), "does not let us read", {FIRST}),
        (lambda folder: Answers(404, pattern=SECOND), "does not know", {FIRST}),
        (lambda folder: Answers(500, pattern=SECOND), "answers HTTP 500", {FIRST}),
        (lambda folder: Answers(401, pattern=LISTING), "does not let us read", set()),
        (lambda folder: Answers(403, pattern=LISTING), "does not let us read", set()),
        (lambda folder: Answers(404, pattern=LISTING), "does not know", set()),
        (lambda folder: Answers(200, b"<html>", pattern=LISTING), "not a listing", set()),
        (
            lambda folder: Says(lambda entries: entries[:-1]),
            "listing of .* lacks tokenizer.json",
            set(),
        ),
        (
            lambda folder: Says(
                lambda entries: [entry for entry in entries if entry["Path"] != SECOND]
            ),
            f"lacks {SECOND}",
            set(),
        ),
        (
            lambda folder: Says(
                lambda entries: [entry | {"Path": "../" + entry["Path"]} for entry in entries]
            ),
            "written outside",
            set(),
        ),
    ],
    ids=[
        *"corrupt truncated empty html 401 403 404 500".split(),
        *"list-401 list-403 list-404 list-html tokenizer shard traversal".split(),
    ],
)
def test_it_fails_in_words_and_is_not_called_whole(
    original, monkeypatch, speaks, make, sentence, left
):
    hurry(monkeypatch)
    with Hub(original, MODEL, make(original), speaks) as hub:
        found = fails(hub, sentence)
    assert {name for name in found if name.endswith(".safetensors")} == left
    with Hub(original, MODEL, speaks=speaks) as hub:
        whole(hub)
    assert FIRST not in (hub.sent if left else {})


def test_a_hub_that_redirects(original):
    with Hub(original, MODEL) as other:
        address = f"{other.url}/api/v1/models/{MODEL}/repo?FilePath={{path}}"
        with Hub(original, MODEL, Answers(302, Location=address)) as hub:
            whole(hub)
    assert not sent_weights(hub) and sent_weights(other) == weights(original)


def test_a_hub_that_does_not_resume(original, house):
    half = house / "models" / "owner--Small-0.6B" / f"{SECOND}.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes((original / SECOND).read_bytes()[:2_000_000])
    with Hub(
        original, MODEL, Answers(200, (original / SECOND).read_bytes(), pattern=SECOND)
    ) as hub:
        whole(hub)


@BOTH
def test_half_a_file_of_another_model_is_noticed(original, house, monkeypatch, speaks):
    hurry(monkeypatch)
    monkeypatch.setattr("qwen_npu_tut.model.download.PATIENCE", {False: 5, True: 5})
    half = house / "models" / "owner--Small-0.6B" / f"{SECOND}.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"x" * 1000)
    with Hub(original, MODEL, speaks=speaks) as hub:
        whole(hub)


@BOTH
def test_half_a_file_is_gone_on_with(original, house, speaks):
    half = house / "models" / "owner--Small-0.6B" / f"{SECOND}.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes((original / SECOND).read_bytes()[:2_000_000])
    with Hub(original, MODEL, speaks=speaks) as hub:
        whole(hub)
    assert hub.sent[SECOND] == (original / SECOND).stat().st_size - 2_000_000


@pytest.mark.parametrize(
    "inside, link",
    [
        ("owner/Small-0___6B", True),
        ("owner/Small-0___6B", False),
        ("models/owner--Small-0.6B/snapshots/master", False),
    ],
)
def test_an_older_clients_folder_is_used_and_not_fetched_twice(original, tmp_path, inside, link):
    folder = tmp_path / "cache" / inside
    folder.parent.mkdir(parents=True)
    small_model(folder)
    if link:
        (folder.parent / "Small-0.6B").symlink_to(folder.name)
    (folder / SECOND).unlink()
    with Hub(original, MODEL) as hub:
        found = whole(hub, to=tmp_path / "cache")
    assert found.resolve() == folder and set(hub.sent) == {SECOND}
    assert download(MODEL, to=tmp_path / "cache", hub="http://127.0.0.1:9")


def test_what_clients_left_goes_away_and_nothing_else(original, tmp_path):
    target = small_model(tmp_path / "target")
    for name in (f"{SECOND}_0_999", f"{SECOND}.parallel_tmp", "notes_1_2", "config.json.bak"):
        (target / name).write_text("x")
    with Hub(original, MODEL) as hub:
        assert download(MODEL, to=target, hub=hub.url)
    assert {file.name for file in target.iterdir()} == {
        file.name for file in original.iterdir()
    } | {"notes_1_2", "config.json.bak"} and not hub.sent


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_waits_takes_over(original, script, end):
    with Hub(original, MODEL, held := Held(400_000)) as hub:
        first = script(hub.url)
        wait_for(lambda: sent_weights(hub) > 400_000)
        second = script(hub.url)
        assert second.stdout.readline() == f"waiting {first.pid}\n"
        first.send_signal(end)
        assert first.wait() == -end
        held.go.set()
        output = second.communicate(timeout=patient(30))[0]
    assert second.returncode == 0 and "is whole: 5 files" in output
    assert sent_weights(hub) < 1.5 * weights(original)


def test_a_read_only_model_that_was_proved_stays_whole(original, tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "size=20m")
    try:
        with Hub(original, MODEL) as hub:
            assert download(MODEL, to=disk / "model", hub=hub.url)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert download(MODEL, to=disk / "model", hub="http://127.0.0.1:9") and verify(
            disk / "model"
        )
    finally:
        subprocess.run(["umount", disk], check=False)


def test_offline_a_broken_model_is_not_called_whole(original, monkeypatch):
    hurry(monkeypatch)
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
    (folder / SECOND).unlink()
    with pytest.raises(Problem, match="cannot be reached"):
        download(MODEL, hub="http://127.0.0.1:9")
    assert not proved(folder) and f"{SECOND}: It is missing" in str(verify(folder))
    # its list is still known: whatever brings the file back, the model is proved without the hub
    assert read_receipt(folder)
    (folder / SECOND).write_bytes((original / SECOND).read_bytes())
    assert download(MODEL, hub="http://127.0.0.1:9")


def test_a_folder_behind_a_link_and_a_display_that_breaks(original, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "notes").symlink_to("somewhere")  # not a name that is written
    with Hub(original, MODEL) as hub:
        assert download(MODEL, to=tmp_path / "link", hub=hub.url, tell=lambda event: 1 / 0)
    (tmp_path / "real" / "notes").unlink()
    assert same(tmp_path / "real", original)


def test_through_a_proxy_with_a_token_that_nobody_sees(original, monkeypatch, capfd):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-0123-secret")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hub(original, MODEL) as hub:
        monkeypatch.setenv("http_proxy", hub.url)
        proof = download(MODEL, hub="http://models.invalid")
        hub.fault = Answers(403, pattern=LISTING)
        with pytest.raises(Problem, match="does not let us read") as refused:
            download(MODEL, hub="http://models.invalid", fresh=True)
    assert proof and read_receipt(proof.folder).source == "http://models.invalid"
    assert "secret" not in "".join(
        [str(refused.value), receipt_file(proof.folder).read_text(), *capfd.readouterr()]
    )


@pytest.mark.parametrize("refuses", [False, True], ids=["whole", "refused"])
def test_hugging_face_through_a_proxy_with_a_token(original, house, script, monkeypatch, refuses):
    for name in ("HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fault = Answers(403, pattern=SECOND) if refuses else Fault()
    with Hub(original, MODEL, fault, "huggingface") as hub:
        process = script("http://models.invalid", HF_TOKEN="hf-0123-secret", http_proxy=hub.url)
        output, errors = process.communicate(timeout=patient(30))
    said = "does not let us read" if refuses else "is whole: 5 files"
    assert process.returncode == int(refuses) and said in output
    receipt = receipt_file(house / "models" / "owner--Small-0.6B").read_text()
    assert "secret" not in output + errors + receipt and "http://models.invalid" in receipt


@pytest.mark.parametrize(
    "name, given, found",
    [
        ("MODELSCOPE_ENDPOINT", "http://hub.example/", "http://hub.example"),
        ("HF_ENDPOINT", "hf-mirror.com", "https://hf-mirror.com"),
    ],
)
def test_the_clients_variables_name_the_hub(monkeypatch, name, given, found):
    for each in ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "HF_ENDPOINT"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, given)
    assert (
        chosen_hub(None) == found and chosen_hub("http://other.example") == "http://other.example"
    )


def test_an_address_that_is_none():
    for wrong in ("hf-mirror.com", "ftp://hub/x"):
        with pytest.raises(Problem, match="is not a hub's address") as problem:
            download(MODEL, hub=wrong)
        assert problem.value.code == 2


def test_repair_fetches_what_is_bad_or_missing(original):
    with Hub(original, MODEL) as hub:
        folder = download(MODEL, hub=hub.url).folder
        (folder / "config.json").unlink()
        state = (folder / SECOND).stat()
        (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-1] + b"x")
        os.utime(
            folder / SECOND, ns=(state.st_atime_ns, state.st_mtime_ns)
        )  # nobody sees it but who reads
        assert [flaw.file for flaw in verify(folder, "quick").bad] == [] and [
            flaw.file for flaw in verify(folder).bad
        ] == [SECOND]
        before, events = hub.sent.copy(), []
        assert repair(folder, tell=events.append) and same(folder, original)
        assert set(hub.sent - before) == {"config.json", SECOND}
        assert [event.name for event in events if event.kind == "replacing"] == [SECOND]
    assert repair(folder)  # whole: nobody is asked


def test_repair_of_a_folder_that_nobody_knows(original, tmp_path):
    assert verify(original)
    (original / SECOND).unlink()
    with pytest.raises(Problem, match=f"{SECOND}: It is missing"):
        repair(original)
    (original / "config.json").unlink()
    receipt_file(original).unlink()
    with pytest.raises(Problem, match="config.json: It is missing"):
        repair(original)


def test_repair_from_a_folder(original, tmp_path):
    folder = download(MODEL, source=original).folder
    os.truncate(folder / SECOND, 5)
    assert repair(folder) and same(folder, original)


@pytest.fixture
def newer(original, tmp_path):
    "What the model is by now: in one file, without an index."
    folder = tmp_path / "newer"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((original / FIRST).read_bytes())
    (folder / "config.json").write_text('{"architectures": ["Newer"]}')
    (folder / "tokenizer.json").write_bytes((original / "tokenizer.json").read_bytes())
    return folder


@pytest.mark.parametrize("way", ["modelscope", "huggingface", "folder"])
def test_a_newer_model_replaces_an_older_one_as_a_whole(original, newer, way):
    folder = download(MODEL, source=original).folder
    (folder / "notes").write_text("mine")
    if way == "folder":
        assert download(MODEL, source=newer, fresh=True)
    else:
        with Hub(newer, MODEL, speaks=way) as hub:
            assert download(MODEL, hub=hub.url, fresh=True)
    assert contents(folder) == contents(newer) | {"notes": b"mine"} and proved(folder)
    assert [entry.path for entry in read_receipt(folder).files] == sorted(contents(newer))


def test_what_somebody_changed_is_not_taken_away(original, newer):
    folder = download(MODEL, source=original).folder
    (folder / SECOND).write_bytes(b"a file of somebody's own")
    assert download(MODEL, source=newer, fresh=True) and not (folder / FIRST).exists()
    assert (folder / SECOND).read_bytes() == b"a file of somebody's own"


def test_a_file_of_the_older_model_that_is_gone_already_hinders_nothing(original, newer):
    folder = download(MODEL, source=original).folder
    (folder / SECOND).unlink()
    assert download(MODEL, source=newer, fresh=True) and contents(folder) == contents(newer)


def test_an_interrupted_replacement_is_no_model(original, tmp_path):
    "Some files are new and some are old then: nothing serves that, and the next call ends it."
    folder, replaced = download(MODEL, source=original).folder, []
    for name in ("config.json", FIRST, SECOND):
        (original / name).write_bytes((original / name).read_bytes()[:-1] + b" ")
    (original / "config.json").write_text('{"architectures": ["Newer"]}')

    def interrupt(event):
        if event.kind == "replacing":
            replaced.append(event.name)
        if len(replaced) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(MODEL, source=original, fresh=True, tell=interrupt)
    assert (folder / "config.json").read_text() == '{"architectures": ["Newer"]}'
    assert not proved(folder) and not verify(folder) and not verify(folder, "quick")
    assert download(MODEL, source=original) and same(folder, original) and proved(folder)


def test_a_copy_is_told_like_a_download(original):
    events = []
    proof = download(MODEL, source=original, tell=events.append)
    copied = [event.done for event in events if event.kind == "copying"]
    assert copied == sorted(copied) and copied[-1] == proof.bytes
    assert {event.kind for event in events} == {"checking", "copying"}


def test_a_receipt_of_an_earlier_version_is_read_as_it_is(original, house):
    "Place and form of a receipt do not change."
    folder = small_model(house / "models" / "owner--Small-0.6B")
    rows = [
        {
            "path": file.name,
            "size": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "mtime_ns": file.stat().st_mtime_ns,
        }
        for file in sorted(folder.iterdir())
    ]
    document = {"model": MODEL, "folder": str(folder), "source": "http://hub", "revision": "master"}
    place = house / "models" / "records" / "owner--Small-0.6B.json"
    place.parent.mkdir()
    place.write_text(json.dumps(document | {"files": rows, "commit": ""}, indent=1))
    assert proved(folder) and read_receipt(folder).source == "http://hub"
    assert download(MODEL, hub="http://127.0.0.1:9")
    assert verify(folder) and list(json.loads(place.read_text())) == [*document, "files", "commit"]


def test_a_hub_whose_file_is_shorter_than_it_lists(original, monkeypatch):
    "It refuses to go on behind the end (416), and that is no reason to ask for ever."
    hurry(monkeypatch)
    longer = row(Size=(original / SECOND).stat().st_size + 9)
    with Hub(original, MODEL, Says(longer), "huggingface") as hub:
        assert fails(hub, f"{SECOND} of {MODEL} arrived several times")
    with Hub(original, MODEL, speaks="huggingface") as hub:
        whole(hub)


def test_shapes_that_are_not_the_configs(original):
    (original / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen3ForCausalLM"],
                "vocab_size": 2,
                "hidden_size": 2,
                "num_hidden_layers": 1,
            }
        )
    )
    (original / "model.safetensors.index.json").unlink()
    for name in (FIRST, SECOND):
        (original / name).unlink()
    header = json.dumps(
        {"lm_head.weight": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]}}
    ).encode()
    (original / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(12)
    )
    with Hub(original, MODEL) as hub:
        with pytest.raises(
            Problem, match=r"lm_head.weight has the shape \[3, 2\], and config.json says \[2, 2\]"
        ):
            download(MODEL, hub=hub.url)
    broken(hub)


def test_the_commands(run, original, tmp_path, monkeypatch):
    with Hub(original, MODEL) as hub:
        monkeypatch.setenv("QWEN_NPU_ENDPOINT", hub.url)
        code, out, _ = run("download", MODEL, "--json")
        found = json.loads(out)
        assert (code, found["whole"], found["files"]) == (0, True, 5)
        os.truncate(Path(found["folder"]) / SECOND, 5)
        code, out, _ = run("verify", found["folder"], "--quick")
        assert code == 1 and f"{SECOND}: It has 5 bytes instead of" in out
        code, out, err = run("verify", found["folder"], "--repair")
        assert (code, err) == (0, "") and "is whole: 5 files" in out
    code, out, err = run("download", MODEL, "--endpoint", "nowhere", "--revision", "v9")
    assert (code, out) == (2, "") and "is not a hub's address" in err and "Traceback" not in err


def test_a_folder_is_served_after_it_was_proved_and_not_before(original):
    with pytest.raises(Problem, match="Nobody has proved it yet") as problem:
        proved(original).or_problem()
    assert "qwen-npu verify" in problem.value.fix
    assert verify(original) and proved(original).or_problem()
