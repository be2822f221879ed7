"""The walk on a real NPU, as a record that may be sent; its outputs put into the chapters.

    python tools/npu.py [--out FILE]   check, install, serve, chat, and the chapters' NPU cells,
                                       on an Ascend server (make npu)
    python tools/npu.py --fill FILE    the record's outputs into the NPU cells of nbs/, with
                                       machine and date beside them
    python tools/npu.py --rehearse     the same stages on an emulated NPU, on any machine; with
                                       --stack cpu on the processor alone

A record holds the machine (as `qwen-npu report` writes it), versions, seconds, replies and outputs,
and its grade: npu, emulated or cpu, as its stack says. Only a record of grade npu is filled in.
Secrets are removed; read it before you send it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import nbformat
from leaks import leaks
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbdev.config import get_config
from run_notebooks import CELL_SECONDS, ON_NPU, ROOT, directives, is_skipped, tidy
from translate import remake

from qwen_npu_tut.base.events import Problem, said
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.engine.stacks import Stack, stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import Machine, read_machine
from qwen_npu_tut.host.record import own_names, read_record, scrub
from qwen_npu_tut.host.system import RecordedHost
from qwen_npu_tut.walk import choose

BIN = Path(sys.executable).parent
CHAPTERS = sorted(path for path in (ROOT / "nbs").glob("0*.ipynb"))
DEVICE = re.compile(r"/dev/davinci\d+")
EMULATED = r"\(emulated\)|\bemulated-npu|\bqwen[-_]npu[-_]emulated"  # device, served name, package
PROMPTS = (
    ("你好！", False),
    ("Name the capital of France in one word.", False),
    ("What is 17 times 23?", True),
)
SENTENCES = {  # for whoever runs it on a server
    "done": {"en": "-- {name}: done, {seconds} s", "zh": "-- {name}：完成，{seconds} 秒"},
    "failed": {
        "en": "-- {name}: exit code {code}, {seconds} s",
        "zh": "-- {name}：退出码 {code}，{seconds} 秒",
    },
    "ended-early": {"en": "{name} ended early: {why}", "zh": "{name} 提前结束：{why}"},
    "no-npu": {
        "en": "There is no NPU of the series A2 or A3 here.",
        "zh": "本机没有 A2 或 A3 系列的 NPU。",
    },
    "no-npu-fix": {
        "en": "Run it on an Ascend server; a rehearsal on any machine:"
        " python tools/npu.py --rehearse",
        "zh": "请在昇腾服务器上运行；在任意机器上演练：python tools/npu.py --rehearse",
    },
    "there-already": {"en": "{file} is there already.", "zh": "{file} 已存在。"},
    "there-already-fix": {
        "en": "Name another file: --out FILE",
        "zh": "请指定另一个文件：--out FILE",
    },
    "written": {
        "en": "Written to {file}: {good} of {stages} stages succeeded. Read it before you send it.",
        "zh": "已写入 {file}：{stages} 个阶段中有 {good} 个成功。发送之前请先看一遍内容。",
    },
}
TEXT = r"\*(Not recorded yet|Recorded in rehearsal|Recorded on)"  # it stands behind such a cell


def grade(stack: Stack) -> str:
    "What a run with a stack can say: of an NPU, of an emulated one, or of a processor."
    return "npu" if stack.needs_npu else "emulated" if stack.emulated else "cpu"


def flags(stack: Stack) -> list[str]:
    "The cells that a stack can run: those of the card need a real one."
    return {"npu": [*ON_NPU], "emulated": ["npu"], "cpu": []}[grade(stack)]


def stages(chosen: Stack) -> dict[str, list[str]]:
    "The walk's commands, in order."
    command, stack, cells = str(BIN / "qwen-npu"), chosen.name, " ".join(flags(chosen))
    tests = [str(BIN / "nbdev_test"), "--n_workers", "1", "--flags", cells, "--file_re", r"^0\d_"]
    return {
        "check": [command, "check", "--json", "--stack", stack],
        "install": [command, "install", "--stack", stack],
        "check --deep": [command, "check", "--deep", "--json", "--stack", stack],
        "serve and one reply": [command, "up", "--yes", "--stack", stack],
        **{
            f"chat {place}": [command, "chat", text, "--json", "--think" if think else "--no-think"]
            for place, (text, think) in enumerate(PROMPTS, 1)
        },
        **({"chapters": tests} if cells else {}),
        "stop": [command, "stop"],
    }


def told(row: str, **values) -> str:
    "A sentence in the reader's language."
    return said(SENTENCES[row]).format(**values)


def run(name: str, line: list[str], environment: dict) -> dict:
    "One stage: its exit code, its seconds, and what it printed."
    print(f"== {name}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        line,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    seconds = round(time.monotonic() - began, 1)
    ended = "failed" if done.returncode else "done"
    print(told(ended, name=name, code=done.returncode, seconds=seconds), flush=True)
    return {
        "code": done.returncode,
        "seconds": seconds,
        "output": done.stdout[-6000:],
    }


def npu_outputs(asked: list[str], environment: dict) -> dict[str, dict[str, list]]:
    """The outputs of every cell with one of these flags: chapter to cell to outputs. The chapters
    run top to bottom in this environment; the files stay as they are."""
    found: dict[str, dict[str, list]] = {}
    left_out = {*get_config(path=ROOT).tst_flags.split()} - {*asked}
    for path in CHAPTERS:
        notebook = nbformat.read(path, as_version=4)
        marked = {cell.id for cell in notebook.cells if {*asked} & {*directives(cell.source)}}
        if not marked:
            continue
        print(f"== {path.name}", flush=True)
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            with client.setup_kernel(env=environment):
                for number, cell in enumerate(notebook.cells):
                    if cell.cell_type != "code" or is_skipped(cell.source, left_out):
                        continue
                    client.execute_cell(cell, number)
                    if cell.id in marked:
                        found.setdefault(path.name, {})[cell.id] = tidy(cell.outputs)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(told("ended-early", name=path.name, why=str(error)[-300:]), flush=True)
    return found


def packages(engine: Engine) -> dict[str, str]:
    "What the engine has installed, by its own word."
    done = subprocess.run(
        [
            engine.python,
            "-m",
            "pip",
            "list",
            "--format",
            "json",
            "--disable-pip-version-check",
        ],
        capture_output=True,
        text=True,
    )
    return (
        {each["name"]: each["version"] for each in json.loads(done.stdout)}
        if done.returncode == 0
        else {}
    )


def clean(value: object, names: list[str]) -> object:
    "Every text of a document without secrets and names."
    if isinstance(value, str):
        return scrub(value, names)
    if isinstance(value, list):
        return [clean(each, names) for each in value]
    if isinstance(value, dict):
        return {clean(key, names): clean(each, names) for key, each in value.items()}
    return value


def record(out: Path, rehearse: str = "") -> int:  # exit code
    """Walk, and write down what happened; a stage that fails is written down too.

    `rehearse`: the stack of a rehearsal. `Problem` without one where there is no NPU."""
    chosen = choose(stack=rehearse or None)
    if not rehearse and not chosen.stack.needs_npu:
        raise Problem(told("no-npu"), told("no-npu-fix"))
    if out.exists():
        what = told("there-already", file=out.name)
        raise Problem(what, told("there-already-fix"), code=2)
    environment = {
        **os.environ,
        "QWEN_NPU_SERVER": "npu-record",
        "QWEN_NPU_PORT": "0",
        "QWEN_NPU_STACK": chosen.stack.name,
    }
    recorded = environment | {"QWEN_NPU_LANG": "en"}  # as the chapters are that it is put into
    ran = {name: run(name, line, recorded) for name, line in stages(chosen.stack).items()}
    report = subprocess.run(
        [BIN / "qwen-npu", "report", "--stack", chosen.stack.name],
        capture_output=True,
        text=True,
        env=recorded,
    )
    document = {
        "qwen_npu_run": 1,
        "grade": grade(chosen.stack),
        "date": date.today().isoformat(),
        "stack": chosen.stack.name,
        "machine": json.loads(report.stdout),
        "packages": packages(chosen.engine),
        "stages": ran,
        "cells": npu_outputs(flags(chosen.stack), recorded),
    }
    write_atomic(out, json.dumps(clean(document, own_names()), ensure_ascii=False, indent=1) + "\n")
    good = sum(not each["code"] for each in ran.values())
    print(told("written", file=out.name, good=good, stages=len(ran)))
    return 0 if good == len(ran) else 1


FORM = {
    "qwen_npu_run": int,
    "grade": str,
    "date": str,
    "stack": str,
    "machine": dict,
    "packages": dict,
    "stages": dict,
    "cells": dict,
}


def read_run(file: Path) -> dict:
    "A record of a run; `Problem` where the file is none."
    try:
        found = json.loads(file.read_text(encoding="utf8"))
        if not isinstance(found, dict) or found.get("qwen_npu_run") != 1:
            raise ValueError("It does not say that it is one.")
        for name, kind in FORM.items():
            if not isinstance(found.get(name), kind):
                raise ValueError(f"Its part {name} is missing or has another form.")
        date.fromisoformat(found["date"])
        for cells in found["cells"].values():
            if not isinstance(cells, dict) or not all(
                isinstance(each, list) for each in cells.values()
            ):
                raise ValueError("Its outputs have another form.")
    except (OSError, ValueError) as error:
        raise Problem(
            f"{file.name} is not the record of a run. {error}",
            "Make one on an Ascend server: make npu",
            code=2,
        ) from None
    return found


def machine_of(found: dict, folder: Path) -> RecordedHost:
    "The recorded machine, through the reader that checks every record."
    file = folder / ".machine.json"
    try:
        file.write_text(json.dumps(found["machine"]), encoding="utf8")
        return read_record(file)
    finally:
        file.unlink(missing_ok=True)


def refuse_rehearsed(file: Path, found: dict, machine: Machine) -> None:
    "`Problem` where a record's grade, its stack, its machine or its outputs are not an NPU's."
    stack, whole = stacks().get(found["stack"]), json.dumps(found)  # cells, stages, packages
    against = {
        f"its grade is {found['grade']}": found["grade"] == "npu",
        f"its stack is {found['stack']}": bool(stack and stack.needs_npu),
        "its machine has no /dev/davinci0": any(map(DEVICE.fullmatch, machine.nodes)),
        "its outputs name an emulated NPU": not re.search(EMULATED, whole),
    }
    for why, good in against.items():
        if not good:
            raise Problem(
                f"{file.name} was not recorded on an NPU: {why}.",
                "Only what an NPU printed goes into the chapters: make npu, on one.",
            )


def fill(file: Path, nbs: Path) -> list[str]:  # the cells that were filled
    """Put a record's outputs into the NPU cells of a folder of chapters; the text behind each says
    where and when."""
    found = read_run(file)
    machine = read_machine(machine_of(found, nbs))
    refuse_rehearsed(file, found, machine)
    chip = machine.soc or machine.series or "unknown chip"
    driver, cann = machine.driver or "unknown", machine.cann or "in its image"
    where = (
        f"*Recorded on {found['date']} on an {chip}, driver {driver}, CANN {cann},"
        f" with the stack {found['stack']} (grade: npu).*"
    )
    changed, filled = {}, []
    for name, outputs in found["cells"].items():
        path = nbs / Path(name).name
        if not path.is_file():
            raise Problem(
                f"There is no chapter {path.name}.",
                "The record belongs to another release of this guide.",
                code=2,
            )
        notebook = nbformat.read(path, as_version=4)
        for cell, following in zip(notebook.cells, notebook.cells[1:]):
            if cell.id not in outputs or not {*ON_NPU} & {*directives(cell.source)}:
                continue
            if private := leaks(json.dumps(outputs[cell.id])):
                raise Problem(
                    f"The cell {cell.id} of {path.name} printed {', '.join(private)}.",
                    "Remove it from the record by hand.",
                )
            cell.outputs = [nbformat.from_dict(each) for each in outputs[cell.id]]
            following.source = where if re.match(TEXT, following.source) else following.source
            filled.append(f"{path.name} {cell.id}")
        changed[path] = notebook
    for notebook in changed.values():
        nbformat.validate(notebook)
    for path, notebook in changed.items():
        nbformat.write(notebook, path)
    return filled


def main() -> int:  # exit code
    "As the file's first text says."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("npu-record.json"), help="the record's file"
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="on an emulated NPU, on any machine; the record says so",
    )
    parser.add_argument(
        "--stack",
        default="emulated",
        choices=[name for name, stack in stacks().items() if not stack.needs_npu],
        help="the stack of a rehearsal (emulated)",
    )
    parser.add_argument(
        "--fill", type=Path, metavar="FILE", help="put this record's outputs into the chapters"
    )
    options = parser.parse_args()
    try:
        if not options.fill:
            return record(options.out, options.stack if options.rehearse else "")
        for each in fill(options.fill, ROOT / "nbs"):
            print(f"filled {each}")
            remake(Path(each.split()[0]).stem)
        return 0
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.code


if __name__ == "__main__":
    sys.exit(main())
