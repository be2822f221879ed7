"""Makes CITATION.cff, and judges whether this version may be released.

python tools/release.py               # writes CITATION.cff from settings.ini and CHANGELOG.md
python tools/release.py --check       # fails where one of the three does not fit the others
python tools/release.py --tag v0.1.0  # the same, and all that publishing under this tag needs
"""

import argparse
import json
import re
import sys
from pathlib import Path

from address import ROOT, address
from translate import Fault, pages

RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d|unreleased)$", re.M)
GUIDE = """\
references:
  - type: website
    title: "Qwen3-8B sglang-ascend部署调用"
    collection-title: self-llm
    authors:
      - alias: Fuyuan-bit
      - name: Datawhale and the contributors of self-llm
    url: "https://github.com/datawhalechina/self-llm"
    commit: 0932a89b
    license: Apache-2.0
    notes: The guide whose six steps this project follows and quotes.
"""


def newest_release(
    root: Path = ROOT,  # a folder with a CHANGELOG.md
) -> tuple[str, str]:  # version, and its date or "unreleased"
    "The first version in the changelog."
    found = RELEASE.search((root / "CHANGELOG.md").read_text(encoding="utf8"))
    return (found[1], found[2]) if found else ("", "unreleased")


def citation(
    root: Path = ROOT,  # a folder with settings.ini and CHANGELOG.md
) -> str:  # CITATION.cff (citation-file-format 1.2.0)
    "Addresses are written once they are known, the date once the changelog has it."
    here, date = address(root), newest_release(root)[1]
    said = {
        "cff-version": "1.2.0",
        "message": "To cite this project, please cite it together with the guide it follows.",
        "type": "software",
        "title": here.name,
        "abstract": here.description,
        "version": here.version,
        "date-released": "" if date == "unreleased" else date,
        "license": "Apache-2.0",
        "repository-code": here.repository if here.known else "",
        "url": here.docs if here.known else "",
        "authors": [{"name": here.author}],
        "keywords": list(here.keywords),
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in said.items() if value]
    head = "# Made by tools/release.py from settings.ini and CHANGELOG.md: edit those."
    return "\n".join([head, *lines, GUIDE])


def faults(
    root: Path = ROOT,  # the project
    tag: str | None = None,  # the tag to be published under; None: what must hold at any time
) -> list[str]:  # one sentence for each thing that is wrong
    "What stands in the way."
    here, (version, date), found = address(root), newest_release(root), []
    made = root / "CITATION.cff"
    if version != here.version:
        found.append(
            f"settings.ini says version {here.version}, "
            f"the newest heading of CHANGELOG.md {version or 'none'}."
        )
    if not made.exists() or made.read_text(encoding="utf8") != citation(root):
        found.append("CITATION.cff is out of date: python tools/release.py")
    if tag is None:
        return found
    if tag != f"v{here.version}":
        named = tag or "of no name"
        found.append(f"The tag {named} is not v{here.version}, the version in settings.ini.")
    if date == "unreleased":
        found.append(f"CHANGELOG.md gives {version} no date: write it in the place of that word.")
    if not here.known:
        found.append(
            "settings.ini has placeholders for the repository and its authors: "
            "user, git_url, doc_host, author, author_email."
        )
    return [*found, *behind()]


def behind() -> list[str]:  # one sentence, or none
    "Whether the Chinese pages follow the English ones."
    try:
        left = [line for page in pages() for line in page.lists()]
    except Fault as fault:
        return [str(fault)]
    told = f"{len(left)} block(s) of the Chinese pages do not follow the English ones: "
    return [f"{told}python tools/translate.py lists them."] * bool(left)


def main() -> int:  # exit code
    "Write the citation, or say what is wrong."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it differs")
    parser.add_argument("--tag", help="judge a release under this tag")
    options = parser.parse_args()
    if not options.check and options.tag is None:
        (ROOT / "CITATION.cff").write_text(citation(), encoding="utf8")
    found = faults(tag=options.tag)
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
