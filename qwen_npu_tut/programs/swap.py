"""Take triton and triton-ascend out, then put the right one in: they lie in the same folder.

python swap.py COMMAND... [--or COMMAND...]      the second where the first does not succeed
"""

import subprocess
import sys

pip = [sys.executable, "-m", "pip"]
subprocess.run([*pip, "uninstall", "-y", "triton", "triton-ascend"])
words = sys.argv[1:]
cut = words.index("--or") if "--or" in words else len(words)
ways = [way for way in (words[:cut], words[cut + 1 :]) if way]
sys.exit(not any(subprocess.run(way).returncode == 0 for way in ways))
