"""The built docs, in a real browser at desktop and phone width; and the link check, on sites with
mistakes."""

import functools
import http.server
import re
import shutil
import threading
from os.path import dirname, join, normpath
from pathlib import Path

import pytest
from build_docs import PUBLISHED

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = [1300, 390]
PAGES = ["index", "zh/index", "quickstart", "check", "call", "zh/cards", "base/settings"]
CHAPTERS = ["check", "install", "kernels", "download", "serve", "call", "fit"]
CHINESE = "zh/index.html"
# What a box shows of its lines: boxes whose text is wider than they are, and cannot be scrolled.
CUT = """boxes => boxes.filter(box => box.offsetParent && box.scrollWidth > box.clientWidth + 1
    && getComputedStyle(box).overflowX !== "auto").length"""
BEYOND = """boxes => boxes.filter(box => box.getBoundingClientRect().right > innerWidth)
    .map(box => box.textContent.slice(0, 80))"""
WIDE = """([at, columns]) => { const box = document.querySelector(at);
    const shown = getComputedStyle(box.parentElement), line = document.createElement("span");
    line.textContent = "x".repeat(columns); box.append(line);
    const wide = line.getBoundingClientRect().width; line.remove();
    return [wide, box.parentElement.clientWidth - parseFloat(shown.paddingLeft) * 2]; }"""


def test_links_are_whole(docs):
    from build_docs import broken_links, private_words

    assert (docs / "index.html").exists()
    assert broken_links(docs) + private_words(docs) == []


def test_no_markdown_in_code(docs):
    "nbdev links names in a parameter's comment, where a link cannot be shown."
    found = [
        page.name
        for page in docs.rglob("*.html")
        if re.search(
            rf"<pre[^>]*>(?:(?!</pre>).)*\]\({re.escape(PUBLISHED)}", page.read_text(), re.S
        )
    ]
    assert not found


