"""The docs site that smalldocs makes of nbdev's pages: their names, links, tools and landmarks, in
the language of each page."""

import json
import re
import shutil
from html import escape
from pathlib import Path, PurePosixPath

from address import address
from docs_cells import prepare
from nbdev.config import get_config
from smalldocs.config import load
from smalldocs.site import Site

ROOT = Path(__file__).resolve().parent.parent
CONFIG = get_config(path=ROOT)
PUBLISHED = f"{CONFIG.doc_host}{CONFIG.doc_baseurl}/"  # where nbdev's links to names point
CHAPTER = re.compile(r"\d\d_")

CODE = re.compile(r"^```python$.*?^```$", re.M | re.S)
LINKED_NAME = re.compile(r"\[(`[^`\n]+`)\]\([^)\s]+\)")
OWN_LINK = re.compile(r" · \[[^]]*\]\(" + re.escape(PUBLISHED) + r"\)")
GROUP = re.compile(
    r'<a class="sidebar-item-text sidebar-link text-start" data-bs-toggle="collapse"'
    r' data-bs-target="#([\w-]+)" role="navigation" aria-expanded="(\w+)">(.*?)</a>'
    r'<a class="sidebar-item-toggle.*?</a>'
)
FOREIGN_FONT = re.compile(r"@import url\(https?://[^)]*\);?")
THEME = re.compile(r'<a class="quarto-color-scheme-toggle nav-link".*?</a>')
LANGUAGES = {"en": "English", "zh": "中文"}  # as the header has them
LANGUAGE_LINK = re.compile(
    rf"<a [^>]*><span class=\"menu-text\">({'|'.join(LANGUAGES.values())})</span></a>"
)
TAGS = {"en": "en", "zh": "zh-CN"}  # of a page, for browsers
# What smalldocs' script says and looks for, in the language of its page. A search finds the pages
# of that language; on a Chinese page those of the library, which are English, come after them.
IN_CHINESE = "document.documentElement.lang.startsWith('zh')"
SCRIPT = {
    '"search.json"': f'({IN_CHINESE} ? "search.zh.json" : "search.json")',
    "fuse.search(q, { limit }).map((h) => h.item)": (
        "fuse.search(q).map((h) => h.item)"
        ".sort((a, b) => (a.foreign || 0) - (b.foreign || 0)).slice(0, limit)"
    ),
    "No results</div>'": f"' + ({IN_CHINESE} ? '没有找到' : 'No results') + '</div>'",
    '"Copied!"': f"({IN_CHINESE} ? '已复制' : 'Copied!')",
    '"Anchor"': f"({IN_CHINESE} ? '本节的链接' : 'Anchor')",
}

WORDS = {
    "en": {
        "imports": "Imports of this page",
        "setup": "Set-up of this page",
        "checked": "Checked",
        "source": "Exported source",
        "code": "Code",
        "lab": "Run it yourself: <code>make lab</code>, then open <code>{}</code>",
        "download": "Download this notebook",
        "edit": "Edit this page",
        "skip": "Skip to the text",
        "contents": "On this page",
        "pages": "Pages",
        "menu": "Show or hide the list of pages",
        "site": "Site",
        "theme": "Dark or light",
        "search": "Search",
        "copy": "Copy",
        "neighbours": "Previous and next page",
        "issue": "Report an issue",
        "view": "View the notebook",
        "navigation": "Toggle navigation",
        "place": "breadcrumb",
        "only": "",
    },
    "zh": {
        "imports": "本页的导入语句",
        "setup": "本页的准备代码",
        "checked": "已检验",
        "source": "导出的源代码",
        "code": "代码",
        "lab": "自己运行：<code>make lab</code>，然后打开 <code>{}</code>",
        "download": "下载本页的 notebook",
        "edit": "编辑本页",
        "skip": "跳到正文",
        "contents": "本页内容",
        "pages": "页面列表",
        "menu": "显示或隐藏页面列表",
        "site": "站点",
        "theme": "深色或浅色",
        "search": "搜索",
        "copy": "复制",
        "neighbours": "上一页和下一页",
        "issue": "报告问题",
        "view": "查看 notebook",
        "navigation": "显示或隐藏导航菜单",
        "place": "所在位置",
        "only": "本页只有英文，转到中文首页",
        "[cpu] on a processor, without an NPU": "[cpu] 在 CPU 上运行，没有 NPU",
        "[emulated] as a recorded A2 server, on an emulated NPU": (
            "[emulated] 按 A2 服务器的机器记录，在模拟 NPU 上运行"
        ),
    },
}


def language(source: Path) -> str:  # of the page that is made of a notebook
    return "zh" if source.parts[0] == "zh" else "en"


def twin(page: PurePosixPath) -> PurePosixPath:  # relative to the site
    "The same page in the other language."
    chinese = page.parts[0] == "zh"
    return PurePosixPath(*page.parts[1:]) if chinese else PurePosixPath("zh", page)


