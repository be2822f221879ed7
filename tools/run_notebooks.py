"""Runs notebooks from top to bottom in a real kernel and saves what they print.

    python tools/run_notebooks.py [NOTEBOOK ...]

It stops at the first error. Cells with `#| eval: false`, and cells with a flag of settings.ini's
tst_flags, are not run and keep the outputs they have. A notebook is only written when all of it
ran. The Chinese twin of a saved page is made anew with its outputs (tools/translate.py).

The six chapters are run twice, in two lanes: on this machine's processor (cpu), and as a recorded
A2 server whose NPU is an emulated one (emulated). A cell that begins with `#| lanes` shows both
outputs, each behind a line that names its lane; all others show the processor's. What a cell for
NPUs prints is saved from the emulated lane, with a sentence behind it that says so, and never over
the outputs of a real one: those come from its record (tools/npu.py --fill).
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from execnb.nbio import read_nb, write_nb
from leaks import leaks
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbdev.clean import clean_nb
from nbdev.config import get_config
from translate import CHINESE, remake

ROOT = Path(__file__).resolve().parent.parent
CELL_SECONDS = 900
NBS = ROOT / "nbs"
RECORD = ROOT / "qwen_npu_tut" / "machines" / "a2.json"
# What a chapter is run with in each lane; run_tests.py does the same.
LANES = {
    "cpu": {"QWEN_NPU_STACK": "cpu"},
    "emulated": {"QWEN_NPU_STACK": "emulated", "QWEN_NPU_MACHINE": str(RECORD)},
}
LABELS = {
    "cpu": "[cpu] on a processor, without an NPU",
    "emulated": "[emulated] as a recorded A2 server, on an emulated NPU",
}
ON_NPU = ("npu", "card")  # the flags of cells for an NPU, real or emulated, and for the card itself
NOT_YET = "*Not recorded yet"
REHEARSED = "*Recorded in rehearsal, on an emulated NPU (grade: emulated).*"


def directives(source: str) -> dict[str, str]:
    "nbdev's `#|` lines at the top of a cell: {'eval': 'false', 'npu': ''}."
    found = {}
    for line in source.splitlines():
        if not line.startswith("#|"):
            break
        name, _, value = line[2:].strip().partition(" ")
        found[name.rstrip(":")] = value.strip()
    return found


def is_skipped(
    source: str,  # a cell's source
    skipped: set[str],  # the test flags that were not asked for
) -> bool:  # whether the cell keeps its old outputs
    "What nbdev_test does not run is not run here either."
    found = directives(source)
    return found.get("eval", "").lower() == "false" or bool(skipped & found.keys())


def tidy(outputs: list) -> list:
    """One stream after another becomes one; what a progress bar overwrote is left out, as a
    terminal would."""
    for output in outputs:
        if output["output_type"] == "stream":
            output["text"] = "\n".join(
                line.rsplit("\r", 1)[-1]
                for line in output["text"].replace("\r\n", "\n").split("\n")
            )
    return outputs


def rehearsed(following: dict) -> bool:
    """Whether a cell for NPUs may be saved; the text behind it says then where it was recorded.

    Not where the text names a real one."""
    if not following.source.startswith((NOT_YET, REHEARSED)):
        return False
    following.source = REHEARSED
    return True


def executed(
    path: Path,  # a notebook
    skipped: set[str],  # the test flags whose cells are not run
    environment: dict[str, str],  # what is added to this process's own
) -> tuple[nbformat.NotebookNode, str]:  # it with its outputs; and what is wrong, and where
    "Run a notebook; it is not saved."
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel(env={**os.environ, "QWEN_NPU_LANG": "en", **environment}):
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code" or is_skipped(cell.source, skipped):
                continue
            try:
                client.execute_cell(cell, number)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                return notebook, f"cell {number} ({cell.id}) failed:\n{error}"
            cell.outputs = tidy(cell.outputs)
            if found := leaks(str(cell.outputs)):
                words = ", ".join(found)
                return (
                    notebook,
                    f"cell {number} ({cell.id}) prints {words}: print the path's short form",
                )
    return notebook, ""


def labelled(lane: str, outputs: list) -> list:
    "The outputs of a lane, behind a line that names it."
    label = nbformat.v4.new_output("stream", name="stdout", text=f"{LABELS[lane]}\n")
    if outputs and outputs[0].output_type == "stream" and outputs[0].name == "stdout":
        label.text += outputs[0].text
        outputs = outputs[1:]
    return [label, *outputs]


def beside(notebook: nbformat.NotebookNode, other: nbformat.NotebookNode) -> None:
    "Take the emulated lane's outputs into a notebook, where a cell shows both or is for an NPU."
    for number, (cell, twin) in enumerate(zip(notebook.cells, other.cells)):
        found = directives(cell.source)
        if "lanes" in found:
            cell.outputs = labelled("cpu", cell.outputs) + labelled("emulated", twin.outputs)
        if "npu" in found and rehearsed(notebook.cells[number + 1]):
            cell.outputs = twin.outputs


def run(path: Path) -> str:  # empty, or what is wrong and where
    "Run one notebook and save it; it stays as it was when anything is wrong."
    if path.parent == CHINESE:
        return f"it is made: run nbs/{path.name}, whose outputs it shows"
    flags = set(get_config(path=ROOT).tst_flags.split())
    chapter = bool(re.fullmatch(r"0[1-6]_\w+", path.stem)) and path.parent == NBS
    notebook, wrong = executed(path, flags, LANES["cpu"] if chapter else {})
    if chapter and not wrong:
        other, wrong = executed(path, flags - {"npu"}, LANES["emulated"])
        beside(notebook, other)
    if wrong:
        return wrong
    nbformat.write(notebook, path)
    # The same cleaning as nbdev_clean: no counts, no addresses, no metadata.
    cleaned = read_nb(path)
    clean_nb(cleaned)
    write_nb(cleaned, path)
    if path.parent == NBS:
        remake(path.stem)
    return ""


def main() -> int:  # exit code
    "Run the notebooks: the library, the chapters, the index pages."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    library = sorted(path for path in NBS.rglob("*.ipynb") if path.parent not in (NBS, CHINESE))
    top = sorted(NBS.glob("*.ipynb"), key=lambda path: (not path.stem.isalpha(), path.name))
    notebooks = options.notebooks or [*library, *top]
    for path in notebooks:
        started = time.monotonic()
        wrong = run(path.resolve())
        if wrong:
            print(f"{path.name}: {wrong}", file=sys.stderr)
            return 1
        print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
