"The front page, in two languages, and the READMEs made from it."

import json
import re
from dataclasses import replace
from pathlib import Path

import build_readme
import pytest
from address import address

NBS = Path(__file__).resolve().parents[2] / "nbs"


def cells(page: str) -> list[tuple[str, str]]:
    "Kind and source of each cell."
    found = json.loads((NBS / page).read_text(encoding="utf8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in found]
    return [(kind, text) for kind, text in texts if kind != "raw"]


def commands(text: str) -> list[str]:
    "The lines of its shell blocks without comments, and without the words that are translated."
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [re.sub(r'"[^"]*"', '""', line) for line in lines]


def led_to(text: str) -> list[str]:
    "The pages that it links to; pictures have a Chinese twin."
    found = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    return sorted(link.replace(".zh.", ".").removeprefix("../") for link in found)


def test_the_two_front_pages_are_in_step():
    english, chinese = cells("index.ipynb"), cells("zh/index.ipynb")
    assert [kind for kind, _ in english] == [kind for kind, _ in chinese]
    for (kind, one), (_, other) in zip(english, chinese):
        assert (one == other) or kind == "markdown"
        assert commands(one) == commands(other)
        assert len(re.findall("^## ", one, re.M)) == len(re.findall("^## ", other, re.M))
    both = [led_to("".join(text for _, text in page)) for page in (english, chinese)]
    both = [{*links} - {"index.ipynb", "zh/index.ipynb"} for links in both]  # to each other
    assert both[0] == both[1] and "00_quickstart.ipynb" in both[0]


def test_chinese_paragraphs_have_no_hard_line_breaks():
    "A site shows a line break between two Chinese characters as a space."
    for kind, text in cells("zh/index.ipynb"):
        plain = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
        broken = re.findall(r".*[\u4e00-\u9fff，。；：、）]\n(?![-|#>\n<]|\s*\d+\.).+", plain)
        assert kind == "code" or not broken, broken


def test_links_of_the_chinese_page_lead_from_the_root():
    text = "[a](../index.ipynb) [b](x.ipynb#c) [d](index.ipynb) ![e](../pictures/e.zh.svg)"
    assert build_readme.github_text(text, "zh") == (
        "[a](README.md) [b](nbs/zh/x.ipynb#c) [d](README.zh.md) ![e](nbs/pictures/e.zh.svg)"
    )


def test_files_of_the_root_are_links_there_alone():
    text = "See `LICENSE` and [`NOTICE`](x.ipynb).\n\n```sh\ncat `LICENSE`\n```\nAnd `CHANGELOG.md`"
    assert build_readme.github_text(text) == (
        "See [LICENSE](LICENSE) and [`NOTICE`](nbs/x.ipynb).\n\n"
        "```sh\ncat `LICENSE`\n```\nAnd [CHANGELOG.md](CHANGELOG.md)"
    )


@pytest.mark.parametrize(
    "host, shown",
    [
        ("https://docs.example.invalid/x/", "[中文](README.zh.md)"),
        (
            "https://docs.example.org/x/",
            "[中文](README.zh.md) · [Docs](https://docs.example.org/x/)",
        ),
    ],
)
def test_the_docs_are_named_where_they_have_an_address(monkeypatch, host, shown):
    made_up = dict(repository=host.replace("docs.", ""), docs=host, author_email="a@example.org")
    here = replace(address(), **made_up)
    monkeypatch.setattr(build_readme, "address", lambda: here)
    assert build_readme.with_docs("[中文](README.zh.md)") == shown
    assert build_readme.with_docs("Another line") == "Another line"


def test_code_cells_in_a_row_are_one_block_and_an_output_ends_it(tmp_path):
    def code(source: str, *texts: str) -> dict:
        outputs = [{"output_type": "stream", "text": [text]} for text in texts]
        return {"cell_type": "code", "source": [source], "outputs": outputs}

    page = tmp_path / "page.ipynb"
    cells = [code("import a"), code("#| hide\nb"), code("a()", "said\n"), code("c()")]
    page.write_text(json.dumps({"cells": cells}), encoding="utf8")
    found = build_readme.readme("page.ipynb", tmp_path)
    assert found.endswith(
        "```python\nimport a\n\na()\n```\n\n```text\nsaid\n```\n\n```python\nc()\n```\n"
    )
