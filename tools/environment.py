"""Makes .venv, or makes it again, so that it is what settings.ini says.

    python tools/environment.py package|dev

A stamp is written last. Without it nothing is trusted: what an interrupted run left is deleted
and made anew (pip keeps what it has downloaded). Needs the standard library only.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
MAKING = (
    VENV / ".making"
)  # there while pip works; found at the start, it means that a run was cut off
SIZES = {
    "package": "about 50 MB to download, 300 MB on disk, about a minute",
    "dev": "nbdev, JupyterLab and the test tools: about 120 MB more to download, "
    "400 MB on disk, one to two minutes",
}


def place() -> str:
    "Where .venv lies and which Python it is of: another place or Python needs another .venv."
    return f"{'%d.%d' % sys.version_info[:2]} {ROOT}"


def described() -> str:
    "A digest of the files that say what is to be installed."
    files = [(ROOT / name).read_bytes() for name in ("settings.ini", "setup.py")]
    return hashlib.sha256(b"\0".join(files)).hexdigest()


def stamp(part: str) -> list[str]:  # place and digest, as they were when this part was finished
    "What the stamp of a part of .venv says; empty where there is none."
    try:
        return (VENV / f".{part}").read_text(encoding="utf8").splitlines()
    except OSError:
        return []


def is_whole(part: str) -> bool:
    "Whether .venv has this part, made from today's settings.ini."
    return PYTHON.exists() and not MAKING.exists() and stamp(part) == [place(), described()]


@contextlib.contextmanager
def alone():
    """Let one process at a time make .venv; another waits and says so. The system frees the lock
    of a killed one."""
    with open(ROOT / ".venv.lock", "w") as lock:
        try:
            import fcntl
        except ImportError:
            fcntl = None  # Windows: two at once are the user's care
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another command is making .venv: waiting for it.", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def outside_venv() -> str:
    "The Python that .venv is made from, also where .venv's own is running this."
    return getattr(sys, "_base_executable", None) or sys.executable


def make(part: str) -> int:  # exit code
    "Install what is missing; nothing is left that could be taken for whole."
    started = time.monotonic()
    usable = PYTHON.exists() and not MAKING.exists() and stamp("package")[:1] == [place()]
    if not usable:
        if VENV.exists():
            print(
                "The .venv that is here is not whole, or not of this place and Python: "
                "it is made anew.",
                flush=True,
            )
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([outside_venv(), "-m", "venv", "--without-pip", str(VENV)], check=True)
    MAKING.touch()
    print(f"Making .venv with Python {sys.version.split()[0]}: {SIZES[part]}.", flush=True)
    if not usable:
        subprocess.run(
            [str(PYTHON), "-m", "ensurepip", "--upgrade"], check=True, stdout=subprocess.DEVNULL
        )
    wanted = f"{ROOT}[dev]" if part == "dev" else str(ROOT)
    pip = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--editable",
        wanted,
    ]
    if subprocess.run(pip, cwd=ROOT).returncode:
        print(
            "pip could not install the requirements (its message is above): "
            "look at network and free space, then run the same command again.",
            file=sys.stderr,
        )
        return 1
    finished = ["package", "dev"] if part == "dev" else ["package"]
    for name in finished:
        (VENV / f".{name}").write_text(f"{place()}\n{described()}\n", encoding="utf8")
    MAKING.unlink()
    print(f".venv is ready ({time.monotonic() - started:.0f} s).", flush=True)
    return 0


def main(arguments: list[str]) -> int:  # exit code
    "Make .venv unless it is whole."
    if len(arguments) != 1 or arguments[0] not in SIZES:
        print("usage: python tools/environment.py package|dev", file=sys.stderr)
        return 2
    part = arguments[0]
    if is_whole(part):
        return 0
    try:
        with alone():
            return 0 if is_whole(part) else make(part)
    except KeyboardInterrupt:
        print("\nStopped; the same command begins .venv anew.", file=sys.stderr)
        return 130
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f".venv could not be made: {error}. Look at free space and at who may write here, "
            "then run the same command again.",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
