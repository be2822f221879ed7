"""What the program does, kept as cases: plans, launch lines, units, compose files.

    PYTHONPATH=.:tests python tests/support/cases.py            compares, and names what differs
    PYTHONPATH=.:tests python tests/support/cases.py --write    records anew

`tests/unit/cases/*.json` hold what was recorded: a tree of cases, and `parts`, where each longer
text, list or mapping stands once, under a digest that begins with @@. A difference that is wanted
is named in `tests/unit/cases/differences.toml`. Everything that knows the package is in today.py.
"""

import contextlib
import difflib
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from unittest import mock

import today

FOLDER = Path(__file__).resolve().parent.parent / "unit" / "cases"
SIGN = "@@"  # begins the digest of a part
SHORT = 48  # characters of JSON; what is not longer stands where it is used

# The world that a case is made in: nothing of the caller's is seen

BASE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
CANN = {
    **BASE,
    "ASCEND_HOME_PATH": "/usr/local/Ascend/a b",
    "LD_LIBRARY_PATH": "/cann/lib64",
    "PYTHONPATH": "/cann/python/site-packages",
}
MARKS = [("/the/interpreter/python", "$PYTHON")]


def _refuse(*arguments, **more):
    raise AssertionError(f"A case asks neither network nor programs: {arguments[1:]}")


@contextlib.contextmanager
def world(name: str = "home") -> Iterator[Path]:
    "A folder of its own as home and working folder, a fixed environment, no network, no program."
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as patches:
        folder = Path(made).resolve()
        own = {**BASE, "HOME": str(folder / "user"), "QWEN_NPU_HOME": str(folder / name)}
        for patch in (
            mock.patch.dict(os.environ, own, clear=True),
            mock.patch.object(sys, "executable", MARKS[0][0]),
            mock.patch.object(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, create=True),
            mock.patch.object(socket.socket, "connect", _refuse),
            mock.patch.object(socket, "getaddrinfo", _refuse),
            mock.patch.object(subprocess.Popen, "__init__", _refuse),
        ):
            patches.enter_context(patch)
        patches.callback(os.chdir, before)
        os.chdir(folder)
        yield folder


class Plain:
    "Turns what today.py gives into plain data in which nothing is of this machine."

    def __init__(self, folder: Path):
        self.marks = [*today.marks(), *MARKS, (str(folder), "$FOLDER")]
        self.programs = today.programs()
        self.text = cache(self._text)  # the same words come again in thousands of cases

    def _text(self, text: str) -> str:
        for program, name in self.programs.items():
            text = text.replace(program, name)
        for found, mark in self.marks:
            text = text.replace(found, mark)
        return today.shortened(text)

    def __call__(self, value):
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(name)): self(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self(each) for each in value]
        return self.text(str(value))


# The cases

MIRROR, INDEX = "https://mirror.example/simple", "https://index.example/whl"
KERNELS = ("sgl_kernel_npu-1-cp311-none-any.whl", "deep_ep-1-cp311-none-any.whl")
TORCH = ("torch-2+cpu-cp311-none-any.whl",)
FOLDERS = {
    "wheels": (*KERNELS, *TORCH),
    "wheels without torch": KERNELS,
    "wheels without kernels": TORCH,
    "no wheels": (),
}
INDEXES = {
    "index": {"torch": True},
    "ordinary index": {},
    "mirror": {"torch": True, "mirror": MIRROR},
    "mirror alone": {"mirror": MIRROR},
    "own index": {"named": INDEX},
    "no index": {"named": ""},
    "not asked": {"ask": False},
    "no CANN": {"torch": True, "cann": None},
}


def supplies(folder: Path) -> dict[str, dict]:
    "Where an installation takes its packages from."
    for name, files in FOLDERS.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).touch()
    named = {name: {"wheels": folder / name} for name in (*FOLDERS, "missing folder")}
    return {name: {"cann": CANN, **each} for name, each in (INDEXES | named).items()}


def plans() -> dict:
    "stack / machine / supply / with DeepEP or without; of the further machines one supply."
    with world() as folder:
        plain, offered = Plain(folder), supplies(folder)
        alone = {"index": offered["index"]}
        every = [
            *((name, each, offered) for name, each in today.machines().items()),
            *((name, each, alone) for name, each in today.more_machines().items()),
        ]
        return {
            stack: {
                machine: {
                    supply: {
                        word: plain(today.plan(found, stack, taken, word == "deepep"))
                        for word in (("plain", "deepep") if given is offered else ("plain",))
                    }
                    for supply, taken in given.items()
                }
                for machine, found, given in every
            }
            for stack in today.stack_names()
        }


