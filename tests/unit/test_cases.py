"What the program does is what was recorded, but for the differences that are named."

import cases
import pytest


@pytest.fixture(scope="module")
def found() -> dict[str, list[cases.Difference]]:
    return {kind: cases.compared(kind) for kind in cases.KINDS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", cases.KINDS)
def test_nothing_differs_but_what_is_named(found, kind):
    unnamed, _ = cases.judged(found[kind], cases.wanted())
    shown = "\n".join(map(str, unnamed[:5]))
    affected = len({each.case for each in unnamed})
    assert not unnamed, f"{len(unnamed)} places in {affected} cases differ; the first:\n{shown}"


@pytest.mark.slow
def test_every_named_difference_occurs(found):
    _, idle = cases.judged([each for every in found.values() for each in every], cases.wanted())
    assert not idle


def test_a_difference_is_named_by_its_place():
    was = {"steps": [{"name": "one", "command": ["a", "b"]}, {"name": "two", "command": ["c"]}]}
    new = {"name": "new", "command": []}
    now = {"steps": [new, {"name": "one", "command": ["a", "x"]}, was["steps"][1]]}
    told = [(each.place, each.was, each.now) for each in cases.differences(was, now, "case")]
    assert told == [
        ("steps/(order)", cases.ABSENT, "new"),
        ("steps/one/command", "b", "x"),
        ("steps/new", cases.ABSENT, '{"name": "new", "command": []}'),
    ]
    assert [each.was for each in cases.differences(1, True, "case")] == ["1"]


def test_a_named_difference_covers_its_cases_and_no_others():
    one, other = (
        cases.Difference("lines/cpu/port", place, "1", "2") for place in ("line", "environment/A")
    )
    row = {"cases": "lines/cpu/*", "what": "line", "why": "a reason"}
    assert cases.judged([one, other], [row]) == ([other], [])
    assert cases.judged([one], [row | {"now": "3"}]) == ([one], [row | {"now": "3"}])


def test_what_is_packed_is_unpacked():
    tree = {"a": ["x" * 100, "x" * 100, {"b": "y\n" * 50}], "c": None}
    document = cases.packed(tree)
    assert cases.unpacked(document) == tree and str(document).count("x" * 100) == 1
