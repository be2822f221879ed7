"""A log of ten gigabytes: a right answer, in bounded memory; run by `make prove`.

The file is sparse and takes no room."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def test_ten_gigabytes(tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as out:
        out.write(b"INFO: a line\n" * 1000)
        out.seek(10_000_000_000)
        out.write(
            b"\nImportError: libatb.so: cannot open shared object file: No such file or directory\n"
        )
    began = time.monotonic()
    with (tmp_path / "found").open("wb") as found:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "qwen-npu"), "diagnose", str(log), "--json"],
            stdout=found,
            stderr=subprocess.PIPE,
        )
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print(f"{time.monotonic() - began:.0f} s, {usage.ru_maxrss / 1024:.0f} MB")
    (first,) = json.loads((tmp_path / "found").read_text())["findings"][:1]
    assert (first["id"], first["line"], process.returncode) == ("nnal-not-found", 1002, 0)
    assert (
        "first and the last 200 MB" in said
        and usage.ru_maxrss < 200 * 1024
        and time.monotonic() - began < 120
    )
