"""Makes the pictures of the book, nbs/pictures/NAME.svg and NAME.zh.svg, from the project's data.

    python tools/pictures.py [--check]

--check writes nothing and fails where a file is not what would be made. Words, and what was
measured, lie in tools/pictures.toml; versions, routes, memory and npu-smi come from the package.
"""

import re
import sys
import tomllib
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from drawing import EDGE, WIDTH, Picture, breadth, wrapped
from made import run

from qwen_npu_tut.base.events import table
from qwen_npu_tut.engine.memory import GIB, chip_named, room, shape_of
from qwen_npu_tut.engine.stacks import fitting_stack, rows_of, stacks
from qwen_npu_tut.host.machine import Machine, Smi, read_machine
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.host.software import Cann, Software

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "nbs" / "pictures"
RECORD = ROOT / "qwen_npu_tut" / "machines" / "a2.json"
WORDS = tomllib.loads((ROOT / "tools" / "pictures.toml").read_text(encoding="utf8"))
LANGUAGES = {"en": "", "zh": ".zh"}  # what stands before .svg
NEWEST = "cann-9.0"  # the NPU stack that the pictures show


def recorded() -> Machine:
    "The A2 server whose record the package has."
    return read_machine(read_record(RECORD))


def layers(p: Picture) -> None:
    "Three ways down from one protocol."
    columns = {"npu": NEWEST, "cpu": "cpu", "emulated": "emulated"}
    columns = {name: stacks()[stack] for name, stack in columns.items()}
    npu, full, wide = columns["npu"], WIDTH - 2 * EDGE, 152
    p.note(p.say("legend"))
    y, middle = p.move(20), WIDTH / 2
    p.box(EDGE, y, full, 40, p.say("program"), "blue", ("bold",))
    p.badge(EDGE, y, 6)
    p.wire((middle, y + 40), (middle, y + 76))
    p.text(middle + 12, y + 63, p.say("protocol"), "soft")
    y = p.move(76)
    p.rect(EDGE, y, full, 112, "blue")
    p.badge(EDGE, y, 5)
    p.text(EDGE + 18, y + 25, "SGLang", "bold")
    for place, part in enumerate(("server", "tokenizer", "scheduler", "detokenizer")):
        x = EDGE + 12 + place * 116
        p.box(x, y + 38, 108, 60, p.say(part), "paper", ("plain",))
        if place:
            p.wire((x - 8, y + 68), (x, y + 68), tip=False)
    y = p.move(112)
    lefts = [EDGE + place * (wide + 12) for place in range(3)]
    for x in lefts:
        p.wire((x + wide / 2, y), (x + wide / 2, y + 20))
    y = p.move(20)
    for x, (name, stack) in zip(lefts, columns.items()):
        told = [p.say(name), p.say("stack", stack=stack.name)]
        sglang = stack.pins["sglang"]
        told += [f"SGLang {sglang.version}", p.say("grade", grade=sglang.proof)]
        p.box(x, y, wide, 92, "\n".join(told), "paper", ("bold", "plain"))
    y = p.move(104)
    torches = [f"torch {stack.version('torch')}" for stack in columns.values()]
    torches[0] += f"\ntorch_npu {npu.version('torch-npu')}"
    torches[2] += "\n" + p.say("pretended")
    kernels = f"sgl-kernel-npu\n{npu.version('sgl-kernel-npu')}"
    cann = f"CANN {npu.version('cann')}\nNNAL {npu.version('cann')}"
    rows = [  # chapter, hue, a text for each column
        (5, "blue", [p.say("ascend"), p.say("plugin"), p.say("ascend")]),
        (2, "violet", torches),
        (3, "violet", [kernels, p.say("own"), p.say("pretended_kernels")]),
        (1, "amber", [cann]),
        (1, "amber", [p.say("driver", driver=npu.version("driver"))]),
        (1, "green", [p.say("hardware"), p.say("processor"), p.say("processor")]),
    ]
    for x in lefts[1:]:
        p.box(x, y + 3 * 58, wide, 106, p.say("none"), "paper", ("soft",), " dash")
    for chapter, hue, told in rows:
        for x, words in zip(lefts, told):
            pretended = hue == "violet" and x == lefts[2]
            p.box(x, p.y, wide, 48, words, hue, ("plain",), " dash" if pretended else "")
        p.badge(EDGE, p.y, chapter)
        p.move(58)
    p.note(p.say("note"))


