"""Runs notebooks from top to bottom in a real kernel and saves what they print.

    python tools/run_notebooks.py [--flags "npu"] [NOTEBOOK ...]

It stops at the first error. Cells with `#| eval: false`, and cells with a flag of settings.ini's
tst_flags that is not asked for, are not run and keep the outputs they have. A notebook is only
written when all of it ran.

What a cell for NPUs prints is saved from an emulated NPU alone, with a sentence behind it that says
so, and never over the outputs of a real one: those come from its record (tools/npu.py --fill).
"""

import argparse
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

from qwen_npu_tut.walk import choose

ROOT = Path(__file__).resolve().parent.parent
CELL_SECONDS = 900
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


def rehearsed(emulated: bool, following: dict) -> bool:
    """Whether a cell for NPUs may be saved; the text behind it says then where it was recorded.

    Not on a real NPU, and not where the text names one."""
    if not emulated or not following.source.startswith((NOT_YET, REHEARSED)):
        return False
    following.source = REHEARSED
    return True


def run(
    path: Path,  # a notebook
    skipped: set[str],  # the test flags that were not asked for
    emulated: bool = False,  # whether the stack's NPU is an emulated one
) -> str:  # empty, or what is wrong and where
    "Run one notebook and save it; it stays as it was when anything is wrong."
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code" or is_skipped(cell.source, skipped):
                continue
            before = cell.outputs
            try:
                client.execute_cell(cell, number)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                return f"cell {number} ({cell.id}) failed:\n{error}"
            cell.outputs = tidy(cell.outputs)
            if {*ON_NPU} & {*directives(cell.source)}:
                if not rehearsed(emulated, notebook.cells[number + 1]):
                    cell.outputs = before
            found = leaks(str(cell.outputs))
            if found:
                words = ", ".join(found)
                return f"cell {number} ({cell.id}) prints {words}: print the path's short form"
    nbformat.write(notebook, path)
    # The same cleaning as nbdev_clean: no counts, no addresses, no metadata.
    cleaned = read_nb(path)
    clean_nb(cleaned)
    write_nb(cleaned, path)
    return ""


def main() -> int:  # exit code
    "Run the notebooks: the library, the chapters, the index pages."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--flags", default="", help="test flags whose cells are run too, such as npu"
    )
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    nbs = ROOT / "nbs"
    library = sorted(path for path in nbs.rglob("*.ipynb") if path.parent != nbs)
    top = sorted(nbs.glob("*.ipynb"), key=lambda path: (not path.stem.isalpha(), path.name))
    notebooks = options.notebooks or [*library, *top]
    skipped = set(get_config(path=ROOT).tst_flags.split()) - set(options.flags.split())
    emulated = "npu" in options.flags.split() and choose().stack.emulated
    for path in notebooks:
        started = time.monotonic()
        wrong = run(path.resolve(), skipped, emulated)
        if wrong:
            print(f"{path.name}: {wrong}", file=sys.stderr)
            return 1
        print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
