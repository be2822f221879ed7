"How long tests wait before they say that something does not happen."

import os
import time

# How many times slower this machine is than an ordinary one; `make arm` says 10.
SLOW = float(os.environ.get("QWEN_NPU_SLOW", "1"))


def patient(seconds: float) -> float:
    """A deadline in seconds, longer on a slow machine.

    A wait that is the point of a test is not one of these."""
    return seconds * SLOW


def until(question, seconds=10.0):
    "Wait for something to become true."
    deadline = time.monotonic() + patient(seconds)
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
