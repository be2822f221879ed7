"""A release's archive: fetched with time limits, resumed where it was cut, held to its SHA-256.

python archive.py fetch FILE ADDRESS [--sha256 DIGEST] [--patience SECONDS]
python archive.py look FILE [--sha256 DIGEST]          says 0 where it is whole

Where no digest is given, the one of the first download is kept beside the file, as sha256sum
writes it, and holds from then on. A file that somebody brought has to be a whole zip archive.
"""

import argparse
import hashlib
import os
import runpy
import subprocess
import sys
import time
import zipfile
from pathlib import Path

TRIES = 4
said = runpy.run_path(str(Path(__file__).with_name("said.py")))["said"]


def digest_of(file):
    with open(file, "rb") as stream:
        found = hashlib.sha256()
        while piece := stream.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def kept(file):
    "The digest beside a file; empty where there is none."
    beside = Path(f"{file}.sha256")
    return beside.read_text().split()[0] if beside.is_file() else ""


def look(file, wanted):
    "What is wrong with a file; empty where it is whole."
    if not file.is_file():
        return said("not-there", file=file)
    expected = wanted or kept(file)
    if expected:
        found = digest_of(file)
        wrong = said("other-digest", file=file, found=found, expected=expected)
        return "" if found == expected else wrong
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except zipfile.BadZipFile:
        return said("no-archive", file=file)
    return said("broken-archive", file=file, part=broken) if broken else ""


def ask(address, part, patience):
    "One curl, from where the part ends: its exit code, and what the server answered."
    # Not --retry: it throws away what the failed try brought (curl/curl#1084, #18035).
    line = ["curl", "--fail", "--location", "--silent", "--show-error", "--continue-at", "-"]
    limits = ["--connect-timeout", "20", "--speed-limit", "1000", "--speed-time", str(patience)]
    told = ["--write-out", "%{http_code}", "--output", str(part), address]
    done = subprocess.run([*line, *limits, *told], stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout.strip()[-3:]


def fetch(file, address, wanted, patience):
    "Bring a file; the process ends with a sentence where that does not succeed."
    part, expected = file.with_name(file.name + ".part"), wanted or kept(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, TRIES + 1):
        resumed = part.is_file()
        code, answer = ask(address, part, patience)
        gap = look(part, expected) if code == 0 else ""
        if code == 0 and not gap:
            break
        if gap and not resumed:
            part.unlink()
            sys.exit(said("gave-something-else", address=address, gap=gap))
        if gap or code == 33 or answer == "416":
            part.unlink(missing_ok=True)  # it was a part of something else: from the beginning
        elif answer.startswith("4"):
            sys.exit(said("answers", address=address, status=answer))
        have = part.stat().st_size if part.is_file() else 0
        print(said("try", attempt=attempt, tries=TRIES, code=code, have=have), flush=True)
        time.sleep(attempt if attempt < TRIES else 0)
    else:
        sys.exit(said("not-fetched", address=address))
    os.replace(part, file)
    found = digest_of(file)
    if not expected:
        Path(f"{file}.sha256").write_text(f"{found}  {file.name}\n")
        print(said("digest-kept"))
    print(f"{found}  {file.name}")


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=("fetch", "look"))
parser.add_argument("file", type=Path)
parser.add_argument("address", nargs="?", default="")
parser.add_argument("--sha256", default="")
parser.add_argument("--patience", type=int, default=30, help="seconds below 1000 bytes a second")
given = parser.parse_args()
if given.what == "fetch":
    fetch(given.file, given.address, given.sha256, given.patience)
elif gap := look(given.file, given.sha256):
    sys.exit(gap)
