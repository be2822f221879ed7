"""What can happen to a download, and what has to be true afterwards.

test_download.py takes the fast cases, prove_download.py the slow ones."""

import threading
import time

import pytest
from patience import patient

from qwen_npu_tut.model import download as module
from qwen_npu_tut.model.download import download
from qwen_npu_tut.rehearsal.hub import Fault
from qwen_npu_tut.model.folder import model_folder, read_receipt, verify
from qwen_npu_tut.base.events import Problem

MODEL = "owner/Small-0.6B"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


class Says(Fault):
    "A listing that something was done to."

    def __init__(self, change):
        super().__init__()
        self.change = change

    def listing(self, entries):
        return self.change(entries)


class Hangs(Fault):
    "An answer that comes late, or never."

    def __init__(self, pattern, seconds, times=None):
        super().__init__(pattern, times)
        self.seconds = seconds

    def answer(self, path):
        if self.strikes(path):
            time.sleep(self.seconds)


class Held(Fault):
    "Stops in the middle of the weights until `go` is set."

    def __init__(self, after):
        super().__init__("*.safetensors")
        self.after, self.go = after, threading.Event()

    def stream(self, path, start, blocks):
        sent = 0
        for block in blocks:
            if self.strikes(path) and sent >= self.after:
                self.go.wait(patient(60))
            sent += len(block)
            yield block


class Reset(Fault):
    "Breaks the connection off."

    def stream(self, path, start, blocks):
        struck = self.strikes(path)
        for block in blocks:
            yield block
            if struck:
                raise ConnectionResetError


class Changes(Fault):
    "Somebody uploads a new model after it was listed."

    def __init__(self, folder):
        super().__init__(SECOND, times=1)
        self.folder = folder

    def stream(self, path, start, blocks):
        if self.strikes(path):
            content = bytearray((self.folder / SECOND).read_bytes())
            content[-1] ^= 1
            (self.folder / SECOND).write_bytes(content)
        return blocks


def hurry(monkeypatch):
    "The client's patience and ours, cut short."
    from modelscope_hub import _download as client, _legacy_api as asking

    monkeypatch.setattr(asking, "REPO_TREE_PAGE_MAX_ATTEMPTS", 1)
    for name, value in {
        "DOWNLOAD_RETRY_TIMES": 1,
        "DOWNLOAD_INTEGRITY_RETRY_BACKOFF": 0.01,
    }.items():
        monkeypatch.setattr(client, name, value)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "PATIENCE", {False: 0.1, True: 0.1})


def proved(folder):
    "The look before a model is served."
    return verify(folder, "times")


def weights(folder):
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def sent_weights(hub):
    return sum(count for path, count in hub.sent.items() if path.endswith(".safetensors"))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def whole(hub, **more):
    "The download succeeds, and the folder is what the hub has, and nothing else."
    proof = download(MODEL, hub=hub.url, **more)
    assert proof and proved(proof.folder) and read_receipt(proof.folder).files
    assert contents(proof.folder) == contents(hub.folder)
    return proof.folder


def fails(hub, sentence, **more):
    """The download fails with this sentence and a fix, nobody calls the folder whole, and what has
    a final name is right. Gives the names that are left."""
    with pytest.raises(Problem, match=sentence) as raised:
        download(MODEL, hub=hub.url, **more)
    assert raised.value.code == 1 and raised.value.fix.endswith(".")
    return broken(hub, raised.value)


def broken(hub, problem=None):
    folder = model_folder(MODEL)
    assert read_receipt(folder) is None
    if not folder.exists():
        return set()
    assert not proved(folder) and not verify(folder) and not verify(folder, "quick")
    left = contents(folder)
    for name, content in left.items():
        if (hub.folder / name).exists():
            assert content == (hub.folder / name).read_bytes(), name
    return set(left)
