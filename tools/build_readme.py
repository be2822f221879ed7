"""Makes README.md from nbs/index.ipynb and README.zh.md from nbs/zh/index.ipynb.

python tools/build_readme.py [--check]

--check writes nothing and fails where a README is out of date.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

from address import address
from made import run
from translate import outside

ROOT = Path(__file__).resolve().parent.parent
READMES = {"index.ipynb": "README.md", "zh/index.ipynb": "README.zh.md"}
CALLOUT = re.compile(
    r"^::: *\{\.callout-(note|tip|important|warning|caution)[^}]*\}\n(.*?)\n:::$", re.S | re.M
)
LINK = re.compile(r"\]\((?!https?:|#|/)([^)\s]+)\)")
PYTHON = "```python\n"
# Files of the root: code spans in the notebooks, whose own root is nbs/, and links here.
IN_THE_ROOT = re.compile(r"(?<!\[)`(LICENSE|NOTICE|CONTRIBUTING\.md|CHANGELOG\.md|CITATION\.cff)`")
LANGUAGE_LINES = {
    "[中文](README.zh.md)": ("Docs", ""),
    "[English](README.md)": ("文档", "zh/index.html"),
}


def github_link(match: re.Match, folder: str = "") -> str:
    "A link from a notebook in a folder of nbs/, as it has to be written in the repository's root."
    page, mark, anchor = match[1].partition("#")
    page = posixpath.normpath(posixpath.join(folder, page))
    return f"]({READMES.get(page, f'nbs/{page}')}{mark}{anchor})"


def github_callout(match: re.Match) -> str:
    "A Quarto callout as GitHub writes it."
    return "\n".join(
        [f"> [!{match[1].upper()}]", *(f"> {line}".rstrip() for line in match[2].splitlines())]
    )


def github_text(text: str, folder: str = "") -> str:
    "A markdown cell as GitHub shows it in the root; code is left alone."

    def written(part: str) -> str:
        part = CALLOUT.sub(github_callout, part)
        part = LINK.sub(lambda found: github_link(found, folder), part)
        return IN_THE_ROOT.sub(r"[\1](\1)", part)

    return outside(text, written)


def with_docs(text: str) -> str:
    "The language line leads to the docs too, where they have an address."
    here = address()
    if not here.known or text not in LANGUAGE_LINES:
        return text
    word, page = LANGUAGE_LINES[text]
    return f"{text} · [{word}]({here.docs}{page})"


def output_text(output: dict) -> str:
    "What a saved output shows as text."
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(text).strip("\n")


def code_blocks(cell: dict) -> list[str]:
    "A code cell's source without nbdev's directives, and what it printed."
    lines = "".join(cell["source"]).splitlines()
    directives = {
        line[2:].strip().split()[0] for line in lines if line.startswith("#|") and line[2:].strip()
    }
    if "hide" in directives:
        return []
    source = "\n".join(line for line in lines if not line.startswith("#|")).strip("\n")
    printed = "\n".join(filter(None, (output_text(output) for output in cell["outputs"])))
    return [f"```python\n{source}\n```"] + ([f"```text\n{printed}\n```"] if printed else [])


def readme(
    page: str,  # an index page: its place in nbs/
    nbs: Path = ROOT / "nbs",
) -> str:  # the same as GitHub Markdown
    "The text of a README; what is in the notebook, and nothing else."
    parts = [f"<!-- Made from nbs/{page} by tools/build_readme.py: not edited here. -->"]
    folder = posixpath.dirname(page)
    for cell in json.loads((nbs / page).read_text(encoding="utf8"))["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(with_docs(github_text("".join(cell["source"]).strip(), folder)))
        elif cell["cell_type"] == "code":
            for block in code_blocks(cell):
                if block.startswith(PYTHON) and parts[-1].startswith(PYTHON):
                    block = f"{parts.pop()[:-4]}\n\n{block.removeprefix(PYTHON)}"  # read as one
                parts.append(block)
    return "\n\n".join(parts) + "\n"


def main() -> int:  # exit code
    "Write both files, or say which is out of date."

    def made() -> dict[Path, str]:
        return {ROOT / target: readme(source) for source, target in READMES.items()}

    return run(__doc__, "tools/build_readme.py", made)


if __name__ == "__main__":
    sys.exit(main())