def server(machine: Machine, cann="", driver="", **more) -> Machine:
    "That machine with another CANN (and its NNAL) or another driver; empty: none."
    canns = (Cann("/usr/local/Ascend/cann", cann, {}, ()),) if cann else ()
    file = replace(machine.software.driver, version=driver) if driver else None
    made = replace(machine.software, canns=canns, nnal=cann, driver=file)
    return replace(machine, software=made, smi=replace(machine.smi, driver=driver or None), **more)


def route_leaves() -> dict[str, str]:
    "The stack at each end of the tree, as the program chooses it for such a machine."
    a2 = recorded()
    newest, oldest = (stacks()[name].version("driver") for name in (NEWEST, "cann-8.2"))
    canns = [stacks()[f"cann-{each}"].version("cann") for each in ("8.2", "8.3", "8.5", "9.0")]
    other = stacks()["cann-9.1"].version("cann")
    bare = replace(a2, npus=(), nodes=(), software=Software(), smi=Smi("command_not_found"))
    machines = {
        "no card": bare,
        "no driver": server(a2),
        "no docker": server(a2, driver=newest),
        "image": server(a2, driver=newest, docker=True),
        "old aarch64": server(a2, driver=oldest, docker=True),
        "old x86_64": server(a2, driver=oldest, docker=True, architecture="x86_64"),
        f"other {other}": server(a2, other, newest, docker=True),
        f"alone {other}": server(a2, other, newest),
    }
    machines |= {f"CANN {cann}": server(a2, cann, newest) for cann in canns}
    return {name: fitting_stack(machine).name for name, machine in machines.items()}


ASK, LEAF = 132, 188  # how wide a question is, and where the commands begin


def leaf(p: Picture, command: str, told: str) -> float:
    "What has to be, and the command then, at the right; where its middle is."
    lines, y = wrapped(told, WIDTH - EDGE - LEAF - 20, "soft"), p.y
    p.add("<g>")
    p.rect(LEAF, y, WIDTH - EDGE - LEAF, 34 + 19 * len(lines), "green")
    for place, line in enumerate(lines):
        p.text(LEAF + 10, y + 21 + 19 * place, line, "soft")
    p.text(LEAF + 10, y + 22 + 19 * len(lines), command, "code")
    p.add("</g>")
    p.move(34 + 19 * len(lines))
    return (y + p.y) / 2


def branch(p: Picture, asked: str, aside: str, down: str, leaves: list, below: list = ()) -> None:
    """A question with the commands of one answer beside it. `down` is the other answer: what
    follows, or the commands `below` it."""
    y, middle = p.y, EDGE + ASK / 2
    first = leaf(p, *leaves[0])
    height = max(58, min(p.y - y, 72))
    told = "\n".join(wrapped(asked, ASK - 12, "bold"))
    p.box(EDGE, y, ASK, height, told, "blue", ("bold",))
    p.wire((EDGE + ASK, first), (LEAF, first))
    if aside:
        p.text((EDGE + ASK + LEAF) / 2 - 3, first - 6, aside, "soft", "middle")
    for each in leaves[1:]:
        p.move(8)
        at = leaf(p, *each)
        p.wire((LEAF - 14, first), (LEAF - 14, at), (LEAF, at))
    for place, each in enumerate(below):
        p.move(8)
        at = leaf(p, *each)
        p.wire((middle, y + height), (middle, at), (LEAF, at))
        if not place:
            p.text(middle + 8, at - 6, down, "soft")
    end = max(p.y, y + height) + 22
    if down and not below:
        p.wire((middle, y + height), (middle, end))
        p.text(middle + 8, y + height + 17, down, "soft")
    p.y = end


