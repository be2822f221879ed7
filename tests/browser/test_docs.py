"""The built docs, in a real browser at desktop and phone width; and the link check, on sites with
mistakes."""

import re
import shutil

import pytest

WIDTHS = [1300, 390]
PAGES = ["index", "index.zh", "check", "call", "base/settings"]


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
            r"<pre[^>]*>(?:(?!</pre>).)*\]\(https://datawhalechina", page.read_text(), re.S
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
            '<a href="https://datawhalechina.github.io/qwen_npu_tut/base/settings.html#no_such_name">',
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
