"""A picture as SVG text: boxes, arrows and words on a card of its own, in light and dark.

Nothing but the standard library, and nothing from another host: fonts are the system's. Words are
measured as the widest of usual fonts would set them, so that they fit with all of them.
"""

from html import escape
from unicodedata import east_asian_width

WIDTH, EDGE = 520, 20  # of every picture: narrow enough to be read on a phone

# Letters stand on paper or on a fill, with a contrast of 4.5 and more, and never on stripes; an
# edge has 3 and more to both. A test reckons it.
LIGHT = {
    "paper": "#fcfbf9", "line": "#d8d5ce", "ink": "#1d2330", "soft": "#565d6b",
    "blue": "#e4edf9", "blue-edge": "#3f6fb8", "green": "#e1f2e7", "green-edge": "#2c7d50",
    "amber": "#fbeed2", "amber-edge": "#9c6400", "rose": "#fbe5e2", "rose-edge": "#b3433a",
    "violet": "#ede6f8", "violet-edge": "#6f51b3", "grey": "#efede9", "grey-edge": "#787b83",
}  # fmt: skip
DARK = {
    "paper": "#161a21", "line": "#363c48", "ink": "#e9ebf0", "soft": "#a9b0be",
    "blue": "#1d2f4b", "blue-edge": "#7eaae9", "green": "#183627", "green-edge": "#6cc391",
    "amber": "#3b2e13", "amber-edge": "#dfa94d", "rose": "#42211f", "rose-edge": "#ee8f86",
    "violet": "#2d2546", "violet-edge": "#b49be9", "grey": "#252a33", "grey-edge": "#9097a5",
}  # fmt: skip
HUES = [name for name in LIGHT if f"{name}-edge" in LIGHT]
SIZES = dict(title=19, head=16, word=15, bold=14, plain=14, soft=14, code=14)  # of letters
SANS = "system-ui,'Segoe UI',Roboto,'PingFang SC','Microsoft YaHei','Noto Sans CJK SC',sans-serif"
MONO = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Noto Sans Mono CJK SC',monospace"


def style() -> str:
    "The rules of all pictures; an <img> follows the system's light or dark."

    def colours(palette: dict) -> str:
        return "svg{" + ";".join(f"--{name}:{value}" for name, value in palette.items()) + "}"

    rules = [colours(LIGHT), f"@media (prefers-color-scheme:dark){{{colours(DARK)}}}"]
    rules.append(f"text{{font-family:{SANS};fill:var(--ink)}}")
    rules += [f".{name}{{font-size:{size}px}}" for name, size in SIZES.items()]
    rules.append(".title,.head,.bold{font-weight:600}.soft{fill:var(--soft)}")
    rules.append(f".code{{font-family:{MONO}}}")
    for hue in HUES:
        rules.append(f".{hue}{{fill:var(--{hue});stroke:var(--{hue}-edge)}}")
        rules.append(f".{hue}-solid{{fill:var(--{hue}-edge)}}")
    rules.append(".paper{fill:var(--paper);stroke:var(--line)}")
    rules.append(".wire{fill:none;stroke:var(--soft);stroke-width:1.5}.tip{fill:var(--soft)}")
    rules.append(".thin{stroke:var(--line)}.dash{stroke:var(--soft);stroke-dasharray:5 4}")
    return "\n".join(rules)


def breadth(text: str, kind: str = "word") -> float:
    "How wide a text is at most, in pixels: wide fonts such as DejaVu are reckoned with."

    def em(letter: str) -> float:
        if east_asian_width(letter) in "WF" or ord(letter) > 0x2000:
            return 1.0
        if kind == "code":
            return 0.61
        return 0.92 if letter in "MWmw@%" else 0.7 if letter.isupper() else 0.61

    heavy = 1.06 if kind in ("title", "head", "bold") else 1
    return sum(map(em, text)) * SIZES[kind] * heavy


def broken(text: str, width: float, kind: str) -> list[str]:
    "Lines of at most that width; Chinese breaks anywhere but before a closing mark."
    lines = []
    for paragraph in text.split("\n"):
        pieces, word = [], ""
        for letter in paragraph:
            wide = east_asian_width(letter) in "WF"
            if wide and letter not in "，。、；：！？）”》" or letter == " ":
                pieces, word = [*pieces, word], ""
            word += letter
        line = ""
        for piece in [*pieces, word]:
            if line.strip() and breadth((line + piece).strip(), kind) > width:
                lines.append(line.strip())
                line = ""
            line += piece
        lines.append(line.strip())
    return lines


def wrapped(text: str, width: float, kind: str = "word") -> list[str]:
    "The same number of lines, as even as it can be: no word stands alone in the last."
    lines = broken(text, width, kind)
    while len(closer := broken(text, width := width - 8, kind)) == len(lines) > 1:
        if max(breadth(line, kind) for line in closer) > width:
            break
        lines = closer
    return lines


