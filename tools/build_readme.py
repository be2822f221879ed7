"""Makes README.md from nbs/index.ipynb and README.zh.md from nbs/index.zh.ipynb.

python tools/build_readme.py [--check]

--check writes nothing and fails where a README is out of date.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READMES = {"index.ipynb": "README.md", "index.zh.ipynb": "README.zh.md"}
CALLOUT = re.compile(
    r"^::: *\{\.callout-(note|tip|important|warning|caution)[^}]*\}\n(.*?)\n:::$", re.S | re.M
)
LINK = re.compile(r"\]\((?!https?:|#|/)([^)\s]+)\)")


def github_link(match: re.Match) -> str:
    "A link between notebooks, as it has to be written in the root of the repository."
    page, mark, anchor = match[1].partition("#")
    return f"]({READMES.get(page, f'nbs/{page}')}{mark}{anchor})"


def github_callout(match: re.Match) -> str:
    "A Quarto callout as GitHub writes it."
    return "\n".join(
        [f"> [!{match[1].upper()}]", *(f"> {line}".rstrip() for line in match[2].splitlines())]
    )


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
    notebook: Path,  # an index page
) -> str:  # the same as GitHub Markdown
    "The text of a README; what is in the notebook, and nothing else."
    parts = [f"<!-- Made from nbs/{notebook.name} by tools/build_readme.py: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).strip()
            parts.append(LINK.sub(github_link, CALLOUT.sub(github_callout, text)))
        elif cell["cell_type"] == "code":
            parts += code_blocks(cell)
    return "\n\n".join(parts) + "\n"


def main() -> int:  # exit code
    "Write both files, or say which is out of date."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a README is out of date"
    )
    check, stale = parser.parse_args().check, []
    for source, target in READMES.items():
        text, path = readme(ROOT / "nbs" / source), ROOT / target
        if path.exists() and path.read_text(encoding="utf8") == text:
            continue
        if check:
            stale.append(target)
        else:
            path.write_text(text, encoding="utf8")
    for name in stale:
        print(f"{name} is out of date: python tools/build_readme.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
