"""Chapters in a real JupyterLab, against the running service: all cells, no error, a streamed
reply. The others are in prove_browser.py."""

import pytest
from lab import jupyterlab, run_whole
from patience import patient

CLOSING = "the walk is complete"  # what the last chapter's last cell prints


@pytest.fixture(scope="module")
def lab_url(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as url:
        yield url


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "chapter, shown",
    [("01_check.ipynb", "what was seen"), ("03_kernels.ipynb", "There is no NPU here.")],
)
def test_a_chapter_runs_to_its_end(browser, live_server, lab_url, screenshots, chapter, shown):
    "Also its cell for an NPU, which says that there is none."
    with run_whole(browser, lab_url, chapter, 150) as (page, _, _):
        page.evaluate(
            """text => { const n = window.jupyterapp.shell.currentWidget.content
            const said = cell => JSON.stringify(cell.model.outputs?.toJSON() ?? [])
            n.activeCellIndex = n.widgets.findLastIndex(cell => said(cell).includes(text))
            n.scrollToItem(n.activeCellIndex) }""",
            shown,
        )
        page.get_by_text(shown, exact=False).last.wait_for(timeout=patient(30_000))
        page.screenshot(path=screenshots / f"jupyterlab-{chapter.partition('.')[0]}.png")


@pytest.mark.timeout(400)
def test_the_call_chapter(browser, live_server, lab_url, screenshots):
    with run_whole(browser, lab_url, "06_call.ipynb", 300) as (page, run, outputs):
        assert any(CLOSING in "".join(output.get("text", "")) for output in outputs), (
            f"no cell printed {CLOSING!r}"
        )
        assert run["growing"] > 2, "no reply was seen growing"
        page.evaluate(
            """() => { const n = window.jupyterapp.shell.currentWidget.content
            n.activeCellIndex = n.widgets.length - 1
            n.scrollToItem(n.activeCellIndex) }"""
        )
        page.get_by_text(CLOSING, exact=False).last.wait_for(timeout=patient(30_000))
        page.screenshot(path=screenshots / "jupyterlab-call.png")
