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
    assert [path.name for path in WORKFLOWS] == ["docs.yml", "npu.yml", "test.yml"]
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