class Picture:
    "One SVG: elements from top to bottom, in one language."

    def __init__(self, words: dict, language: str):
        self.words, self.language = words, language
        self.parts, self.y = [], 0.0
        self.move(EDGE + 22)
        self.text(EDGE, self.y, self.say("title"), "title")
        self.move(14)

    def say(self, key: str, **values) -> str:
        "A phrase of this picture; its plain values are known by their names."
        plain = {name: each for name, each in self.words.items() if not isinstance(each, dict)}
        return self.words[key][self.language].format(**plain | values)

    def move(self, down: float) -> float:
        self.y += down
        return self.y

    def add(self, element: str) -> None:
        self.parts.append(element)

    def text(self, x: float, y: float, text: str, kind="word", anchor="start") -> None:
        "One line, whose letters stand on y."
        where = f'x="{x:g}" y="{y:g}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
        self.add(f'<text class="{kind}" {where}>{escape(text)}</text>' if text else "")

    def note(self, text: str) -> None:
        "Wrapped lines across the picture, below what is there."
        for line in wrapped(text, WIDTH - 2 * EDGE, "soft"):
            self.text(EDGE, self.move(20), line, "soft")

    def rect(self, x, y, width, height, hue="paper", hatch=False, more="", round_=8) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_}"'
        self.add(f'<rect class="{hue}{more}" {place}/>')
        if hatch:
            self.add(f'<rect {place} fill="url(#hatch-{hue})" stroke="var(--{hue}-edge)"/>')

    def box(self, x, y, width, height, text: str, hue="grey", kinds=("word",), more="") -> None:
        "A box with lines in its middle; `kinds` is the look of each line, the last of the rest."
        lines = text.split("\n")
        looks = [kinds[min(place, len(kinds) - 1)] for place in range(len(lines))]
        pitch = 19
        self.add("<g>")
        self.rect(x, y, width, height, hue, more=more)
        top = y + height / 2 - pitch * (len(lines) - 1) / 2 + 5
        for place, (line, look) in enumerate(zip(lines, looks)):
            self.text(x + width / 2, top + place * pitch, line, look, "middle")
        self.add("</g>")

    def badge(self, x, y, sign, hue="paper") -> None:
        "A sign in a circle."
        self.add(f'<g><circle class="{hue}" cx="{x:g}" cy="{y:g}" r="11"/>')
        self.text(x, y + 5, str(sign), "soft" if hue == "paper" else "word", "middle")
        self.add("</g>")

    def wire(self, *points, dash=False, tip=True) -> None:
        "A line through points, with an arrow's head at its end."
        way = "L".join(f"{x:g} {y:g}" for x, y in points)
        self.add(f'<path class="wire{" dash" if dash else ""}" d="M{way}"/>')
        if not tip:
            return
        (x0, y0), (x, y) = points[-2:]
        turn = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}
        angle = turn[(x > x0) - (x < x0), (y > y0) - (y < y0)]
        move = f"translate({x:g} {y:g}) rotate({angle})"
        self.add(f'<path class="tip" d="M0 0L-8 -4V4Z" transform="{move}"/>')

    def key(self, entries) -> None:
        "What each look stands for, one behind the other: text, hue, whether hatched, border."
        x, y = EDGE, self.move(12)
        for told, hue, hatch, more in entries:
            width = 30 + breadth(told, "soft")
            if x + width > WIDTH - EDGE:
                x, y = EDGE, self.move(25)
            self.rect(x, y + 3, 22, 16, hue, hatch, more, 4)
            self.text(x + 30, y + 16, told, "soft")
            x += width + 16
        self.move(22)

    def svg(self) -> str:
        "The file's text."
        height = round(self.y + EDGE)
        body = "\n".join(filter(None, self.parts))
        stripes = "".join(
            f'<pattern id="hatch-{hue}" width="7" height="7" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><path d="M0 0V7" stroke="var(--{hue}-edge)" '
            'stroke-width="2"/></pattern>'
            for hue in HUES
            if f"#hatch-{hue}" in body
        )
        title, desc = self.say("title"), self.say("desc")
        return (
            f"<!-- Made by tools/pictures.py: edit it, or its words in tools/pictures.toml. -->\n"
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="title desc" '
            f'xml:lang="{self.language}" lang="{self.language}">\n'
            f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(desc)}</desc>\n'
            f"<style>\n{style()}\n</style>\n" + (f"<defs>{stripes}</defs>\n" if stripes else "")
            + f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" '
            f'rx="14"/>\n{body}\n</svg>\n'
        )  # fmt: skip
