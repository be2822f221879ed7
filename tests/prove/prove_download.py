"""The slow rows of what can happen to a download, with the clients' own patience and ours.

The measured outcomes of the bare client stand beside each case: S is a model that is broken and was
called whole.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from outcomes import (
    FIRST,
    MODEL,
    SECOND,
    Hangs,
    broken,
    contents,
    fails,
    proved,
    sent_weights,
    weights,
    whole,
)
from patience import patient

from qwen_npu_tut.model import download as module
from qwen_npu_tut.model.download import download
from qwen_npu_tut.rehearsal.hub import LISTING, Answers, Corrupt, Cut, Fault, Slow
from qwen_npu_tut.rehearsal.hub import Hub, small_model
from qwen_npu_tut.model.folder import model_folder, read_receipt
from qwen_npu_tut.base.events import Problem

BOTH = pytest.mark.parametrize("speaks", ["modelscope", "huggingface"])
PROGRAM = f"""
import sys
from qwen_npu_tut.model.download import download

def tell(event):
    if event.kind in ("waiting", "retrying"): print(event.kind, event.text, flush=True)

print(download({MODEL!r}, hub=sys.argv[1], tell=tell))
"""


@pytest.fixture(autouse=True)
def house(tmp_path, monkeypatch):
    "A home of its own for the package and for everybody else."
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "house"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "house"


@pytest.fixture
def original(tmp_path):
    return small_model(tmp_path / "original")


@pytest.fixture
def large(tmp_path):
    return small_model(tmp_path / "large", size=10_000_000)  # 80 MB


def process(hub, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, hub.url],
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until(what, seconds=30):
    end = time.monotonic() + patient(seconds)
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        lambda: Cut(10_000_000, times=None),  # ok, 15 s; with few cuts only, its budget is six
        lambda: Cut(3_000_000, times=24),  # fails: more cuts than its budget
        lambda: Answers(429, times=2, Retry_After="1"),  # ok
        lambda: Answers(500, times=2),  # ok
        lambda: Answers(429, times=1, pattern=LISTING),  # ok
        lambda: Answers(500, times=1, pattern=LISTING),  # ok
        lambda: Corrupt(2_000_000, times=2),  # ok
    ],
    ids="cut-every-10-MB cut-often 429 500 list-429 list-500 corrupt-twice".split(),
)
def test_it_comes_whole_all_the_same(large, speaks, fault):
    with Hub(large, MODEL, fault(), speaks) as hub:
        whole(hub)


@BOTH
@pytest.mark.parametrize(
    "fault, sentence, longest",
    [
        (
            lambda: Cut(0, times=None),
            "cannot be reached, or stopped answering",
            240,
        ),  # FileDownloadError, 31 s
        (lambda: Answers(429, Retry_After="1"), "answers HTTP 429", 240),  # FileDownloadError, 30 s
        (lambda: Answers(503), "answers HTTP 503", 240),  # FileDownloadError, 30 s
        (lambda: Answers(503, pattern=LISTING), "answers HTTP 503", 40),  # ServerError, 7 s
        (
            lambda: Corrupt(2_000_000, pattern=SECOND),
            "arrived several times",
            30,
        ),  # FileDownloadError
    ],
    ids="cut-at-0 429 503 list-503 corrupt".split(),
)
def test_it_gives_up(original, speaks, fault, sentence, longest):
    began = time.monotonic()
    with Hub(original, MODEL, fault(), speaks) as hub:
        fails(hub, sentence)
    assert time.monotonic() - began < longest
    with Hub(original, MODEL, speaks=speaks) as hub:
        whole(hub)


def test_a_listing_that_never_comes(original):
    "RequestTimeoutError, 68 s."
    began = time.monotonic()
    with Hub(original, MODEL, Hangs(LISTING, 600)) as hub:
        fails(hub, "cannot be reached, or stopped answering")
    assert time.monotonic() - began < 180


@BOTH
def test_a_stall(original, speaks):
    "Ok after 62 s."
    with Hub(original, MODEL, Slow(90, piece=100_000, times=1, pattern=SECOND), speaks) as hub:
        whole(hub)


@pytest.mark.parametrize(
    "fault",
    [lambda: Slow(600, pattern=SECOND), lambda: Slow(5, piece=1, pattern=SECOND)],
    ids=["stall", "drip"],
)
def test_a_stall_or_a_drip_for_ever_ends(original, fault):
    """Stall: FileDownloadError, 392 s. Drip: still at it after 560 s; a client of the generation
    before waits for ever."""
    began = time.monotonic()
    with Hub(original, MODEL, fault()) as hub:
        fails(hub, "cannot be reached, or stopped answering")
    assert time.monotonic() - began < 900


def test_a_file_may_take_longer_than_the_clients_limit(large):
    """FileDownloadError at the limit, although half the file is there; here four seconds stand for
    its hour."""
    with Hub(large, MODEL, Slow(0.05)) as hub:
        going = process(hub, MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT="4")
        output, _ = going.communicate(timeout=patient(120))
        assert going.returncode == 0 and "retrying" in output and "is whole" in output
    assert sent_weights(hub) < 1.1 * weights(large) and contents(model_folder(MODEL)) == contents(
        large
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"MODELSCOPE_DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS": "1"},
        {"MODELSCOPE_HUB_FILE_LOCK": "false", "MODELSCOPE_DOWNLOAD_FILE_LOCK": "false"},
    ],
    ids=["short", "off"],
)
def test_two_at_once_whatever_the_clients_lock_does(large, environment):
    """Lock times out: the second fails. Lock off: three times the bytes, and in the generation
    before 14 of 15 files wrong: S."""
    with Hub(large, MODEL, Slow(0.02)) as hub:
        both = [process(hub, **environment) for _ in range(2)]
        outputs = [each.communicate(timeout=patient(120))[0] for each in both]
    assert [each.returncode for each in both] == [0, 0] and sum(
        "waiting" in output for output in outputs
    ) == 1
    assert sent_weights(hub) == weights(large) and contents(model_folder(MODEL)) == contents(large)


def test_ranges_killed_and_gone_on_without_leave_nothing(large, house):
    "The parts stay on the disk for good."
    ranges = {
        "MODELSCOPE_DOWNLOAD_PARALLEL_WORKERS": "4",
        "MODELSCOPE_DOWNLOAD_PARALLEL_THRESHOLD_MB": "1",
        "MODELSCOPE_DOWNLOAD_PART_SIZE_MB": "8",
    }
    with Hub(large, MODEL, Slow(0.05)) as hub:
        first = process(hub, **ranges)
        until(lambda: sent_weights(hub) > 10_000_000)
        first.kill()
        first.wait()
    assert list(model_folder(MODEL).glob("*_*_*")), "no ranges were used"
    broken(hub)
    with Hub(large, MODEL) as hub:
        whole(hub)
    with Hub(large, MODEL) as hub:
        again = process(hub, **ranges)
        assert "is whole" in again.communicate(timeout=patient(60))[0] and not hub.sent


@BOTH
def test_killed_over_and_over(large, speaks):
    "Resumes to the byte."
    for seconds in (0.6, 0.9, 0.7, 1.1):
        with Hub(large, MODEL, Slow(0.03), speaks) as hub:
            going = process(hub)
            threading.Timer(seconds, going.send_signal, [signal.SIGKILL]).start()
            going.communicate(timeout=patient(60))
        broken(hub)
    held = sum(file.stat().st_size for file in model_folder(MODEL).glob("model-0000*"))
    with Hub(large, MODEL, speaks=speaks) as hub:
        whole(hub)
    assert (
        0 < held < weights(large) and sent_weights(hub) == weights(large) - held
    )  # what is on the disk is not fetched again


def test_a_hub_that_goes_away_for_a_while(large):
    "FileDownloadError, 31 s."
    hub = Hub(large, MODEL, Slow(0.05)).__enter__()
    port = int(hub.url.rsplit(":", 1)[1])
    going = process(hub)
    until(lambda: sent_weights(hub) > 20_000_000)
    hub.fault = Cut(0, times=None)
    time.sleep(45)
    hub.fault = Fault()
    output, _ = going.communicate(timeout=patient(120))
    hub.__exit__()
    assert going.returncode == 0 and "is whole" in output and port


def test_nobody_answers_and_a_proved_model_goes_on(original, monkeypatch):
    "Fails, 7 s, also where the model is complete."
    with Hub(original, MODEL) as hub:
        folder = whole(hub)
    assert download(MODEL, hub="http://127.0.0.1:9") and proved(folder)
    began = time.monotonic()
    with pytest.raises(Problem, match="cannot be reached"):
        download("owner/other", hub="http://127.0.0.1:9")
    assert time.monotonic() - began < 40
    assert read_receipt(folder) and (folder / FIRST).exists() and module.PATIENCE[True] == 120
