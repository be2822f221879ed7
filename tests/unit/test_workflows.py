"The GitHub workflows, read by actionlint: they are not run here."

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def actionlint():
    found = shutil.which("actionlint", path=str(Path(sys.executable).parent)) or shutil.which(
        "actionlint"
    )
    if not found:
        pytest.skip("actionlint is not here: the dev extra brings it on Linux only")
    return found


def lint(actionlint: str, *files: Path) -> subprocess.CompletedProcess:
    "actionlint without the tools that it would also call where they are on PATH."
    options = ["-no-color", "-shellcheck=", "-pyflakes=", "-config-file", ".github/actionlint.yaml"]
    return subprocess.run(
        [actionlint, *options, *map(str, files)], cwd=ROOT, capture_output=True, text=True
    )


def test_workflows_are_valid(actionlint):
    assert [path.name for path in WORKFLOWS] == ["docs.yml", "npu.yml", "release.yml", "test.yml"]
    done = lint(actionlint, *WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_is_found(actionlint, tmp_path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:", 1))
    assert lint(actionlint, wrong).returncode != 0


def test_the_tests_run_on_both_architectures():
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    runners = {*matrix["runner"], *(more["runner"] for more in matrix["include"])}
    assert job["runs-on"] == "${{ matrix.runner }}" and runners == {
        "ubuntu-24.04",
        "ubuntu-24.04-arm",
    }


def test_nothing_runs_on_an_npu_by_itself():
    npu = (ROOT / ".github/workflows/npu.yml").read_text()
    assert "workflow_dispatch" in npu and "push:" not in npu and "pull_request" not in npu


RELEASE_FILE = ROOT / ".github/workflows/release.yml"
RELEASE = yaml.safe_load(RELEASE_FILE.read_text(encoding="utf8"))["jobs"]


def needed(job: str) -> set[str]:
    "The jobs that have to be done before this one."
    named = RELEASE[job].get("needs", [])
    named = {named} if isinstance(named, str) else set(named)
    return named.union(*(needed(each) for each in named))


def steps(job: str) -> str:
    "What a job uses and runs, in order."
    return "\n".join(step.get("uses") or step["run"] for step in RELEASE[job]["steps"])


def test_a_release_is_judged_tested_and_only_then_published():
    assert needed("publish") == {"tag", "test", "build", "wheel"}
    assert needed("docs") == {"publish"} | needed("publish")
    assert 'tools/release.py --tag "$GITHUB_REF_NAME"' in steps("tag")
    text = RELEASE_FILE.read_text(encoding="utf8")
    assert 'tags: ["v*"]' in text and "secrets." not in text and "password" not in text
    for called in ("test", "docs"):
        file = ROOT / RELEASE[called]["uses"]
        assert "workflow_call:" in file.read_text(encoding="utf8")


def test_only_the_jobs_that_publish_may_sign():
    "Trusted publishing: an identity for the one job that uploads, and for the docs' own."
    asks = {name for name, job in RELEASE.items() if "id-token" in job.get("permissions", {})}
    assert asks == {"publish", "docs"}
    publish = RELEASE["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert "checkout" not in steps("publish")
    assert all("run" not in step for step in publish["steps"]), "nothing of ours runs beside it"


def test_a_wheel_is_tried_outside_of_any_clone():
    assert "checkout" not in steps("wheel") and "qwen-npu up" in steps("wheel")
    assert steps("wheel").index("pip install dist/*.whl") < steps("wheel").index("qwen-npu chat")