def routes(p: Picture) -> None:
    "Questions down the left, a command at the right of each answer."
    ends, yes, no = route_leaves(), p.say("yes"), p.say("no")

    def up(end: str, key: str, **values) -> tuple[str, str]:
        return f"qwen-npu up --stack {ends[end]}", p.say(key, **values)

    def version(end: str, package: str) -> str:
        return stacks()[ends[end].removesuffix("-image")].version(package)

    p.note(p.say("legend"))
    p.move(16)
    needed = {"stack": ends["no driver"], "driver": version("no driver", "driver")}
    branch(p, p.say("card"), no, yes, [("make up", p.say("no_card", stack=ends["no card"]))])
    branch(p, p.say("driver"), no, yes, [("qwen-npu check", p.say("no_driver", **needed))])
    canns = [up(end, "cann_is", cann=end[5:]) for end in ends if end.startswith("CANN")]
    needed["cann"] = version("no docker", "cann")
    others = [end for end in ends if end[:5] in ("other", "alone")]
    canns += [up(end, end[:5], other=end[6:], **needed) for end in others]
    branch(p, p.say("cann"), yes, no, canns)
    bare = up("no docker", "no_docker", cann=needed["cann"])
    branch(p, p.say("docker"), no, yes, [bare])
    newest, oldest = version("image", "driver"), version("old aarch64", "driver")
    older = [up("old aarch64", "old_arm", driver=oldest)]
    older += [up("old x86_64", "old_intel", driver=newest)]
    branch(p, p.say("young", driver=newest), yes, no, [up("image", "image")], older)
    p.add(f'<path class="thin" d="M{EDGE} {p.y:g}H{WIDTH - EDGE}"/>')
    p.move(22)
    offline = [("qwen-npu install --wheels FOLDER", p.say("wheels"))]
    offline += [("docker load -i IMAGE.tar", p.say("load"))]
    branch(p, p.say("internet"), "", "", offline)
    p.move(-22)


LETTERS = {  # of a grade, and its hue
    "npu": ("N", "green"), "emulated": ("E", "violet"), "cpu": ("C", "blue"),
    "resolved": ("R", "green"), "stated": ("S", "amber"), "inferred": ("I", "grey"),
}  # fmt: skip


def versions(p: Picture) -> None:
    "A matrix in two halves, so that it holds on a phone."
    rows = [stack for stack in stacks().values() if not stack.image]
    p.note(p.say("legend"))
    x, y = EDGE, p.move(12)
    grades = table("grades.toml")["grades"]
    used = {pin.proof for stack in rows for pin in stack.pins.values()}
    for grade, (letter, hue) in LETTERS.items():
        if grade not in used:
            continue
        told = p.say("grade", grade=grade, meaning=grades[grade][p.language])
        lines = wrapped(told, WIDTH - 2 * EDGE - 34, "soft")
        p.box(x, y, 24, 22, letter, hue, ("bold",))
        for line in lines:
            p.text(x + 34, y + 16, line, "soft")
            y += 20
        y += 6
    for sign, key in (("≠", "disputed"), ("†", "refused")):
        p.text(x + 12, y + 16, sign, "bold", "middle")
        p.text(x + 34, y + 16, p.say(key), "soft")
        y += 24
    p.y = y + 16

    columns = [  # of each half: heading, width, what a stack has there
        [("driver", 72), ("CANN", 80), ("Python", 62), ("chip", 66), ("arch", 88)],
        [("torch", 56), ("torch-npu", 106), ("SGLang", 98), ("kernels", 140)],
    ]
    for half in columns:
        begins = list(accumulate([width for _, width in half], initial=0))
        left = WIDTH - EDGE - begins[-1]  # the stacks' names take the rest
        p.text(EDGE, p.y + 14, p.say("stack"), "soft")
        for (name, width), x in zip(half, begins):
            told = p.say(name) if name in p.words else name.replace("-", "_")
            p.text(left + x + width / 2, p.y + 14, told, "bold", "middle")
        p.move(22)
        for stack in rows:
            name = re.sub("-(guide|next)", r"\n-\1", stack.name)
            lines = (f"{name}†" if stack.refused and half == columns[0] else name).split("\n")
            for place, line in enumerate(lines):
                p.text(EDGE, p.y + 29 + 19 * place - 9 * (len(lines) - 1), line, "bold")
            for (name, width), x in zip(half, begins):
                p.box(left + x + 2, p.y + 2, width - 4, 44, *cell(stack, name))
            p.move(48)
        p.move(18)
    p.move(-24)


def cell(stack, name: str) -> tuple:
    "What a stack has of something: text, hue, look, border."
    plain = {"Python": stack.python, "chip": [" ".join(stack.series)], "arch": stack.architectures}
    if name in plain:
        return "\n".join(plain[name]) or "–", "paper", ("plain",)
    pin = stack.pins.get({"kernels": "sgl-kernel-npu"}.get(name, name.lower()))
    if pin is None:
        return "–", "paper", ("plain",)
    letter, hue = LETTERS[pin.proof]
    signs = f"{letter} ≠" if pin.against else letter
    return f"{pin.version}\n{signs}", hue, ("plain", "bold"), " dash" if pin.against else ""


