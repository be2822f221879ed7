"""Makes .venv, or makes it again, so that it is what settings.ini says.

    python tools/environment.py package|dev

A stamp is written last. Without it nothing is trusted: what an interrupted run left is deleted
and made anew (pip keeps what it has downloaded). Needs the standard library only. What pip itself
says is English, and is shown where it fails.
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
PARTS = ("package", "dev")
SENTENCES = {  # each in English and in Chinese; values in braces
    "usage": (
        "usage: python tools/environment.py package|dev",
        "用法：python tools/environment.py package|dev",
    ),
    "waiting": (
        "Another command is making .venv: waiting for it.",
        "另一个命令正在创建 .venv，等待它完成。",
    ),
    "anew": (
        "The .venv that is here is not whole, or not of this place and Python: it is made anew.",
        "现有的 .venv 不完整，或不属于当前目录和 Python：正在重新创建。",
    ),
    "package": (
        "Making .venv with Python {python}: about 50 MB to download, 300 MB on disk, "
        "about a minute.",
        "正在用 Python {python} 创建 .venv：下载约 50 MB，占用磁盘 300 MB，约一分钟。",
    ),
    "dev": (
        "Making .venv with Python {python}: nbdev, JupyterLab and the test tools: about 120 MB "
        "more to download, 400 MB on disk, one to two minutes.",
        "正在用 Python {python} 创建 .venv：安装 nbdev、JupyterLab 和测试工具，再下载约 120 MB，"
        "占用磁盘 400 MB，一到两分钟。",
    ),
    "pip": (
        "pip could not install the requirements (its message is above): "
        "look at network and free space, then run the same command again.",
        "pip 未能安装依赖（原因见上方 pip 的输出）：请检查网络和剩余空间，然后重新运行同一命令。",
    ),
    "ready": (".venv is ready ({seconds:.0f} s).", ".venv 已就绪（{seconds:.0f} 秒）。"),
    "stopped": (
        "\nStopped; the same command begins .venv anew.",
        "\n已停止；再次运行同一命令会重新创建 .venv。",
    ),
    "failed": (
        ".venv could not be made: {error}. Look at free space and at who may write here, "
        "then run the same command again.",
        "无法创建 .venv：{error}。请检查剩余空间和写入权限，然后重新运行同一命令。",
    ),
}


def language() -> str:
    "As qwen-npu chooses it; English where the terminal has no Chinese letters."
    names = ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(os.environ.get, names)), "")
    try:
        for stream in (sys.stdout, sys.stderr):
            "简体中文".encode(stream.encoding or "utf8")
    except UnicodeEncodeError:
        return "en"
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


def say(name: str, out=None, **values) -> None:
    "Print a sentence in the reader's language, to stdout if `out` is None."
    english, chinese = SENTENCES[name]
    text = chinese if language() == "zh" else english
    print(text.format(**values), file=out, flush=True)


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
                say("waiting")
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
            say("anew")
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([outside_venv(), "-m", "venv", "--without-pip", str(VENV)], check=True)
    MAKING.touch()
    say(part, python=sys.version.split()[0])
    if not usable:
        # Ctrl-C reaches it too: what it says of that is no message for people, its failure is.
        command = [str(PYTHON), "-m", "ensurepip", "--upgrade"]
        subprocess.run(command, check=True, capture_output=True, text=True)
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
        say("pip", sys.stderr)
        return 1
    finished = ["package", "dev"] if part == "dev" else ["package"]
    for name in finished:
        (VENV / f".{name}").write_text(f"{place()}\n{described()}\n", encoding="utf8")
    MAKING.unlink()
    say("ready", seconds=time.monotonic() - started)
    return 0


def main(arguments: list[str]) -> int:  # exit code
    "Make .venv unless it is whole."
    if len(arguments) != 1 or arguments[0] not in PARTS:
        say("usage", sys.stderr)
        return 2
    part = arguments[0]
    if is_whole(part):
        return 0
    try:
        with alone():
            return 0 if is_whole(part) else make(part)
    except KeyboardInterrupt:
        say("stopped", sys.stderr)
        return 130
    except (OSError, subprocess.CalledProcessError) as error:
        print(getattr(error, "stderr", None) or "", end="", file=sys.stderr)
        say("failed", sys.stderr, error=error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
