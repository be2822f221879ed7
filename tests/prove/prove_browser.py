"""Every chapter, and the panel, several times in a real JupyterLab: what passes once may be luck.

`QWEN_NPU_ROUNDS` says how often (3)."""

import os

import pytest
from lab import jupyterlab, run_whole
from panel_page import a_server_that_dies_in_its_reply, from_check_to_a_streamed_reply

ROUNDS = pytest.mark.parametrize("again", range(int(os.environ.get("QWEN_NPU_ROUNDS", "3"))))
CHAPTERS = ("01_check", "02_install", "03_kernels", "04_download", "05_serve", "06_call")


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as url:
        yield url


@ROUNDS
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_to_its_end(browser, live_server, chapters, screenshots, chapter, again):
    for width in (1300, 700):
        if width == 700 and again:
            break
        with run_whole(browser, chapters, f"{chapter}.ipynb", 300, width) as (page, _, _):
            page.screenshot(path=screenshots / f"chapter-{chapter}-{width}.png")


@ROUNDS
def test_from_check_to_a_streamed_reply(opened, screenshots, panel_home, again):
    from_check_to_a_streamed_reply(opened, screenshots, panel_home)


@ROUNDS
def test_a_server_that_dies_in_its_reply(opened, stand_in, screenshots, again):
    a_server_that_dies_in_its_reply(opened, stand_in, screenshots)