def timeline(p: Picture) -> None:
    "Measured bars solid, estimated ones hatched, the unknown ones open."
    words, steps = p.words, p.words["steps"]
    looks = {"measured": ("green-solid", False, ""), "estimated": ("amber", True, "")}
    looks["unknown"] = ("paper", False, " dash")
    total = sum(step["seconds"] for step in steps)
    left, room_ = 150, WIDTH - EDGE - 150 - 66

    def head(told: str, where: str) -> None:
        p.text(EDGE, p.move(30), told, "head")
        p.text(EDGE, p.move(20), where, "soft")
        p.move(12)

    head(p.say("on_cpu", total=f"{total:.0f}"), p.say("where"))
    begun = 0.0
    for step in steps:
        x, width = left + room_ * begun / total, max(3, room_ * step["seconds"] / total)
        p.text(EDGE, p.y + 17, step[p.language])
        p.rect(x, p.y + 3, width, 18, *looks["measured"], min(4, width / 2))
        p.text(x + width + 6, p.y + 17, p.say("seconds", value=step["seconds"]), "soft")
        begun += step["seconds"]
        p.move(27)
    head(p.say("on_npu"), p.say("assumed"))
    size = stacks()[NEWEST].model_bytes / 1e9
    minutes = round(size * 1000 / words["rate"] / 60)
    rows = [
        (p.say("engine"), 0, p.say("image_disk")),
        (p.say("model", gb=f"{size:.1f}"), minutes, p.say("minutes", value=minutes)),
        (p.say("serve"), 0, p.say("unknown")),
    ]
    for name, known, told in rows:
        width = room_ * 0.72 if known else 14
        p.text(EDGE, p.y + 17, name)
        p.rect(left, p.y + 3, width, 18, *(looks["estimated"] if known else looks["unknown"]), 4)
        p.text(left + width + 8, p.y + 17, told, "soft")
        p.move(27)
    p.key((p.say(key), *look) for key, look in looks.items())


def npusmi(p: Picture) -> None:
    "The record's own words, blanks shortened, with numbers at what counts."
    machine, lines = recorded(), read_record(RECORD).commands["npu-smi info"].splitlines()
    device, count = machine.smi.devices[0], len(machine.smi.devices)
    facts = vars(device) | {"driver": machine.driver, "used": f"{device.hbm_used_mb / 1024:.1f}"}
    marks = [mark["of"].format(**facts) for mark in p.words["marks"]]
    last = next(line for line in lines if "No running" in line)
    p.note(p.say("source"))
    y, found = p.move(12), {}
    shown = [lines[1], *lines[3:5], *lines[6:8], "", last]
    p.rect(EDGE, y, WIDTH - 2 * EDGE, 26 * len(shown) + 16, "grey")
    for line in shown:
        y += 26
        if not line:
            p.text(EDGE + 14, y, p.say("more", count=count - 1), "soft")
        for place, cell in enumerate(line.strip("|").split("|")):
            x = EDGE + 14 + (0, 98, 218)[place]
            fields = re.split(r"\s{2,}", re.sub(r" +/ +", " / ", cell.strip()))
            if place == 2:  # two of six columns are left out
                fields[1 + (line in (lines[3], lines[6]))] = "…"
            for told in fields:
                for number, mark in enumerate(marks):
                    if mark in told and number not in found:
                        at = x + breadth(told[: told.index(mark)], "code")
                        found[number] = (at - 4, y - 15, breadth(mark, "code") + 8)
                        p.rect(*found[number], 20, "amber", round_=4)
                p.text(x, y, told, "code")
                x += max(breadth(told + "  ", "code"), 94 * (place == 2 and told != "…"))
    p.move(26 * len(shown) + 16 + 8)
    for number, mark in enumerate(p.words["marks"]):
        x, top, width = found[number]
        p.badge(x + width + 2, top, number + 1, "amber")
        p.badge(EDGE + 11, p.move(26) - 5, number + 1, "amber")
        lines = wrapped(mark[p.language].format(**facts), WIDTH - 2 * EDGE - 34)
        for place, line in enumerate(lines):
            p.text(EDGE + 34, p.y + 20 * place, line)
        p.move(20 * (len(lines) - 1))
    p.move(-4)


