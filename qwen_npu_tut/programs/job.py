"""A job's process: one command of ours, whose exit code is left in a file.

    python job.py CODE_FILE WORD...

It is run by our own interpreter, apart from whoever began it (faces/jobs).
"""

import signal
import sys
from pathlib import Path

from qwen_npu_tut.base.files import write_atomic


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
    code_file, *words = sys.argv[1:]
    sys.argv, code = ["qwen-npu", *words], 1
    try:
        from qwen_npu_tut.faces.cli import main as command  # here: its failure has a code too

        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        write_atomic(Path(code_file), str(code))


if __name__ == "__main__":
    main()