SCRIPTS = [
    ("cpu", "no NPU x86_64", "ordinary index"),
    ("cpu", "no NPU aarch64", "mirror"),
    ("cann-8.2", "A2 aarch64", "index"),
    ("cann-8.5", "A3 x86_64", "index"),
    ("cann-9.0", "A2 x86_64", "wheels"),
    ("cann-9.0-image", "image host A3", "index"),
]


def scripts() -> dict:
    "A few plans as scripts, one of them below an odd folder; and the page to the letter."
    with world() as folder:
        plain, offered, machines = Plain(folder), supplies(folder), today.machines()
        found = {}
        for stack, machine, supply in SCRIPTS:
            text = today.script_of(machines[machine], stack, offered[supply], False)
            found[f"{stack}, {machine}, {supply}"] = plain(text.split("\n"))
        written = {
            stack: {
                name: plain(today.as_written(machines[name], stack))
                for name in ("A2 aarch64", "A3 x86_64", "A2 other Pythons")
            }
            for stack in ("guide", "cann-8.2", "cpu")
        }
    with world("a home 家 'quoted' $HOME 50%") as folder:
        plain, machine = Plain(folder), today.machines()["A3 aarch64"]
        odd = today.script_of(machine, "cann-9.0", {"cann": CANN, "torch": True}, True)
        found["cann-9.0, A3 aarch64, odd home"] = plain(odd.split("\n"))
    return {"script": found, "as written": written}


MODEL = "Qwen/Qwen3-8B"
FIELDS = {
    "model": "Qwen/Qwen3-0.6B",
    "served_name": "my 'qwen'",
    "host": "0.0.0.0",
    "port": 31000,
    "api_key": "sk-case",
    "context_length": 8192,
    "max_total_tokens": 4096,
    "tensor_parallel": 2,
    "memory_fraction": 0.85,
    "reasoning_parser": "deepseek-r1",
    "tool_call_parser": "hermes",
    "flags": "--log-level info --trust-remote-code",
    "server": "other",
    "url": "http://other.example:30000",
    "endpoint": "https://hub.example",
    "stack": "cann-9.0",
}
FURTHER = {
    "host IPv6": {"host": "::"},
    "host by name": {"host": "node.example"},
    "port 0": {"port": 0},
    "tensor parallel 8": {"tensor_parallel": 8},
    "no model": {"model": "no model"},
    "server no file name": {"server": "a b"},
    "key not sent": {"api_key": "a key"},
    "flags not closed": {"flags": "--log-level 'info"},
    "flags own": {"flags": "--port 1"},
    "flags secret": {"flags": "--admin-api-key x"},
    "flags page size": {"flags": "--page-size 16"},
    "flags sampling": {"flags": "--sampling-backend=ascend"},
    "flags grammar": {"flags": "--grammar-backend none"},
    "flags hole": {"flags": "--enable-custom-logit-processor"},
    "preset unknown": {"preset": "w4"},
}
ENVIRONMENTS = {
    "proxies": {"no_proxy": "corp.example", "http_proxy": "http://proxy.example"},
    "ours and harmful": {"QWEN_NPU_PORT": "1", "MPLBACKEND": "agg", "ASCEND_USE_FIA": "1"},
}


def presets() -> dict[str, dict]:
    "The presets as settings; for a stack that one is not described for, a Problem is kept."
    return {f"preset {name}": {"preset": name} for name in today.preset_stacks()}


def settings(stack: str) -> dict[str, dict]:
    "Nothing, each setting alone, all together, every preset, and what is refused."
    alone = {name: {name: value} for name, value in FIELDS.items()}
    fitting = {
        name: each
        for name, each in presets().items()
        if stack in today.preset_stacks()[each["preset"]]
    }
    keyed = {
        f"{name}, key, two devices": {**each, "api_key": "sk-case", "tensor_parallel": 2}
        for name, each in fitting.items()
    }
    every = {"defaults": {}, **alone, "everything": FIELDS, **FURTHER, **presets(), **keyed}
    return {name: {"model": MODEL, **each} for name, each in every.items()}


def lines() -> dict:
    "stack / settings: line, environment beside the base, the container's variables."
    with world() as folder:
        plain = Plain(folder)
        found = {}
        for stack in today.stack_names():
            asked = {name: (each, {}) for name, each in settings(stack).items()}
            asked |= {name: ({"model": MODEL}, more) for name, more in ENVIRONMENTS.items()}
            found[stack] = {
                name: plain(today.line(stack, each, CANN | more))
                for name, (each, more) in asked.items()
            }
        return found