def source_of(source: Path) -> Path:  # relative to nbs/
    "What one edits to change a page: of a Chinese one its text, where it has one."
    words = source.with_name(f"_{source.stem}.md")
    return words if (CONFIG.nbs_path / words).exists() else source


def repository() -> str:  # empty while settings.ini has a placeholder, where no link may lead
    "The repository's address, from settings.ini."
    place = address()
    return place.repository if place.known else ""


def prepare_all(
    prepared: Path,  # nbdev's folder of prepared notebooks: they are changed
):
    "Give every page its box of imports, its names in order and its tests marked."
    for path in sorted(prepared.rglob("*.ipynb")):
        name = path.relative_to(prepared)
        page = json.loads(path.read_text("utf8"))
        original = json.loads((CONFIG.nbs_path / name).read_text("utf8"))
        prepare(
            page,
            original,
            WORDS[language(name)],
            chapter=bool(CHAPTER.match(name.name)),
            front=name.stem == "index",
            linked=bool(repository()),
        )
        path.write_text(json.dumps(page, ensure_ascii=False), "utf8")


def page_tools(
    source: Path,  # the notebook, relative to nbs/
    hub: str,  # the repository's address; empty: unknown
) -> str:  # HTML
    "What a reader may do with a page: run it, take it along, correct it."
    words, name = WORDS[language(source)], source.as_posix()
    tools = [words["lab"].format(name)] if CHAPTER.match(source.name) else []
    tools.append(f'<a href="{escape(source.name)}" download="">{words["download"]}</a>')
    if hub:
        edit = f"{hub}/edit/{CONFIG.branch}/{CONFIG.nbs_path.name}/{source_of(source).as_posix()}"
        tools.append(f'<a href="{escape(edit)}">{words["edit"]}</a>')
    return f'<ul class="page-tools">{"".join(f"<li>{tool}</li>" for tool in tools)}</ul>'


def group_button(found: re.Match) -> str:
    "A folded group of the sidebar: smalldocs writes links without a target, out of keys' reach."
    target, opened, label = found.groups()
    return (
        f'<button type="button" class="sidebar-group{"" if opened == "true" else " collapsed"}"'
        f' data-bs-toggle="collapse" data-bs-target="#{target}" aria-controls="{target}"'
        f' aria-expanded="{opened}">{label}<i class="bi bi-chevron-right" aria-hidden="true"></i>'
        "</button>"
    )


def finish(
    page: str,  # HTML that smalldocs wrote
    source: Path,  # of which notebook, relative to nbs/
    hub: str,  # the repository's address; empty: unknown
) -> str:  # HTML
    "Landmarks, names and buttons for people who use keys or a reader, and the page's tools."
    words = WORDS[language(source)]
    theme = (
        '<button type="button" class="quarto-color-scheme-toggle nav-link"'
        f' title="{words["theme"]}" onclick="window.smalldocsToggleScheme()">'
        '<i class="bi" aria-hidden="true"></i>'
        f' <span class="menu-text">{words["theme"]}</span></button>'
    )
    page = GROUP.sub(group_button, page)
    page = THEME.sub(theme, page)
    changes = {
        ' role="img"></i>': ' aria-hidden="true"></i>',
        "<th></th>": "<td></td>",
        '<nav class="navbar ': f'<nav aria-label="{words["site"]}" class="navbar ',
        '<nav class="quarto-secondary-nav">': '<div class="quarto-secondary-nav">',
        "</nav></div></nav></header>": "</nav></div></div></header>",
        '<nav id="quarto-sidebar"': f'<nav aria-label="{words["pages"]}" id="quarto-sidebar"',
        '<nav class="page-navigation"': (
            f'<nav aria-label="{words["neighbours"]}" class="page-navigation"'
        ),
        ' aria-label="Toggle sidebar navigation"': (
            f' aria-expanded="false" aria-label="{words["menu"]}"'
        ),
        '<h2 id="toc-title">On this page</h2>': f'<h2 id="toc-title">{words["contents"]}</h2>',
        '<div id="quarto-margin-sidebar"': (
            f'<div role="complementary" aria-label="{words["contents"]}" id="quarto-margin-sidebar"'
        ),
        ' role="doc-toc"': ' aria-labelledby="toc-title"',
        'placeholder="Search" aria-label="Search"': (
            f'placeholder="{words["search"]}" aria-label="{words["search"]}"'
        ),
        '<button title="Copy to Clipboard"': f'<button type="button" title="{words["copy"]}"',
        '<i class="bi"></i></button>': '<i class="bi" aria-hidden="true"></i></button>',
        ">Skip to the text</a>": f">{words['skip']}</a>",
        "<summary>Exported source</summary>": f"<summary>{words['source']}</summary>",
        "<summary>Code</summary>": f"<summary>{words['code']}</summary>",
        ' aria-label="Toggle navigation"': f' aria-label="{words["navigation"]}"',
        ' aria-label="breadcrumb"': f' aria-label="{words["place"]}"',
        "Report an issue</a>": f"{words['issue']}</a>",
        "View source</a>": f"{words['view']}</a>",
    }
    for old, new in changes.items():
        page = page.replace(old, new)
    if source.stem != "index":
        head, mark, rest = page.partition('<header id="title-block-header"')
        block, end, text = rest.partition("</header>")
        page = head + mark + block + end + page_tools(source, hub) + text if mark else page
    return page


