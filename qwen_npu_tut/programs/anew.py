"""Remove a folder, then run a command that makes it.

python anew.py FOLDER COMMAND...
"""

import shutil
import subprocess
import sys

folder, *command = sys.argv[1:]
shutil.rmtree(folder, ignore_errors=True)
sys.exit(subprocess.run(command).returncode)