def tokens(p: Picture) -> None:
    "Every token a box, its id below."
    words = p.words
    kinds = {"special": ("violet", ""), "layout": ("grey", "")}
    kinds |= {"yours": ("green", ""), "added": ("amber", " dash")}
    p.note(p.say("note"))
    p.key((p.say(key), hue, False, more) for key, (hue, more) in kinds.items())
    for key, count in (("thinking", words["with_thinking"]), ("plain", len(words["pieces"]))):
        p.text(EDGE, p.move(34), p.say(key, count=count), "head")
        x, y = EDGE, p.move(14)
        for place, (number, piece) in enumerate(words["pieces"][:count]):
            told = piece.replace("\n", "⏎")
            kind = "special" if piece.startswith("<|") else "layout"
            kind = "yours" if piece in "你好！" else kind
            kind = "added" if place >= words["with_thinking"] else kind
            width = max(breadth(told, "code"), breadth(str(number), "soft")) + 14
            if x + width > WIDTH - EDGE:
                x, y = EDGE, y + 58
            (hue, more), look = kinds[kind], "bold" if kind == "yours" else "code"
            p.box(x, y, width, 50, f"{told}\n{number}", hue, (look, "plain"), more)
            x += width + 7
        p.y = y + 50


def toolcall(p: Picture) -> None:
    "A sequence: time runs down."
    lanes = [EDGE + 48, 190, 330, WIDTH - EDGE - 48]
    y = p.move(6)
    for x, actor, hue in zip(lanes, p.words["actors"], ("blue", "violet", "violet", "blue")):
        p.box(x - 48, y, 96, 50, actor[p.language], hue, ("bold",))
    y += 50
    end, phases = y + 564, {0: "first", 4: "between", 6: "second"}
    for x in lanes:
        p.add(f'<path class="thin" d="M{x} {y:g}V{end:g}"/>')
    for place, message in enumerate(p.words["messages"]):
        if place in phases:
            p.rect(EDGE, y + 16, WIDTH - 2 * EDGE, 26, "grey")
            p.text(EDGE + 10, y + 34, p.say(phases[place]), "soft")
            y += 40
        y += 44
        told, start, stop = message[p.language], lanes[message["from"]], lanes[message["to"]]
        width = breadth(told, "plain")
        middle = max((start + stop) / 2, lanes[0] + 10 + width / 2)
        back = f'x="{middle - width / 2 - 4:g}" y="{y - 24:g}" width="{width + 8:g}" height="20"'
        p.add(f'<rect {back} fill="var(--paper)"/>')
        p.text(middle, y - 9, told, "plain", "middle")
        p.wire((start, y), (stop, y), dash=message.get("back", False))
    p.y = y + 18
    p.note(p.say("note"))


def download(p: Picture) -> None:
    "What should happen at the left, what may happen at the right."
    wide, right, narrow = 190, 292, WIDTH - EDGE - 292
    rows = [
        ("listed", "refused", "rose"), ("fetching", "cut", "amber"),
        ("hashed", "wrong", "rose"), ("whole", "changed", "amber"),
    ]  # fmt: skip
    middle, y = EDGE + wide / 2, p.move(30)
    p.text(middle + 10, y - 6, p.say("asked"), "soft")
    p.wire((middle, y - 22), (middle, y))
    for good, bad, hue in rows:
        told = "\n".join([p.say(bad), *wrapped(p.say(f"{bad}_more"), narrow - 16, "plain")])
        height = max(58, 20 + 19 * len(told.split("\n")))
        look = "green" if good == "whole" else "blue"
        p.box(EDGE, y, wide, 58, f"{p.say(good)}\n{p.say(f'{good}_more')}", look, ("bold", "plain"))
        p.box(right, y, narrow, height, told, hue, ("bold", "plain"))
        at = y + 29
        if good == "fetching":
            p.wire((EDGE + wide, at - 12), (right, at - 12))
            p.wire((right, at + 14), (EDGE + wide, at + 14), dash=True)
            p.text((EDGE + wide + right) / 2, at + 31, p.say("resume"), "soft", "middle")
            fetch = y
        else:
            p.wire((EDGE + wide, at), (right, at))
        if good == "hashed":  # back to fetching
            bend, foot = EDGE + wide - 40, fetch + 58
            way = [(240, at), (240, foot + 24), (bend, foot + 24), (bend, foot)]
            p.wire(*way, dash=True)
            p.text(246, at - 12, p.say("again"), "soft")
        down = y + max(58, height)
        if good != "whole":
            p.wire((middle, y + 58), (middle, down + 40))
            y = down + 40
        else:
            repair = down + 36
            p.wire((right + narrow / 2, y + height), (right + narrow / 2, repair))
            words = f"{p.say('repaired')}\n{p.say('repaired_more')}"
            p.box(right, repair, narrow, 58, words, "violet", ("bold", "plain"))
            p.wire((right, repair + 29), (middle, repair + 29), (middle, y + 58), dash=True)
            p.y = repair + 58
    p.move(4)
    p.note(p.say("serve"))


