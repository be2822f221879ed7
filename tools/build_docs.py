"""Builds the docs site into _docs: by Quarto where it is on PATH, else by smalldocs (pure Python).
A broken link fails.

python tools/build_docs.py [--serve] [--out FOLDER]
"""

import argparse
import functools
import http.server
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs_site import CONFIG, PUBLISHED, ROOT, NbdevSite, prepare_all
from leaks import leaks
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs


class PageLinks(HTMLParser):
    "What one built page points at and can be pointed at."

    def __init__(self, text: str):  # the page's HTML
        super().__init__(convert_charrefs=True)
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


def broken_links(
    site: Path,  # a built site's folder
) -> list[str]:  # one sentence for each link to a page, an anchor or a file that is not there
    "Follow every link that stays within the site; links to other hosts are not followed."
    pages = {
        path: PageLinks(path.read_text(encoding="utf8")) for path in sorted(site.rglob("*.html"))
    }
    found: dict[str, list[str]] = {}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            inside = link.removeprefix(PUBLISHED)
            parts = urlsplit(inside)
            if parts.scheme or parts.netloc:
                continue
            base = site if inside != link or parts.path.startswith("/") else path.parent
            target = (
                Path(os.path.normpath(base / unquote(parts.path).lstrip("/")))
                if parts.path or inside != link
                else path
            )
            if target.is_dir():
                target /= "index.html"
            name = Path(os.path.relpath(target, site)).as_posix()
            if not target.is_file():
                found.setdefault(name, []).append(str(path.relative_to(site)))
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors | {"top"}
            ):
                found.setdefault(f"{name}#{unquote(parts.fragment)}", []).append(
                    str(path.relative_to(site))
                )
    return [
        f"broken link to {target} on {len(on)} page(s), first on {on[0]}"
        for target, on in found.items()
    ]


def private_words(
    site: Path,  # a built site's folder
) -> list[str]:  # one sentence for each page that gives a machine away
    "Look for paths, and for a default such as os.environ, which its page would print."
    found = {
        path.relative_to(site): leaks(path.read_text(encoding="utf8"))
        for path in sorted(site.rglob("*.html"))
    }
    return [f"{name} shows {', '.join(words)}" for name, words in found.items() if words]


def by_quarto(
    out: Path,  # where the site goes
):
    """Let nbdev and Quarto build it. README.md is ours (tools/build_readme.py): a newer one is
    left alone by nbdev."""
    os.utime(ROOT / "README.md")
    subprocess.run([str(Path(sys.executable).with_name("nbdev_docs"))], cwd=ROOT, check=True)
    built = CONFIG.doc_path
    if out != built:
        shutil.copytree(built, out, dirs_exist_ok=True)


def by_smalldocs(
    out: Path,  # where the site goes
) -> list[str]:  # what smalldocs warns of
    "nbdev prepares the notebooks (cells with imports are run), smalldocs makes the pages."
    os.chdir(ROOT)
    refresh_quarto_yml()
    prepared = proc_nbs(force=True, n_workers=0)  # in this process: a pool would outlive a kill
    prepare_all(prepared)
    site = NbdevSite(prepared, out)
    site.build()
    known = ("output-file is not read", "broken link")  # NbdevSite reads it; broken_links() tells
    return [warning for warning in site.warnings if not any(text in warning for text in known)]


def serve(
    site: Path,  # a built site's folder
):
    "Show the site on this machine only, on a port that is free, until Ctrl-C."
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(
            f"The docs are at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends this).",
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def build(
    out: Path,  # where the site goes
) -> list[str]:  # what is wrong with it; empty when it is good
    "Build the site, follow its links, and look for what is nobody's business."
    warnings = []
    if shutil.which("quarto"):
        by_quarto(out)
    else:
        warnings = by_smalldocs(out)
    return warnings + broken_links(out) + private_words(out)


def main() -> int:  # exit code
    "Build, say what is wrong, serve if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--serve", action="store_true", help="serve the built site on 127.0.0.1, on a free port"
    )
    parser.add_argument(
        "--out", type=Path, default=CONFIG.doc_path, help="the folder of the built site"
    )
    options = parser.parse_args()
    try:
        wrong = build(options.out.resolve())
    except (
        Exception
    ) as error:  # a notebook's own error comes as a bare Exception that names notebook and cell
        print(f"The docs could not be built: {error}", file=sys.stderr)
        return 1
    for line in wrong:
        print(line, file=sys.stderr)
    pages = len(list(options.out.rglob("*.html")))
    print(f"{pages} pages in {options.out}, {len(wrong)} things wrong.")
    if options.serve:
        serve(options.out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
