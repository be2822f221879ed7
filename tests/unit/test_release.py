"""Version, address and authors stand in settings.ini; what is made of them agrees."""

import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
import release
import yaml
from address import address
from release import behind, citation, faults, newest_release
from typer.main import get_command

import qwen_npu_tut
from qwen_npu_tut.faces.cli import app

ROOT = Path(__file__).resolve().parents[2]
HERE = address()
MADE = {"CITATION.cff", "qwen_npu_tut/_modidx.py"}  # by tools/release.py and nbdev_export
NEVER_GRANTED = ["datawhalechina/qwen_npu_tut", "datawhalechina.github.io"]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[0-9]*.yml"))


@pytest.fixture
def project(tmp_path):
    "A copy of the files that a release rests on."
    for name in ("settings.ini", "setup.py", "CHANGELOG.md", "README.md", "CITATION.cff"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def write(project: Path, file: str, **lines: str):
    "Give settings of settings.ini, or the changelog's newest heading, other words."
    text = (project / file).read_text(encoding="utf8")
    for name, value in lines.items():
        start = "## " if name == "heading" else f"{name} = "
        text, times = re.subn(
            rf"^{start}(\d.*|[^\d\n].*)$", start + value, text, count=1, flags=re.M
        )
        assert times == 1, name
    (project / file).write_text(text, encoding="utf8")


def grant(project: Path):
    "As if somebody owned the repository."
    write(
        project,
        "settings.ini",
        user="somebody",
        git_url="https://github.com/%(user)s/%(repo)s",
        doc_host="https://somebody.github.io",
        author="Some Body",
        author_email="some@body.example.org",
    )


def test_one_version():
    assert HERE.version == qwen_npu_tut.__version__ == newest_release()[0]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))["version"] == HERE.version
    assert faults() == []


def test_the_address_stands_in_one_place():
    known = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if known.returncode:
        pytest.skip("git does not say which files belong to the project")
    ours = [HERE.repository, HERE.docs.rstrip("/"), HERE.author, HERE.author_email]
    typed = []
    for name in filter(None, known.stdout.split("\0")):
        file = ROOT / name
        if name in {"settings.ini", "tests/unit/test_release.py"} | MADE or not file.is_file():
            continue
        text = file.read_bytes().decode("utf8", "replace")
        typed += [f"{name}: {word}" for word in [*ours, *NEVER_GRANTED] if word in text]
    assert not typed, f"only settings.ini has it, tools/address.py reads it: {typed}"


def test_the_citation_names_the_guide_and_no_placeholder():
    said = yaml.safe_load(citation())
    assert {"cff-version", "message", "title", "authors"} <= said.keys()
    (guide,) = said["references"]
    assert guide["collection-title"] == "self-llm" and "0932a89b" in guide["commit"]
    assert HERE.known or ".invalid" not in citation()


def test_a_citation_of_a_released_version(project):
    grant(project)
    write(project, "CHANGELOG.md", heading="0.1.0 - 2026-12-01")
    said = yaml.safe_load(citation(project))
    assert str(said["date-released"]) == "2026-12-01"
    assert said["repository-code"] == "https://github.com/somebody/qwen_npu_tut"
    assert said["url"] == "https://somebody.github.io/qwen_npu_tut/"
    assert said["authors"] == [{"name": "Some Body"}]


def test_a_tag_is_judged(project):
    version = HERE.version
    write(project, "CHANGELOG.md", heading=f"{version} - unreleased")
    write(project, "settings.ini", author_email="authors@example.invalid")
    (project / "CITATION.cff").write_text(citation(project), encoding="utf8")
    assert faults(project) == []
    wrong = faults(project, "v9.9.9")
    assert len(wrong) == 3 and "v9.9.9" in wrong[0]
    assert len(faults(project, "")) == 3  # a workflow without a tag is no look at any time
    assert "date" in wrong[1] and "placeholders" in wrong[2]
    grant(project)
    write(project, "CHANGELOG.md", heading=f"{version} - 2026-12-01")
    assert faults(project, f"v{version}") == [
        "CITATION.cff is out of date: python tools/release.py"
    ]
    (project / "CITATION.cff").write_text(citation(project), encoding="utf8")
    assert faults(project, f"v{version}") == []
    write(project, "settings.ini", version="0.1.1")
    assert len(faults(project, f"v{version}")) == 3


