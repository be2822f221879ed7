"""What the package does, asked with plain values and answered with plain data.

This is the one file of the recorded cases that knows the package's names. When a function there
moves or takes other values, its call is changed here, and what comes out stays as it was:
`cases.py` compares it. Nothing here decides anything.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import machines as simulated

import qwen_npu_tut
from qwen_npu_tut import walk
from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.base.files import program
from qwen_npu_tut.engine import target
from qwen_npu_tut.engine.advisories import advisories
from qwen_npu_tut.server import handover
from qwen_npu_tut.server.launch import Launch, hand_over_key, launch, with_key
from qwen_npu_tut.host.machine import Machine, read_machine
from qwen_npu_tut.engine.plan import CommandDone, FileDone, PackagesDone, Spared, Step, script_text
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.settings import ALIASES, Settings, home
from qwen_npu_tut.engine.stacks import Stack, presets, stacks
from qwen_npu_tut.engine.target import Engine, supply

PACKAGE = Path(qwen_npu_tut.__file__).parent

# What names are written for

PROGRAMS = {
    "ANEW": "anew",
    "WITH_FILE": "with_file",
    "KEEP": "keep",
    "PRODUCT_ON_NPU": "probe",
    "LINK": "link",
    "FETCH": "archive",
    "SWAP": "swap",
    "LAY": "lay",
    "LAYING": "lay_package",
    "READ_BACK": "read_back",
    "SAME_TEXT": "same_text",
}


def programs() -> dict[str, str]:
    "A program's file, its text, and how a script names it, to what stands for it in a case."
    files = {name: program(file) for name, file in PROGRAMS.items()}

    def forms(file: Path) -> tuple[str, ...]:
        text = file.read_text()
        return text, shlex.quote(text), str(file), f'"$programs"/{file.name}'

    return {form: f"<{name}>" for name, file in files.items() for form in forms(file)}


def marks() -> list[tuple[str, str]]:
    "What differs from machine to machine and from release to release, and what is written for it."
    digest = hashlib.sha256(str(home()).encode()).hexdigest()[:8]  # in a container's name
    return [
        (str(home()), "$HOME_QN"),
        (str(PACKAGE), "$PACKAGE"),
        (str(PACKAGE.parent), "$SOURCE"),
        (f"qwen-npu-{digest}-", "qwen-npu-$HOME_DIGEST-"),
        (f"qwen_npu_tut-{version('qwen_npu_tut')}.", "qwen_npu_tut-$VERSION."),
    ]


def problem(error: Problem) -> dict:
    "An expected failure as data."
    return {"problem": {"what": error.what, "fix": error.fix, "code": error.code}}


# Machines and stacks


def machines() -> dict[str, Machine]:
    "The machines that every plan is made for."
    a2, a3 = simulated.A2, simulated.A3
    bare, none = {"canns": (), "nnal": ""}, simulated.MACHINES["none"][0]
    made = {
        "A2 aarch64": a2,
        "A3 aarch64": a3,
        "A2 x86_64": dataclasses.replace(a2, architecture="x86_64"),
        "A3 x86_64": dataclasses.replace(a3, architecture="x86_64"),
        "image host A2": dataclasses.replace(a2, docker=True, **bare),
        "image host A3": dataclasses.replace(a3, docker=True, architecture="x86_64", **bare),
        "no NPU x86_64": dataclasses.replace(none, architecture="x86_64"),
        "no NPU aarch64": dataclasses.replace(none, architecture="aarch64"),
    }
    found = {name: read_machine(each.host()) for name, each in made.items()}
    for name in ("a2", "a3"):
        found[f"record {name}"] = read_machine(read_record(PACKAGE / "machines" / f"{name}.json"))
    old = dataclasses.replace(found["A2 aarch64"], python="3.8")
    beside = {f"python3.{minor}": f"/usr/bin/python3.{minor}" for minor in (11, 12)}
    found["A2 other Pythons"] = dataclasses.replace(old, makers=beside)
    found["A2 conda"] = dataclasses.replace(old, makers={"conda": "/opt/conda/bin/conda"})
    return found


def more_machines() -> dict[str, Machine]:
    "The machines of the check, for which one plan each is enough."
    return {name: read_machine(each.host()) for name, (each, _) in simulated.MACHINES.items()}


def stack_names() -> list[str]:
    return list(stacks())


def image_stacks() -> list[str]:
    return [name for name, each in stacks().items() if each.image]


def preset_stacks() -> dict[str, list[str]]:
    "Each preset, and the stacks that it is described for."
    return {name: list(each.stacks) for name, each in presets().items()}


# Plans


def _proof(done) -> dict:
    kinds = {
        FileDone: "file",
        PackagesDone: "packages",
        CommandDone: "command",
        kernels.TagDone: "tag",
    }
    if isinstance(done, Spared):
        return {"kind": "spared", "own": _proof(done.own), "instead": _proof(done.instead)}
    found = {each.name: getattr(done, each.name) for each in dataclasses.fields(done)}
    return {"kind": kinds[type(done)], **found}


def _step(step: Step) -> dict:
    "All fields of a step; of its environment what differs from this process's."
    changed = {
        name: value for name, value in step.environment.items() if os.environ.get(name) != value
    }
    return {
        "name": step.name,
        "reason": step.reason,
        "guide": step.guide,
        "command": step.command,
        "environment": changed,
        "folder": step.folder,
        "needs": step.needs,
        "proof": _proof(step.done),
    }


@contextlib.contextmanager
def _indexes(stack: Stack, asked: Mapping) -> Iterator[None]:
    "The package indexes as a supply has them: nobody is asked."
    named = {"QWEN_NPU_TORCH_INDEX": asked["named"]} if "named" in asked else {}
    torch = stack.indexes.get("torch", "") if asked.get("torch") else ""
    index = target.torch_index if named else lambda stack: torch
    with (
        mock.patch.dict(os.environ, named),
        mock.patch.object(target, "torch_index", index),
        mock.patch.object(target, "package_mirror", lambda: asked.get("mirror", "")),
    ):
        yield


def _steps(machine: Machine, stack_name: str, asked: Mapping, deepep: bool) -> list[Step]:
    stack = stacks()[stack_name]
    if asked["cann"] is None and stack.cann_roots:
        root = home().parent / "no such CANN"
        stack = dataclasses.replace(stack, cann_roots=(str(root),))
    engine = Engine(machine, stack)
    with _indexes(stack, asked):
        given = supply(engine, asked.get("wheels"), asked.get("ask", True), asked["cann"])
    return kernels.installation(engine, given, deepep)


def plan(machine: Machine, stack_name: str, asked: Mapping, deepep: bool) -> list[dict] | dict:
    """The steps of an installation, or its Problem.

    `asked` has `cann`, the environment after CANN's scripts (None: there is no CANN), and may
    have `torch` (the CPU index answers), `mirror` (the address of the mirror that answers),
    `named` (the index that the user named), `wheels` (a folder), `ask` (False: nobody is asked).
    """
    try:
        return [_step(step) for step in _steps(machine, stack_name, asked, deepep)]
    except Problem as error:
        return problem(error)


def as_written(machine: Machine, stack_name: str) -> dict:
    "The page's own steps, and what stops them."
    try:
        steps, stop = kernels.as_written(Engine(machine, stacks()[stack_name]))
    except Problem as error:
        return problem(error)
    return {"steps": [_step(step) for step in steps], **problem(stop)}


def script_of(machine: Machine, stack_name: str, asked: Mapping, deepep: bool) -> str:
    "A plan as the script that `qwen-npu plan --format sh` prints."
    stack = stacks()[stack_name]
    return script_text(
        _steps(machine, stack_name, asked, deepep),
        f"The engine of the stack {stack_name}: {stack.title}",
        advisories(stack),
    )


# Servers


def _launch(stack_name: str, settings: Mapping, base: Mapping, machine: Machine, **more) -> Launch:
    "What a start would be given."
    named = {ALIASES.get(name, name): value for name, value in settings.items()}
    return launch(Settings(**named), Engine(machine, stacks()[stack_name]), base, **more)


def line(stack_name: str, settings: Mapping, base: Mapping[str, str]) -> dict:
    "What a server is started with, as `start` makes it: line, environment, the container's part."
    wanted, anywhere = handover.served_stack(stacks()[stack_name]), any_machine()
    try:
        made = with_key(_launch(wanted.name, settings, base, anywhere))
        hand_over_key(made.settings)
    except Problem as error:
        return problem(error)
    container = {
        name: value for name, value in made.environment.items() if name.startswith("QWEN_NPU_")
    }
    environment = {name: value for name, value in made.environment.items() if name not in container}
    names = [*base, *(name for name in environment if name not in base)]
    changed = {
        name: environment.get(name) for name in names if base.get(name) != environment.get(name)
    }  # None: taken out
    return {"line": made.line, "environment": changed, "container": container}


@functools.cache
def any_machine() -> Machine:
    "A line is the same on every machine."
    return read_machine(simulated.A2.host())


def said(machine: Machine, stack_name: str, settings: Mapping, base: Mapping[str, str]) -> dict:
    "What `serve --print` shows, as data and as text, and what is said before a server starts."
    page = stacks()[stack_name]
    served = handover.served_stack(page).name
    try:
        made = _launch(served, settings, base, machine, refuse=False)
        origins = {ALIASES.get(name, name): (value, "the call") for name, value in settings.items()}
        found = handover.described(made, origins, page)
        return {
            "data": found,
            "text": handover.as_text(found).split("\n"),
            "before": walk.before_serving(walk.Choice(made.settings, machine, page), base),
        }
    except Problem as error:
        return problem(error)


def unit(machine: Machine, stack_name: str, settings: Mapping) -> list[str] | dict:
    "A systemd unit's lines."
    try:
        made = _launch(stack_name, settings, {}, machine)
        return handover.systemd_unit(made, "/opt/qwen/bin/qwen-npu", "qwen").split("\n")
    except Problem as error:
        return problem(error)


def compose(machine: Machine, stack_name: str, settings: Mapping) -> list[str] | dict:
    "A compose file's lines."
    try:
        return handover.compose_file(_launch(stack_name, settings, {}, machine)).split("\n")
    except Problem as error:
        return problem(error)


def shortened(text: str) -> str:
    "A text with its SHA-256 values cut, and without those of our own files, which change."
    text = re.sub(r"(--hash=sha256:[0-9a-f]{8})[0-9a-f]{56}", r"\1", text)
    return re.sub(r",sha256=[\w-]+,\d+$", ",sha256=$DIGEST", text, flags=re.MULTILINE)
