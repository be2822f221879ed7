"""Lay the files of one site-packages folder into another as hard links, but for one package.

python link_tree.py SOURCE TARGET PACKAGE

PACKAGE and its .dist-info are left as they are in TARGET. A file that is linked already is left
alone: an interrupted run goes on. What SOURCE does not have, goes. No file of TARGET is written
into, for SOURCE has its bytes too: it is replaced. Where the file system has no hard links, a file
is copied. A RECORD comes last: without it nobody takes its package for whole.
"""

import os
import re
import runpy
import shutil
import sys

source, target, package = sys.argv[1:]
said = runpy.run_path(os.path.join(os.path.dirname(__file__), "said.py"))["said"]
left_out = rf"{package}(-.*\.dist-info)?"


def entries(folder):
    "Files and symbolic links below a folder, by their place in it, each with its status."
    found = {}
    for here, folders, files in os.walk(folder):
        if here == folder:
            folders[:] = [name for name in folders if not re.fullmatch(left_out, name)]
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in (*files, *links):
            path = os.path.join(here, name)
            found[os.path.relpath(path, folder)] = os.lstat(path)
    return found


def same(one, other):
    "One file under two names, or a copy with the time of its original."
    linked = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    return linked or (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def lay(name):
    "Put a file into the target, whole or not at all; True where it is a link."
    old, new = os.path.join(source, name), os.path.join(target, name)
    part = f"{new}.part"
    os.makedirs(os.path.dirname(new), exist_ok=True)
    if os.path.lexists(part):
        os.unlink(part)
    try:
        os.link(old, part, follow_symlinks=False)
        linked = True
    except OSError:
        shutil.copy2(old, part, follow_symlinks=False)
        linked = False
    os.replace(part, new)
    return linked


def is_record(name):
    return name.endswith(os.path.join(".dist-info", "RECORD"))


if not os.path.isdir(source):
    sys.exit(said("engine-not-there", source=source))
wanted, have = entries(source), entries(target)
lacking = [name for name in wanted if name not in have or not same(wanted[name], have[name])]
gone = [name for name in have if name not in wanted]
for name in (*filter(is_record, [*lacking, *gone]), *gone):
    if os.path.lexists(os.path.join(target, name)):
        os.unlink(os.path.join(target, name))
for here, _, _ in os.walk(target, topdown=False):
    if here != target and not os.listdir(here):
        os.rmdir(here)
linked = sum(map(lay, sorted(lacking, key=is_record)))
copied, there = len(lacking) - linked, len(wanted) - len(lacking)
print(said("linked", linked=linked, copied=copied, there=there, gone=len(gone)))