SAID = (
    "defaults",
    "api_key",
    "host",
    "tensor_parallel",
    "everything",
    "flags own",
    "flags hole",
    "preset w8a8",
    "preset w8a8-eagle3",
)


def said() -> dict:
    "stack / settings: what `serve --print` says, as data and as text."
    with world() as folder:
        plain, machine = Plain(folder), today.machines()["A2 aarch64"]
        busy = today.said(today.more_machines()["busy cards"], "cann-9.0", {"model": MODEL}, CANN)
        found = {
            stack: {
                name: plain(today.said(machine, stack, settings(stack)[name], CANN))
                for name in SAID
            }
            for stack in today.stack_names()
        }
        found["cann-9.0"]["busy cards"] = plain(busy)
        return found


def units() -> dict:
    "stack / settings; and one below a home with an odd name."
    with world() as folder:
        plain, machine = Plain(folder), today.machines()["A2 aarch64"]
        (folder / 'model "x" $y 50%').mkdir()
        asked = {
            "defaults": {},
            "everything": FIELDS,
            "port 0": {"port": 0},
            **presets(),
            "folder": {"model": str(folder / 'model "x" $y 50%')},
            "odd name": {"served_name": "50%\nof $x"},
        }
        found = {
            stack: {
                name: plain(today.unit(machine, stack, {"model": MODEL, **each}))
                for name, each in asked.items()
            }
            for stack in today.stack_names()
        }
    with world("a home 家 50% $x") as folder:
        text = today.unit(today.machines()["A2 aarch64"], "cpu", {"model": MODEL})
        found["cpu"]["odd home"] = Plain(folder)(text)
    return found


def composes() -> dict:
    "stack / machine / preset / key."
    with world() as folder:
        plain, machines = Plain(folder), today.machines()
        keys = {
            "no key": {},
            "key": {"api_key": "sk-case"},
            "everything": FIELDS,
            "open address": {"host": "0.0.0.0"},
        }
        hosts = ("image host A2", "image host A3", "record a2", "record a3", "no NPU x86_64")
        asked = {"defaults": {}, **presets()}

        def made_for(stack: str, host: str, each: dict):
            return plain(today.compose(machines[host], stack, {"model": MODEL, **each}))

        images = today.image_stacks()
        refused = {
            stack: {"record a2": {"defaults": {"no key": made_for(stack, "record a2", {})}}}
            for stack in today.stack_names()
            if stack not in images
        }
        return refused | {
            stack: {
                host: {
                    word: {key: made_for(stack, host, each | more) for key, more in keys.items()}
                    for word, each in asked.items()
                }
                for host in hosts
            }
            for stack in images
        }


# kind: how it is made, and how many steps lead from its root to a case
KINDS = {
    "plans": (plans, 4),
    "scripts": (scripts, 2),
    "lines": (lines, 2),
    "said": (said, 2),
    "units": (units, 2),
    "composes": (composes, 4),
}


def flat(kind: str, tree: Mapping, depth: int) -> dict[str, object]:
    "The cases of a tree by their path: kind/stack/…"
    if depth == 0:
        return {kind: tree}
    return {
        path: case
        for name, each in tree.items()
        for path, case in flat(f"{kind}/{name}", each, depth - 1).items()
    }


# How they are kept


def packed(tree) -> dict:
    "A tree in which each longer value stands once."
    parts: dict[str, object] = {}

    def pack(value, top: bool = False):
        if isinstance(value, str) and value.startswith(SIGN):
            raise ValueError(value)
        if isinstance(value, dict):
            kept = {name: pack(each) for name, each in value.items()}
        elif isinstance(value, list):
            kept = [pack(each) for each in value]
        else:
            kept = value
        text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
        if top or len(text) <= SHORT:
            return kept
        digest = SIGN + hashlib.sha256(text.encode()).hexdigest()[:10]
        if parts.setdefault(digest, kept) != kept:
            raise ValueError(f"two parts are {digest}")
        return digest

    return {"cases": pack(tree, top=True), "parts": parts}


def unpacked(document: Mapping):
    "The tree that was packed."
    parts = document["parts"]

    def unpack(value):
        if isinstance(value, str) and value.startswith(SIGN):
            return unpack(parts[value])
        if isinstance(value, dict):
            return {name: unpack(each) for name, each in value.items()}
        if isinstance(value, list):
            return [unpack(each) for each in value]
        return value

    return unpack(document["cases"])


