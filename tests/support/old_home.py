"""A home as commit 48de023 leaves it, with its server running.

It is laid from home_48de023/, which that commit's own code wrote on Linux x86_64 with Python 3.11,
the real engine and the teaching model. There {home} stands for the home's path. The key is made up;
the server's log ends where it was ready, and its lines are cut. What was too large to keep is laid
again: the model of tiny_model (the old code proved it, its record is kept as it was), empty files
for the engine's packages (their names are kept), fake_engine.py for its interpreter.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from patience import patient

FORM = Path(__file__).with_name("home_48de023")
FAKE = Path(__file__).with_name("fake_engine.py")
MODEL = "made-up/tiny"
MODEL_FOLDER = Path("models", "made-up--tiny")
SITE = Path("stacks/cpu/env/lib/python3.11/site-packages")
PYTHON = Path("stacks/cpu/env/bin/python")
READY = "The server is fired up and ready to roll!"


def tiny_model(folder: Path) -> Path:
    "A folder in Hugging Face layout with one tensor; complete, and no model at all."
    folder.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


def lay_model(home: Path) -> None:
    "The tiny model, with the times that its record names."
    folder = tiny_model(home / MODEL_FOLDER)
    record = json.loads((home / f"models/records/{folder.name}.json").read_text())
    for row in record["files"]:
        os.utime(folder / row["path"], ns=(row["mtime_ns"], row["mtime_ns"]))


def lay_engine(home: Path) -> None:
    "The packages' names, the old plugin's files without their content, the stand-in for Python."
    for name in (FORM / "packages.txt").read_text().splitlines():
        (home / SITE / name).mkdir(parents=True)
        (home / SITE / name / "RECORD").touch()
    record = next((home / SITE).glob("qwen_npu_tut-*.dist-info")) / "RECORD"
    for name in (row.partition(",")[0] for row in record.read_text().splitlines()):
        (home / SITE / name).parent.mkdir(parents=True, exist_ok=True)
        if not (home / SITE / name).exists():
            (home / SITE / name).touch()
    (home / PYTHON).parent.mkdir(parents=True)
    (home / PYTHON).write_text(
        f"#!{sys.executable}\nimport runpy\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    )
    (home / PYTHON).chmod(0o755)


def lay(home: Path) -> Path:
    "The home without its server."
    shutil.copytree(FORM / "home", home)
    for file in (each for each in home.rglob("*") if each.is_file()):
        text = file.read_text(encoding="utf8")
        file.write_text(text.replace("{home}", str(home)), encoding="utf8")
    private = [*home.glob("servers/*"), *home.glob("jobs/*")]
    for file in private:
        file.chmod(0o644 if file.suffix == ".lock" else 0o600)
    lay_model(home)
    lay_engine(home)
    return home


def born(pid: int) -> str:
    "As old records have it: the boot's id and the start in ticks (proc_pid_stat(5), field 22)."
    ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {int(ticks)}"


def begin(home: Path, port: int) -> subprocess.Popen:
    "Its server: the stand-in, in a session of its own; the record keeps the old code's form."
    file = home / "servers/default.json"
    record = json.loads(file.read_text())
    line, old = record["line"], urlsplit(record["url"])
    own = {
        "--port": str(port),
        "--model-path": str(home / MODEL_FOLDER),
        "--served-model-name": "tiny",
    }
    for flag, value in own.items():
        line[line.index(flag) + 1] = value
    log = home / "logs/server-default.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=home, start_new_session=True
        )
    record |= {
        "name": "tiny",
        "url": old._replace(netloc=f"{old.hostname}:{port}").geturl(),
        "pid": process.pid,
        "born": born(process.pid),
        "model": str(home / MODEL_FOLDER),
        "line": line,
        "started": time.time(),
    }
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False))
    deadline = time.monotonic() + patient(15)
    while READY not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline and process.poll() is None, "the stand-in did not begin"
        time.sleep(0.02)
    return process
