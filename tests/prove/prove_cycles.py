"""A hundred starts and stops of the stand-in: no orphan, no leaked port, no growing state.

Run by `make prove`."""

import os
from pathlib import Path

from starts import start

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.server import processes
from qwen_npu_tut.server.processes import free_port, session_of


def test_a_hundred_cycles(settings, engine, private_home):
    def state():
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            sorted(path.name for path in private_home.rglob("*")),
            len(processes._HANDLES),
        )

    port, seen = free_port("127.0.0.1", 0), []
    for _ in range(100):
        server = start(settings, engine, seconds=0.01)
        assert (
            serve.stop(server)
            and session_of(server.pid, server.born) == {}
            and free_port("127.0.0.1", port) == port
        )
        seen.append(state())
    print(
        f"100 cycles: open files {seen[1][0]} then {seen[-1][0]}, files in the home folder "
        f"{len(seen[1][1])} then {len(seen[-1][1])}, handles kept {seen[-1][2]}"
    )
    assert seen[-1][2] <= 1
    assert seen[-1][:2] == seen[1][:2]  # the second has the log of the one before
    assert serve.status("tested")["state"] == "stopped" and os.environ["QWEN_NPU_HOME"] == str(
        private_home
    )