def recorded(kind: str) -> dict[str, object]:
    "The recorded cases of a kind, by path."
    document = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf8"))
    return flat(kind, unpacked(document), KINDS[kind][1])


def made(kind: str) -> dict[str, object]:
    "The same cases, as the program makes them now."
    function, depth = KINDS[kind]
    return flat(kind, function(), depth)


def write() -> None:
    "Record every kind anew."
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind, (function, depth) in KINDS.items():
        tree = function()
        text = json.dumps(packed(tree), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (FOLDER / f"{kind}.json").write_text(text, encoding="utf8")
        print(f"{kind}: {len(flat(kind, tree, depth))} cases, {len(text.encode())} bytes")


# How they are compared

ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    "One place of one case that is not as it was recorded."

    case: str  # kind/stack/…
    place: str  # in the case: torch/command, environment/no_proxy, …
    was: str
    now: str

    def __str__(self):
        return f"{self.case}\n  at {self.place}\n  was {self.was[:600]}\n  now {self.now[:600]}"


def _shown(values: Sequence) -> str:
    return (
        " ".join(
            each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
            for each in values
        )
        or ABSENT
    )


def _named(value):
    "A list of steps as a mapping, so that one step more does not move all that follow."
    if not isinstance(value, list) or not value:
        return value
    if not all(isinstance(each, dict) and "name" in each for each in value):
        return value
    return {"(order)": [each["name"] for each in value]} | {each["name"]: each for each in value}


def differences(was, now, case: str, place: str = "") -> Iterator[Difference]:
    "Where two values differ: names of a mapping, words of a list, lines of a text."
    if was == now and type(was) is type(now):
        return
    was, now = _named(was), _named(now)
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*was, *now]):
            below = f"{place}/{name}".lstrip("/")
            yield from differences(was.get(name, ABSENT), now.get(name, ABSENT), case, below)
        return
    several = isinstance(was, str) and isinstance(now, str) and "\n" in was + now
    if several:
        was, now = was.split("\n"), now.split("\n")
    if isinstance(was, list) and isinstance(now, list):
        old, new = ([json.dumps(each, sort_keys=True) for each in side] for side in (was, now))
        for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
            if kind != "equal":
                yield Difference(case, place, _shown(was[a:b]), _shown(now[c:d]))
        return
    yield Difference(case, place, _shown([was]), _shown([now]))


def compared(kind: str) -> list[Difference]:
    "Every difference of a kind, the cases in their order."
    was, now = recorded(kind), made(kind)
    return [
        each
        for case in dict.fromkeys([*was, *now])
        for each in differences(was.get(case, ABSENT), now.get(case, ABSENT), case)
    ]


NEEDED, PERHAPS = {"cases", "what", "why"}, {"was", "now"}


def wanted() -> list[dict]:
    "The named differences; `cases`, `what`, `was` and `now` are shell patterns."
    text = (FOLDER / "differences.toml").read_text(encoding="utf8")
    rows = tomllib.loads(text).get("difference", [])
    for row in rows:
        if not NEEDED <= row.keys() <= NEEDED | PERHAPS or not row["why"].strip():
            raise ValueError(f"A named difference has cases, what, why, perhaps was, now: {row}")
    return rows


def covers(row: Mapping, each: Difference) -> bool:
    "Whether a named difference is this one."
    pairs = (
        (each.case, row["cases"]),
        (each.place, row["what"]),
        (each.was, row.get("was", "*")),
        (each.now, row.get("now", "*")),
    )
    return all(fnmatchcase(text, pattern) for text, pattern in pairs)


def judged(
    found: Sequence[Difference],  # all that differ
    rows: Sequence[Mapping],  # all that are named
) -> tuple[list[Difference], list[Mapping]]:
    "The differences that nobody named, and the named ones that do not occur."
    unnamed = [each for each in found if not any(covers(row, each) for row in rows)]
    return unnamed, [row for row in rows if not any(covers(row, each) for each in found)]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        sys.exit(write())
    if sys.argv[1:]:
        sys.exit(__doc__)
    unnamed, idle = judged([each for kind in KINDS for each in compared(kind)], wanted())
    for each in [*unnamed, *(f"named, and does not occur: {row}" for row in idle)]:
        print(each)
    sys.exit(bool(unnamed or idle))