def batch(p: Picture) -> None:
    "Eight bars one after another, and eight at once, on one axis."
    words = p.words
    one, all_, count = words["one_by_one"], words["at_once"], words["count"]
    p.note(p.say("where"))
    room_ = WIDTH - 2 * EDGE - 24
    scale, left = room_ / (int(one) + 1), EDGE + 24
    for key, value in (("one", one), ("all", all_)):
        p.text(EDGE, p.move(34), p.say(key, value=value), "head")
        y = p.move(10)
        for place in range(count):
            width = scale * value / (count if key == "one" else 1)
            x = left + (place * width if key == "one" else 0)
            p.rect(x, y + 2, width, 14, "grey-solid" if key == "one" else "green-solid", round_=3)
            p.text(EDGE + 14, y + 14, str(place + 1), "soft", "end")
            y += 19
        p.y = y
    y = p.move(8)
    p.add(f'<path class="thin" d="M{left} {y:g}H{WIDTH - EDGE}"/>')
    for second in range(0, int(one) + 1, 2):
        x = left + second * scale
        p.add(f'<path class="thin" d="M{x:g} {y:g}v5"/>')
        p.text(x, y + 20, p.say("axis", value=second), "soft", "middle")
    p.y = y + 26
    p.note(p.say("share"))


def memory(p: Picture) -> None:
    "One scale for all devices; each part has its number, a letter and a look."
    stack, shapes = stacks()[NEWEST], rows_of("memory.toml")["shapes"]
    p.note(p.say("note", sglang=stack.version("sglang"), stack=stack.name))
    looks = {"weights": ("blue", False), "cache": ("green", False)}
    looks |= {"left": ("grey", False), "taken": ("rose", True)}
    signs = dict(zip(looks, "ABCD"))
    p.key((f"{signs[key]} {p.say(key)}", *look, "") for key, look in looks.items())
    scale = (WIDTH - 2 * EDGE) / 64
    for row in p.words["rows"]:
        chip, name = chip_named(row["device"]), row["model"]
        found = room(shape_of(shapes[name], name), chip, stack, {"--tp-size": str(row["tp"])}).found
        total = chip.total_mib / 1024
        sizes = {
            "weights": found.weight_bytes / GIB,
            "cache": found.max_total_tokens * found.kv_bytes_per_token / GIB,
            "left": found.free_bytes / GIB,
        }
        sizes["taken"] = total - sum(sizes.values())
        key, model = "one" if row["tp"] == 1 else "several", name.split("/")[1]
        head = p.say(key, **row | {"model": model})
        p.text(EDGE, p.move(36), head, "head")
        p.text(WIDTH - EDGE, p.y, p.say("total", total=f"{total:.1f}"), "soft", "end")
        x, y = EDGE, p.move(10)
        for part, size in sizes.items():
            width = size * scale
            p.rect(x, y, width, 30, *looks[part], round_=min(4, width / 3))
            if width > 20:
                p.text(x + width / 2, y + 20, signs[part], "bold", "middle")
            x += width
        told = ", ".join(f"{signs[part]} {size:.1f}" for part, size in sizes.items())
        p.text(EDGE, p.move(50), f"{told} GiB", "soft")
        told = p.say("tokens", tokens=f"{found.max_total_tokens:,}", contexts=found.contexts)
        p.text(EDGE, p.move(20), told, "soft")


PICTURES = (layers, routes, versions, timeline, npusmi, tokens, toolcall, download, batch, memory)


def made() -> dict[str, str]:
    "Every file's name and text."
    files = {}
    for draw in PICTURES:
        for language, mark in LANGUAGES.items():
            picture = Picture(WORDS[draw.__name__], language)
            draw(picture)
            files[f"{draw.__name__}{mark}.svg"] = picture.svg()
    return files


def main() -> int:  # exit code
    "Write the files, or say which is out of date."
    files = {OUT / name: text for name, text in made().items()}
    return run(__doc__, "tools/pictures.py", lambda: files)


if __name__ == "__main__":
    sys.exit(main())
