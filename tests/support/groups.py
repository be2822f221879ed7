"Many small cases in one test each: a test of its own costs more than what is tried in it."

from collections.abc import Iterable

import pytest


def groups(cases: Iterable, size: int = 25) -> list:
    "Parameters of so many cases each, named by their first one."
    cases = [*cases]
    return [
        pytest.param(cases[place : place + size], id=str(getattr(first, "id", first))[:40])
        for place in range(0, len(cases), size)
        for first in cases[place : place + 1]
    ]
