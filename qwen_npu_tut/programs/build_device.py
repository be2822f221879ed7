"""Build the emulated NPU's native device for the torch of this interpreter.

python build_device.py [SOURCE]      SOURCE: device.cpp; by default the one beside this package

The library lies in PREFIX/npu-device/TORCH.so, and PREFIX/npu-device/made says how the device can
be had: `native torch 2.14.1`, or `mapped` where there is no C++ compiler ($CXX, else g++). A
compiler that fails leaves nothing behind, and the program ends with 1.
"""

import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys

os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"  # the emulation is not there before it is built
import torch  # noqa: E402

said = runpy.run_path(str(pathlib.Path(__file__).with_name("said.py")))["said"]
HERE = pathlib.Path(__file__).resolve().parent.parent / "rehearsal" / "emulated" / "device.cpp"
source = pathlib.Path(sys.argv[1]) if sys.argv[1:] else HERE
package = pathlib.Path(torch.__file__).parent
folder = package.parents[3] / "npu-device"
library, made = folder / f"{torch.__version__}.so", folder / "made"
part = library.with_name(library.name + ".part")

compiler = shlex.split(os.environ.get("CXX", "")) or ["g++"]
folder.mkdir(exist_ok=True)
made.unlink(missing_ok=True)
if shutil.which(compiler[0]) is None:
    library.unlink(missing_ok=True)
    made.write_text("mapped\n", encoding="utf-8")
    print(said("mapped", compiler=compiler[0]))
    sys.exit()

numbers = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
includes = [package / "include", package / "include" / "torch" / "csrc" / "api" / "include"]
command = [
    *compiler,
    *("-O1", "-w", "-shared", "-fPIC", f"-std=c++{20 if numbers >= (2, 12) else 17}"),
    f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    *(f"-I{each}" for each in includes),
    str(source),
    *(f"-L{package / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch"),
    *("-o", str(part)),
]
print(said("compiling", release=torch.__version__), flush=True)
built = subprocess.run(command, capture_output=True, text=True, errors="replace")
if built.returncode:
    part.unlink(missing_ok=True)
    library.unlink(missing_ok=True)
    last = "\n".join(built.stderr.splitlines()[-5:])
    about = {"compiler": compiler[0], "code": built.returncode, "source": source.name}
    sys.exit(said("compiler-failed", last=last, **about))
os.replace(part, library)
release = torch.__version__.partition("+")[0]
made.write_text(f"native torch {release}\n", encoding="utf-8")