def in_both(
    page: str,  # HTML
    own: PurePosixPath,  # where it is in the site
    pages: set[PurePosixPath],  # all of them
) -> str:  # HTML
    """English and 中文 in the header lead to the same page in that language, and so do links in the
    head, for search engines. A page of the library has no Chinese one: it leads to the front."""
    here, up, other = language(Path(own)), "../" * (len(own.parts) - 1), twin(own)
    places = {here: own, ({*LANGUAGES} - {here}).pop(): other}

    def link(found: re.Match) -> str:
        tag = next(tag for tag, name in LANGUAGES.items() if name == found[1])
        place, more = places[tag], ' aria-current="true"' if tag == here else ""
        if place not in pages:
            place, more = PurePosixPath(tag, "index.html"), f' title="{WORDS[tag]["only"]}"'
        return (
            f'<a class="nav-link{" active" * (tag == here)}" href="{up}{place}" lang="{TAGS[tag]}"'
            f' hreflang="{TAGS[tag]}"{more}><span class="menu-text">{found[1]}</span></a>'
        )

    page, base = LANGUAGE_LINK.sub(link, page), PUBLISHED if repository() else up
    if other not in pages:
        return page
    alternates = [
        f'<link rel="alternate" hreflang="{TAGS[tag]}" href="{base}{places[tag]}">' for tag in TAGS
    ]
    return page.replace("</head>", f"{''.join(alternates)}</head>", 1)


class NbdevSite(Site):
    """A smalldocs site whose pages have the names that nbdev links to: check.html for
    01_check.ipynb."""

    def __init__(
        self,
        prepared: Path,  # nbdev's folder of prepared notebooks
        out: Path,  # where the site goes
    ):
        super().__init__(load(prepared), quiet=True)
        self.out, self.hub = out, repository()
        website = self.project.website
        if self.hub:
            entry = {"icon": "github", "text": "GitHub", "href": self.hub}
            website["navbar"].setdefault("right", []).append(entry)
            website["repo-actions"] = ["source", "issue"]  # to edit is offered above the page
        else:
            website.pop("repo-actions", None)

    def read(self, src):
        page = super().read(src)
        page.out = page.src.with_name(page.front.get("output-file", page.out.name))
        page.meta = {**page.meta, "lang": TAGS[language(Path(src))]}
        # nbdev links names in a parameter's comment too; inside of code that would be shown as it
        # is written.
        page.body = CODE.sub(lambda code: LINKED_NAME.sub(r"\1", code[0]), page.body)
        page.body = OWN_LINK.sub("", page.body)  # README.md leads here; here it leads nowhere
        return page

    def find_page(self, target):
        by_name = (page for page in self.pages.values() if page.out == target)
        return super().find_page(target) or next(by_name, None)

    def resolve(self, href, page, record=True):
        "Follow a link to the published site within this build."
        if href.startswith(PUBLISHED):
            href = "/" + href.removeprefix(PUBLISHED)
        return super().resolve(href, page, record)

    def build(self):
        count = super().build()
        outs = {page.out for page in self.pages.values()}
        for page in self.pages.values():
            built = self.out / page.out
            source = Path(page.src)
            made = finish(built.read_text("utf8"), source, self.hub)
            built.write_text(in_both(made, page.out, outs), "utf8")
            shutil.copy(CONFIG.nbs_path / source, built.with_name(source.name))
        for theme in self.out.glob("site_libs/themes/*.css"):  # they ask another host for letters
            theme.write_text(FOREIGN_FONT.sub("", theme.read_text("utf8")), "utf8")
        script = self.out / "site_libs" / "smalldocs.js"
        text = script.read_text("utf8")
        for old, new in SCRIPT.items():
            if old not in text:
                raise ValueError(f"smalldocs' script has no {old}: see SCRIPT in docs_site.py")
            text = text.replace(old, new)
        script.write_text(text, "utf8")
        return count

    def write_search(self):
        "A list for the pages of each language."
        super().write_search()
        entries = json.loads((self.out / "search.json").read_text("utf8"))
        english = [each for each in entries if not each["href"].startswith("zh/")]
        chinese = [each for each in entries if each["href"].startswith("zh/")]
        there = {each["href"].partition("#")[0] for each in chinese}
        for each in english:
            if str(twin(PurePosixPath(each["href"].partition("#")[0]))) not in there:
                chinese.append({**each, "title": f"{each['title']}（英文）", "foreign": 1})
        for name, found in {"search.json": english, "search.zh.json": chinese}.items():
            text = json.dumps(found, ensure_ascii=False)
            (self.out / name).write_text(text, encoding="utf8")
