"""What was run where: the rows of grades.toml say nothing that cannot be looked up.

A grade is one of six words, a proof is a test or a command that exists; nothing claims an NPU."""

import ast
import re
from pathlib import Path

import pages
import pytest

from qwen_npu_tut.base.events import table
from qwen_npu_tut.faces.cli import app

ROOT = Path(__file__).resolve().parents[2]
TABLE = table("grades.toml")
ROWS = [*TABLE["step"], *TABLE["beside"]]
GRADES = ["npu", "emulated", "cpu", "resolved", "stated", "inferred"]  # the strongest first
# The walk in its order, written down here a second time: a step that nobody graded is seen.
WALK = [
    *("check", "plan", "install", "kernels", "download", "launch line", "start", "first reply"),
    *("chat", "thinking", "tools", "schema", "contract", "memory", "graphs", "tensor parallel"),
    *("HCCL", "speed", "numbers", "driver and CANN", "systemd", "image", "offline"),
]
# An emulation says nothing about these.
BEYOND = {"HCCL", "speed", "numbers", "driver and CANN", "kernels"}
CLAIMS = [
    pytest.param(row, grade, id=f"{row['name']}: {grade}")
    for row in ROWS
    for grade in GRADES
    if grade in row
]


def commands() -> set[str]:
    "What can follow `qwen-npu`."
    named = [each.name or each.callback.__name__ for each in app.registered_commands]
    return {*named, *(group.name for group in app.registered_groups)}


def exists(proof: str) -> bool:
    "Whether a proof is a file of tests, with the function that is named, or a command of ours."
    first, *words = proof.split()
    if first == "make":
        return bool(re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M))
    if first == "qwen-npu":
        return words[0] in commands()
    path, _, function = proof.partition("::")
    if not (path.startswith("tests/") and (ROOT / path).is_file()):
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf8"))
    return not function or function in {getattr(each, "name", "") for each in tree.body}


def test_the_grades_are_six_and_ordered():
    assert list(TABLE["grades"]) == GRADES
    assert all(each["en"] and each["zh"] for each in TABLE["grades"].values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_row_has_words_of_the_list_alone(row):
    assert row.keys() <= {"name", "what", *GRADES}
    assert [key for key in row if key in GRADES] == [each for each in GRADES if each in row]
    assert row["what"].keys() == {"en", "zh"} and all(row["what"].values())
    assert row.keys() & set(GRADES), "a step without any grade is a step that we know nothing of"


def test_every_step_of_the_walk_is_there_once():
    assert [row["name"] for row in TABLE["step"]] == WALK
    assert len({row["name"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row, grade", CLAIMS)
def test_a_claim_says_what_was_run_and_by_what(row, grade):
    claim = row[grade]
    assert claim.keys() == {"en", "zh", "by"} and claim["en"] and claim["zh"] and claim["by"]
    missing = [each for each in claim["by"] if not exists(each)]
    assert not missing, f"neither a test nor a command: {missing}"


def test_nothing_claims_an_npu():
    "The day somebody sends a record, this test is told which."
    assert [row["name"] for row in ROWS if "npu" in row] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_tells_every_claim(language):
    "A step without any grade would be an empty cell in its first table."
    told = "\n".join(
        "".join(cell["source"]) for cell in pages.notebook("proved", language)["cells"]
    )
    for row in ROWS:
        found = [grade for grade in GRADES if grade in row]
        listed = {"en": ", ", "zh": "、"}[language].join(found)
        assert f"| {row['what'][language]} | {listed} |" in told
        (line,) = re.findall(rf"^\| {re.escape(row['what'][language])} \| (\*\*.*)$", told, re.M)
        assert line.count("<br>") == len(found) - 1
        for grade in found:
            assert row[grade][language] in line
            assert all(f"`{by}`" in line for by in row[grade]["by"])


def test_what_is_emulated_was_run_on_the_emulation():
    for row in ROWS:
        places = row.get("emulated", {"by": []})["by"]
        fit = r"tests/(emulated/|prove/prove_(emulated\w*|guide)\.py)|qwen-npu .*--stack emulated"
        fit += r"|make test ARGS='--only recorded'"
        assert all(re.match(fit, each) for each in places), row["name"]
    assert [row["name"] for row in ROWS if row["name"] in BEYOND and "emulated" in row] == []


@pytest.mark.parametrize(
    "proof", ["tests/unit/test_no_such.py", "qwen-npu fly", "make gold", "qwen_npu_tut/walk.py"]
)
def test_a_proof_that_is_none_is_seen(proof):
    assert not exists(proof)


def test_a_proof_may_name_one_test():
    assert exists("tests/unit/test_grades.py::test_nothing_claims_an_npu")
    assert not exists("tests/unit/test_grades.py::test_that_is_not_here")


def test_the_readmes_lead_to_the_table():
    for name, page in {"README.md": "proved", "README.zh.md": "zh/proved"}.items():
        assert f"](nbs/{page}.ipynb)" in (ROOT / name).read_text(encoding="utf8"), name


def test_the_notice_goes_along_with_the_package():
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf8").split())
    for said in (
        "contains no code of torch_npu, of sgl-kernel-npu or of CANN",
        "not affiliated with Huawei, and Huawei does not endorse it",
        "datawhalechina/self-llm, by Datawhale and its contributors: Apache License 2.0",
        "sgl-project/sglang, by the SGLang team: Apache License 2.0",
    ):
        assert said in notice
    assert "NOTICE" in (ROOT / "MANIFEST.in").read_text().split()
