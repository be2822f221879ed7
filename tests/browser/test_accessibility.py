"""The docs for everybody: axe-core's rules (WCAG 2.1 AA) in light and dark, on a desktop and on a
phone; the keyboard alone; and no other host."""

import functools
import http.server
import re
import threading

import pytest

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core here")

DARK = "document.documentElement.classList.contains('quarto-dark')"
FIRST_ENTRIES = """document.querySelectorAll('main section').forEach(
    part => [...part.children].slice(4).forEach(each => each.remove()))"""
# A page of each kind; the others are looked at by `make prove`.
KINDS = ["index", "quickstart", "check", "troubleshooting", "host/machine", "zh/check"]
OTHERS = ["zh/index", "install", "kernels", "download", "serve", "call", "fit", "versions"]
PAGES = [*KINDS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
DESKTOP, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 844}
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//
    | <link\b[^>]*\brel="(?:stylesheet|icon|preload)"[^>]*\bhref="(?:https?:)?//
    | @import\s+(?:url\()?["']?(?:https?:)?//
    | url\(["']?(?:https?:)?//
    | \bimport\s[^;]*\bfrom\s*['"]https?://""",
    re.X,
)
FOCUS = """() => {
    const at = document.activeElement, seen = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    return {
        name: at.textContent.trim() || at.getAttribute("aria-label") || at.tagName,
        visible: seen.outlineStyle !== "none" && parseFloat(seen.outlineWidth) > 0,
        inside: box.right > 0 && box.left < innerWidth,
        tag: at.tagName,
    };
}"""


@pytest.fixture
def opened(browser, docs):
    "A function that opens a page of the docs; all are closed afterwards."
    contexts = []

    def open_page(name, size=DESKTOP, scheme="light", address=None):
        contexts.append(
            browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        )
        page = contexts[-1].new_page()
        page.goto(f"{address or docs.as_uri()}/{name}.html")
        return page

    yield open_page
    for context in contexts:
        context.close()


def serious(page, *left_out) -> list:
    "What axe-core calls serious or critical, with three places each."
    context = {"exclude": [[part] for part in left_out]} if left_out else None
    options = {"resultTypes": ["violations"], "runOnly": RULES}
    found = axe.Axe().run(page, context, options).response["violations"]
    return [
        (wrong["id"], [node["html"][:200] for node in wrong["nodes"][:3]])
        for wrong in found
        if wrong["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(opened, docs, name):
    """Folded parts are opened first. Colours of code are the same on each page: one is looked at.
    Of hundreds of entries of one form, the first of each group."""
    if not (docs / f"{name}.html").exists():
        pytest.skip(f"there is no page {name}")
    page, found = opened(name), {}
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    if page.locator("main section").count() > 200:
        page.evaluate(FIRST_ENTRIES)
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(DARK if scheme == "dark" else f"!({DARK})")
            left_out = [] if (name, size) == ("check", DESKTOP) else ["pre code"]
            found[size["width"], scheme] = serious(page, *left_out)
    assert not any(found.values()), found


def test_axe_sees_what_is_wrong(opened):
    "The test above can fail: pale letters, a picture without a text, a link without a name."
    page = opened("index")
    page.evaluate("""document.querySelector('main').innerHTML =
        '<p style="color:#bbb">pale</p><img src="x.png"><a href="check.html"><i></i></a>'""")
    found = {name for name, _ in serious(page)}
    assert {"color-contrast", "image-alt", "link-name"} <= found


def test_every_picture_says_what_it_shows(docs):
    for path in docs.rglob("*.html"):
        for picture in re.findall(r"<img\b[^>]*>", path.read_text("utf8")):
            said = re.search(r'\balt="([^"]*)"', picture)
            assert said and len(said[1]) > 5, f"{path.relative_to(docs)}: {picture[:200]}"


def test_nothing_is_loaded_from_another_host(docs, opened):
    for path in [*docs.rglob("*.html"), *docs.rglob("*.css")]:
        found = LOADED.search(path.read_text("utf8"))
        assert not found, f"{path.relative_to(docs)}: {found[0]}"
    for name in ("index", "check", "serve", "fit"):
        page, asked = opened(name), []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.reload(wait_until="networkidle")
        page.keyboard.press("/")
        page.keyboard.type("npu-smi")
        assert len(asked) > 5
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_keys_reach_the_text_first(opened):
    page = opened("check")
    page.keyboard.press("Tab")
    first = page.evaluate(FOCUS)
    assert first["name"] == "Skip to the text" and first["visible"] and first["inside"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_what_has_the_focus_is_seen(opened, size, scheme):
    "Forty steps with Tab: each has an outline, and none is in a list outside the screen."
    page = opened("check", size, scheme)
    for _ in range(40):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        assert focus["tag"] == "BODY" or focus["visible"] and focus["inside"], focus


def test_the_list_of_pages_by_keyboard(opened):
    page = opened("check")
    group = page.get_by_role("button", name="Machine", exact=True)
    assert group.get_attribute("aria-expanded") == "false"
    inner = page.locator("#quarto-sidebar").get_by_role("link", name="npu-smi", exact=True)
    assert not inner.is_visible()
    group.focus()
    page.keyboard.press("Enter")
    inner.wait_for(state="visible")
    assert group.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/host/machine.html")
    opened_group = page.get_by_role("button", name="Machine", exact=True)
    assert opened_group.get_attribute("aria-expanded") == "true"
    assert page.locator('#quarto-sidebar [aria-current="page"]').is_visible()


def test_the_list_of_pages_on_a_phone(opened):
    page = opened("check", PHONE)
    button = page.locator(".quarto-btn-toggle")
    link = page.locator("#quarto-sidebar a").first
    assert not link.is_visible() and button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    link.wait_for(state="visible")
    assert button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    link.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.className").startswith("quarto-btn-toggle")


def test_folded_parts_by_keyboard(opened):
    page = opened("check")
    box = page.locator("details.code-fold").first
    assert box.locator("summary").inner_text() == "Imports of this page"
    assert page.locator("details[open]").count() == 0
    box.locator("summary").focus()
    page.keyboard.press("Enter")
    assert box.get_attribute("open") is not None
    assert "from qwen_npu_tut" in box.locator("code").inner_text()


def test_dark_and_light_by_keyboard(opened):
    page = opened("check")
    color = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(color)
    page.locator(".quarto-color-scheme-toggle").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{color} !== '{before}'")
    field = "getComputedStyle(document.querySelector('#quarto-search input')).backgroundColor"
    page.wait_for_function(f"{field} === {color}")
    page.reload()
    assert page.evaluate(color) != before, "the choice is kept"


def test_the_search_by_keyboard(opened, docs):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(docs))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened("check", address=f"http://127.0.0.1:{server.server_port}")
        page.keyboard.press("/")
        page.keyboard.type("HBM")
        page.locator(".search-result").first.wait_for(state="visible")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_function("!location.pathname.endsWith('/check.html') || location.hash")
        server.shutdown()