@pytest.mark.parametrize(
    "mistake, named",
    [
        ('<a href="nowhere.html">', "nowhere.html"),
        ('<a href="index.html#no-such-part">', "index.html#no-such-part"),
        ('<img src="picture.png">', "picture.png"),
        (
            f'<a href="{PUBLISHED}base/settings.html#no_such_name">',
            "base/settings.html#no_such_name",
        ),
    ],
)
def test_a_broken_link_is_found(tmp_path, mistake, named):
    from build_docs import broken_links

    for name in ("index.html", "base/settings.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('<h1 id="top-of-it">x</h1>')
    (tmp_path / "page.html").write_text(
        f'<a href="index.html#top-of-it"><a href="https://example.org/nowhere">{mistake}'
    )
    assert broken_links(tmp_path) == [f"broken link to {named} on 1 page(s), first on page.html"]


def test_what_is_private_is_found(tmp_path):
    from build_docs import private_words

    (tmp_path / "page.html").write_text(
        "<code>environment=environ({'HOME': '/home/somebody/x'})</code>"
    )
    assert private_words(tmp_path) == ["page.html shows environ({, /home/somebody/"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_pages_look_right(browser, docs, screenshots, name, width):
    page = browser.new_page(viewport={"width": width, "height": 1000})
    try:
        page.goto((docs / f"{name}.html").as_uri())
        assert page.locator("nav.navbar").first.is_visible()
        left_edge = page.locator("#quarto-sidebar").evaluate(
            "sidebar => sidebar.getBoundingClientRect().left"
        )
        assert (left_edge >= 0) == (width > 1000), (
            "the sidebar stands beside the text, on a phone outside the screen until it is called"
        )
        assert page.locator("main h1, header h1").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            "the page is wider than the screen"
        )
        page.screenshot(path=screenshots / f"{name.replace('/', '-')}-{width}.png", full_page=True)
    finally:
        page.close()


@pytest.fixture
def opened(browser, docs):
    "A function that opens a page of the docs at a width; all are closed afterwards."
    pages = []

    def open_page(name, width=1300):
        pages.append(browser.new_page(viewport={"width": width, "height": 900}))
        pages[-1].goto((docs / f"{name}.html").as_uri())
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index", "check", "serve", "call", "base/diagnose"])
def test_outputs_do_not_wrap_and_scroll_in_their_box(opened, name, width):
    page = opened(name, width)
    if name != "index":
        assert page.locator(".cell-output pre").count() > 3
    look = "box => [getComputedStyle(box).whiteSpace, getComputedStyle(box).overflowX]"
    for output in page.locator(".cell-output pre:has(> code:not(.sourceCode))").all():
        assert output.evaluate(look) == ["pre", "auto"]
        assert output.locator("code").evaluate("box => getComputedStyle(box).whiteSpace") == "pre"
    boxes = page.locator("main pre, main .sd-table, main .lane")
    assert boxes.evaluate_all(CUT) == 0
    assert boxes.evaluate_all(BEYOND) == []


def test_code_of_100_columns_fits_at_1300_pixels(opened):
    page = opened("check")
    wide, room = page.evaluate(WIDE, ["main .cell-code code", 100])
    assert wide <= room
    wide, room = page.evaluate(WIDE, [":not(.one-lane) > .cell > .cell-output-stdout code", 100])
    assert wide <= room


@pytest.mark.parametrize("name", ["check", "host/machine", "engine/plan"])
def test_imports_stand_first_and_are_folded(opened, name):
    page = opened(name)
    assert page.locator("details[open]").count() == 0
    told = page.locator("details.code-fold > summary").all_inner_texts()
    assert told[0] == "Imports of this page" and told.count(told[0]) == 1


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_can_be_run_and_taken_along(opened, docs, name):
    page = opened(name)
    tools = page.locator(".page-tools")
    assert "Run it yourself: make lab" in tools.inner_text()
    file = tools.get_by_role("link", name="Download this notebook").get_attribute("href")
    assert (docs / file).read_bytes() == (ROOT / "nbs" / file).read_bytes()
    names = page.locator("main h3 > code").all_inner_texts()
    contents = page.locator("#TOC .nav-link").all_inner_texts()
    assert contents and not set(names) & set(contents), "a chapter's contents are no index of names"


def test_exported_source_is_folded(docs):
    found = [path for path in docs.rglob("*.html") if "Exported source<" in path.read_text("utf8")]
    assert len(found) > 5
    assert not [path for path in found if "<details open" in path.read_text("utf8")]


def test_tests_are_marked_by_a_word(docs):
    marked = [
        each
        for path in docs.rglob("*.html")
        for each in path.read_text("utf8").split('<div class="checked">')[1:]
    ]
    assert len(marked) > 30
    assert not [each for each in marked if '<p class="checked-word">' not in each[:40]]


def test_the_library_is_grouped_and_folded(opened):
    page = opened("check")
    groups = page.locator("#quarto-sidebar .depth1 .sidebar-group")
    assert groups.all_inner_texts() == [
        *["Machine", "Install", "Model", "Serve and call", "Command and panel", "Ground"],
        "Rehearsal",
    ]
    assert {each.get_attribute("aria-expanded") for each in groups.all()} == {"false"}
    page.locator("#quarto-sidebar").get_by_role("link", name="6 Call").click()
    assert page.url.endswith("/call.html")


def test_every_page_is_in_the_sidebar(docs):
    def listed(page: str) -> set[str]:
        links = re.findall(r'href="([^"#:]+\.html)', (docs / page).read_text("utf8"))
        return {normpath(join(dirname(page), link)) for link in links}

    built = {path.relative_to(docs).as_posix() for path in docs.rglob("*.html")}
    assert built - listed("index.html") == {each for each in built if each[:3] == "zh/"} - {CHINESE}
    assert {each for each in built if each[:3] == "zh/"} - listed(CHINESE) == set()
    assert {each.partition("/")[0] for each in listed(CHINESE)} >= {"zh", "host", "engine", "faces"}


@pytest.mark.parametrize("name, other", [("index", "zh/index"), ("zh/index", "index")])
def test_no_link_of_the_front_page_leads_to_itself(opened, docs, name, other):
    links = opened(name).locator("main section a:not(.anchorjs-link), main > p a")
    found = links.evaluate_all("links => links.map(link => link.href)")
    home = [link for link in found if link.endswith(("/index.html", "/"))]
    assert home == [(docs / f"{other}.html").as_uri()], "the same page in the other language"


def test_a_table_holds_on_a_phone(opened):
    "It scrolls in its own box, and an option in its first column is whole."
    page = opened("serve", 390)
    table = page.locator(".sd-table:has(td:first-child > code)").first
    heights = table.locator("td:first-child > code").evaluate_all(
        "codes => codes.map(code => code.getClientRects().length)"
    )
    assert set(heights) == {1}
    assert table.evaluate("box => getComputedStyle(box).overflowX") == "auto"


def test_the_walk_in_the_sidebar(browser, docs):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    try:
        page.goto((docs / "index.html").as_uri())
        page.get_by_role("link", name="1 Check", exact=True).first.click()
        for following in ("install", "kernels", "download", "serve", "call"):
            page.locator(f'.page-navigation a[href="{following}.html"]').click()
            assert page.url.endswith(f"/{following}.html")
    finally:
        page.close()


# ---- in Chinese ----

HAN = re.compile("[\u4e00-\u9fff]")
NAMES = re.compile(r"\b(?:English|Qwen3|notebook|make lab|\S+\.ipynb|CANN|A2|A3|NPU|\d+)\b")
# The frame of a page: all that is not its text, with what a reader of screens hears of it.
FRAME = """() => {
    const parts = document.querySelectorAll(
        "#quarto-header, #quarto-sidebar, #toc-title, .page-tools, .page-navigation, .skip-link");
    const said = [];
    for (const part of parts) {
        said.push(...part.innerText.split("\\n"));
        for (const each of [part, ...part.querySelectorAll("*")])
            for (const name of ["aria-label", "title", "placeholder"])
                if (each.getAttribute(name)) said.push(each.getAttribute(name));
    }
    return said.map(text => text.trim()).filter(Boolean);
}"""


@pytest.mark.parametrize("name", ["zh/index", "zh/check"])
def test_the_frame_of_a_chinese_page_is_chinese(opened, name):
    page = opened(name)
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    said = page.evaluate(FRAME)
    rest = {text for text in said if not HAN.search(text) and NAMES.sub("", text).strip()}
    assert rest == {">"} & rest and len(said) > 40, rest
    assert page.locator(".navbar-brand").get_attribute("href") == "index.html"
    assert page.locator("#quarto-sidebar a", has_text="程序库").count() == 0
    sections = page.locator("#quarto-sidebar .sidebar-group").all_inner_texts()
    assert sections[-1] == "程序库（英文）" and len(sections) == 5
    page.set_viewport_size({"width": 390, "height": 844})
    boxes = page.locator("main pre, main .sd-table, main .lane")
    assert (boxes.evaluate_all(CUT), boxes.evaluate_all(BEYOND)) == (0, [])


def test_the_neighbours_of_a_chinese_page_are_chinese(docs):
    "The last one leads to no English page of the library."
    for path in (docs / "zh").glob("*.html"):
        text = path.read_text("utf8")
        (around,) = re.findall(r'class="page-navigation">(.*?)</nav>', text) or [""]
        assert "../" not in around and (HAN.search(around) or not around), path.name


@pytest.mark.parametrize("name", ["index", "check", "proved"])
def test_the_languages_lead_to_the_same_page(opened, name):
    page = opened(name)
    links = page.locator('head link[rel="alternate"]')
    assert [each.get_attribute("hreflang") for each in links.all()] == ["en", "zh-CN"]
    page.get_by_role("link", name="中文", exact=True).first.click()
    assert page.url.endswith(f"/zh/{name}.html")
    assert page.locator('.navbar [aria-current="true"]').inner_text() == "中文"
    page.locator(".navbar").get_by_role("link", name="English", exact=True).click()
    assert page.url.endswith(f"/{name}.html") and "/zh/" not in page.url
    assert page.locator('.navbar [aria-current="true"]').inner_text() == "English"


def test_a_page_of_the_library_leads_to_the_chinese_front_page(opened):
    page = opened("host/machine")
    assert page.locator('head link[rel="alternate"]').count() == 0
    link = page.get_by_role("link", name="中文", exact=True)
    assert link.get_attribute("title") == "本页只有英文，转到中文首页"
    link.click()
    assert page.url.endswith(f"/{CHINESE}")


def test_nothing_chinese_slants(opened):
    "Chinese has no italics: what is stressed stands upright, and is seen all the same."
    style = "box => [getComputedStyle(box).fontStyle, Number(getComputedStyle(box).fontWeight)]"
    found = opened("zh/versions").locator("main em").evaluate_all(f"boxes => boxes.map({style})")
    assert found and {tuple(each) for each in found} == {("normal", 600)}
    assert opened("versions").locator("main em").first.evaluate(style)[0] == "italic"


def test_a_search_finds_words_of_two_letters_in_the_pages_language(browser, docs):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(docs))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()

        def found(name: str, words: str) -> list[str]:
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html")
            page.locator("#quarto-search input").fill(words)
            page.locator(".search-result, .search-none").first.wait_for(state="visible")
            return page.locator(".search-result").evaluate_all("all => all.map(one => one.href)")

        try:
            for words in ("驱动", "显存", "版本组合"):
                links = found("zh/check", words)
                assert len(links) > 5 and all("/zh/" in link for link in links), words
                assert words in page.locator(".smalldocs-search-results").inner_text()
            links = found("zh/check", "run_plan")  # a name: the library is English, and comes last
            chinese = ["/zh/" in link for link in links]
            assert chinese == sorted(chinese, reverse=True) and {*chinese} == {True, False}
            assert "（英文）" in page.locator(".search-result").last.inner_text()
            assert not any("/zh/" in link for link in found("check", "driver"))
            assert found("zh/check", "qqqqzzzz") == []
            assert page.locator(".search-none").inner_text() == "没有找到"
        finally:
            page.close()
            server.shutdown()


def test_quarto_is_used_where_it_is(monkeypatch, tmp_path):
    "Quarto itself is not here; that nbdev_docs would be called is what can be shown."
    import build_docs

    called = []
    monkeypatch.setattr(
        shutil, "which", lambda name: "/usr/bin/quarto" if name == "quarto" else None
    )
    monkeypatch.setattr(build_docs, "by_quarto", called.append)
    assert build_docs.build(tmp_path) == []
    assert called == [tmp_path]