def test_a_release_waits_for_the_chinese_pages(project, monkeypatch):
    class Behind:
        def lists(self):
            return ["changed  05_serve eef786da What you will have"]

    monkeypatch.setattr(release, "pages", lambda: [Behind()])
    assert faults(project) == [], "at any other time it may be so"
    (said,) = behind()
    assert said.startswith("1 block(s) of the Chinese pages") and said in faults(project, "v9.9.9")

    def broken():
        raise release.Fault("nbs/zh/_help.md:3: '<!-- cell x -->' is no key")

    monkeypatch.setattr(release, "pages", broken)
    assert behind() == ["nbs/zh/_help.md:3: '<!-- cell x -->' is no key"]


def test_todays_tag():
    "The command that the workflow runs."
    line = [sys.executable, "tools/release.py", "--tag", "v0.0.0"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"is not v{HERE.version}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_packages_metadata_take_the_address(project):
    "Links of the README are whole on a package index, pictures and pages apart."
    grant(project)
    (project / "README.md").write_text(
        "[a](nbs/a.ipynb) ![b](nbs/b.svg) [c](https://example.org/c) [d](#d)\n"
        '<img alt="e" src="nbs/e.svg"> [![f](nbs/f.svg)](nbs/f.ipynb)\n',
        encoding="utf8",
    )
    line = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", "."]
    subprocess.run(line, cwd=project, check=True, capture_output=True)
    told = message_from_string((project / "qwen_npu_tut.egg-info/PKG-INFO").read_text("utf8"))
    repository = "https://github.com/somebody/qwen_npu_tut"
    assert told["Version"] == HERE.version
    assert told["Author-email"] in ("some@body.example.org", "Some Body <some@body.example.org>")
    assert f"Issues, {repository}/issues" in told.get_all("Project-URL")
    text = told.get_payload() or told["Description"]
    assert f"[a]({repository}/blob/main/nbs/a.ipynb)" in text
    assert f"![b]({repository}/raw/main/nbs/b.svg)" in text
    assert "[c](https://example.org/c) [d](#d)" in text
    assert f'src="{repository}/raw/main/nbs/e.svg"' in text
    assert f"[![f]({repository}/raw/main/nbs/f.svg)]({repository}/blob/main/nbs/f.ipynb)" in text


def fields(form: Path) -> list[tuple]:
    "What a form asks: kind, name, whether it must be answered, how many choices."
    body = yaml.safe_load(form.read_text(encoding="utf8"))["body"]
    return [
        (
            each["type"],
            each.get("id"),
            each.get("validations", {}).get("required", False),
            len(each["attributes"].get("options", [])),
        )
        for each in body
    ]


def test_forms_ask_the_same_in_both_languages():
    english, chinese = FORMS
    assert fields(english) == fields(chinese)
    names = [name for _, name, _, _ in fields(english)]
    assert names == [None, "where", "command", "lines", "diagnose", "record", "expected", "read"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one(form):
    "What GitHub asks of a form; and its commands exist."
    said = yaml.safe_load(form.read_text(encoding="utf8"))
    assert {"name", "description", "body"} <= said.keys()
    kinds = {each["type"] for each in said["body"]}
    assert kinds <= {"markdown", "input", "textarea", "dropdown", "checkboxes"}
    for each in said["body"]:
        label = "value" if each["type"] == "markdown" else "label"
        assert each["attributes"][label].strip()
        assert (each["type"] == "markdown") == ("id" not in each)
    commands = set(re.findall(r"qwen-npu ([a-z]+)", form.read_text(encoding="utf8")))
    assert {"report", "logs", "diagnose"} <= commands <= set(get_command(app).commands)
    assert (ROOT / "nbs/help.ipynb").is_file() and "nbs/help.ipynb" in str(said)
