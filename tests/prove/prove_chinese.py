"""Chinese pages, from top to bottom in nbs/zh, as JupyterLab runs them for whoever reads Chinese.

Their code is that of the English pages, which `make test` runs. What may differ is the folder that
a cell stands in, and what it prints: each test in a page has to hold in both languages. Pages that
call a service are left to the English run."""

import re

import pytest
from nbdev.config import get_config
from run_notebooks import LANES, executed
from translate import CHINESE, ROOT, pages

CALLS = {"00_quickstart", "05_serve", "06_call", "index"}
FLAGS = set(get_config(path=ROOT).tst_flags.split())
HAN = re.compile("[\u4e00-\u9fff]")


def runs(page) -> bool:
    return any(cell["cell_type"] == "code" for cell in page.notebook["cells"])


@pytest.mark.parametrize(
    "name", [page.name for page in pages() if runs(page) and page.name not in CALLS]
)
def test_a_page_runs_in_chinese(name):
    chinese = LANES["cpu"] | {"QWEN_NPU_LANG": "zh"}
    notebook, wrong = executed(CHINESE / f"{name}.ipynb", FLAGS, chinese)
    assert not wrong
    said = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert HAN.search(said) or name == "reading", "it spoke another language than its reader"
