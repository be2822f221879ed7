"How long tests wait before they say that something does not happen."

import os

# How many times slower this machine is than an ordinary one; `make arm` says 10.
SLOW = float(os.environ.get("QWEN_NPU_SLOW", "1"))


def patient(seconds: float) -> float:
    """A deadline in seconds, longer on a slow machine.

    A wait that is the point of a test is not one of these."""
    return seconds * SLOW
