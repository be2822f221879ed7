"""Are the modules what the notebooks export, are the notebooks clean, are the READMEs theirs, and
are the made and the Chinese pages what their data and their texts say? Nothing here is changed.

python tools/check_sync.py
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("settings.ini", "pyproject.toml", "nbs", "qwen_npu_tut")


def generated(root: Path) -> dict[str, Path]:  # name within the project -> file
    "The files that nbdev writes: modules and notebooks."
    modules = [path for path in root.glob("qwen_npu_tut/**/*.py") if path.parent.name != "programs"]
    files = [*modules, *root.glob("nbs/**/*.ipynb")]
    return {
        path.relative_to(root).as_posix(): path
        for path in sorted(files)
        if ".ipynb_checkpoints" not in path.parts
    }


def out_of_step() -> list[str]:  # one sentence for each file that nbdev would write otherwise
    "Export and clean a copy, and compare it with what is here."
    with tempfile.TemporaryDirectory(prefix="qwen-npu-sync-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    copy / name,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
                )
            else:
                shutil.copy2(source, copy / name)
        for name in ("nbdev_export", "nbdev_clean"):
            subprocess.run([str(Path(sys.executable).with_name(name))], cwd=copy, check=True)
        here, there = generated(ROOT), generated(copy)
        names = [
            name
            for name in sorted(here | there)
            if name not in here
            or name not in there
            or not filecmp.cmp(here[name], there[name], shallow=False)
        ]
    return [f"{name} is not what nbdev_export and nbdev_clean write: run both" for name in names]


def main() -> int:  # exit code
    "Name every file that is out of step."
    wrong = out_of_step()
    for line in wrong:
        print(line, file=sys.stderr)
    made = [
        subprocess.run([sys.executable, str(ROOT / "tools" / name), "--check"]).returncode
        for name in ("pages.py", "translate.py", "build_readme.py")
    ]
    if not wrong and not any(made):
        print("Modules, notebooks, READMEs, made and Chinese pages are in step.")
    return 1 if wrong or any(made) else 0


if __name__ == "__main__":
    sys.exit(main())
