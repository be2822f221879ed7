"""Fixtures that need an engine or a browser: the tiers that have one import them by name.

Tests in tests/unit cannot see them, so that none of those leans on an engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "tests/screenshots"


@pytest.fixture(scope="session")
def live_server():
    'The service "test": that of `make test`, else one that is started and stopped here.'
    from qwen_npu_tut.server.lifecycle import find

    own = {
        "QWEN_NPU_SERVER": "test",
        "QWEN_NPU_PORT": "0",
        "QWEN_NPU_STACK": "cpu",
        "QWEN_NPU_API_KEY": os.environ.get("QWEN_NPU_API_KEY", "sk-test"),
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    command = shutil.which("qwen-npu", path=str(Path(sys.executable).parent))
    started_here = find("test") is None
    try:
        if started_here:
            up = subprocess.run(
                [command, "up", "--yes"], stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if up.returncode:
                pytest.fail(f"no service could be started: {up.stdout[-2000:]}{up.stderr[-2000:]}")
        yield find("test")
    finally:
        if started_here and command:
            subprocess.run([command, "stop"], capture_output=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def browser():
    "Debian's Chromium, driven by Playwright: nothing is downloaded."
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not chromium:
        pytest.skip("Chromium is not here: make browser installs it on Debian")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots():
    "Where pictures are kept for people to look at."
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def docs(tmp_path_factory):
    "The docs site: the one that `make test` has just built, else one built here."
    if os.environ.get("QWEN_NPU_DOCS"):
        return Path(os.environ["QWEN_NPU_DOCS"])
    out = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "tools/build_docs.py", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if not (out / "index.html").exists():
        pytest.fail(f"the docs could not be built: {built.stderr[-2000:]}")
    return out
