"""Ask whether the emulated NPU's native device is there: built of this text, and not taken away.

python device_there.py FILE TEXT

FILE lies beside the library and has TEXT once a build succeeded; `made` there says which device it
was: without a compiler it is mapped, and has no library. Ends with 1 and a sentence where it is not
there, or where there is a compiler by now ($CXX, else g++).
"""

import os
import pathlib
import runpy
import shlex
import shutil
import sys

said = runpy.run_path(str(pathlib.Path(__file__).with_name("said.py")))["said"]
file, text = pathlib.Path(sys.argv[1]), sys.argv[2]
made = file.with_name("made")
if not (file.is_file() and file.read_text(encoding="utf-8") == text and made.is_file()):
    sys.exit(said("device-not-built"))
kind, *release = made.read_text(encoding="utf-8").split()
if kind == "native" and not list(file.parent.glob(f"{release[-1]}*.so")):
    sys.exit(said("library-gone"))
if kind == "mapped" and shutil.which((shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]):
    sys.exit(said("compiler-now"))
