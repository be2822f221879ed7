"Lines of logs that go on, or of another failure, beside a row that must not speak there."

import io

import pytest

from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut.base.failures import known

DECODE = "[2026-11-26 10:00:00] Decode batch, #running-req: {0}, #token: 9, token usage: 0.00, {1}"
SPEED = ", gen throughput (token/s): 5.1, #queue-req: 0"
LEFT_OUT = "Ignore import error when loading sglang.srt.models.glm: "
NEAR = [
    (
        "allocation-of-a-wrong-size",
        "RuntimeError: NPU out of memory. Tried to allocate 98.71 GiB (NPU 0)",
    ),
    ("cann-wheel-needs-a-package", "outlines 0.4.0 requires pillow, which is not installed."),
    ("command-without-login-shell", "./start.sh: line 3: hccn_tool: command not found"),
    ("command-without-login-shell", "bash: line 1: npu-smi: command not found"),
    ("container-folder-in-place-of-a-file", "grep: /etc/systemd: Is a directory"),
    ("container-folder-onto-a-file", "failed to create task for container: no such runtime"),
    ("custom-operators-missing", "'_OpNamespace' 'npu' object has no attribute 'npu_x'"),
    (
        "docker-ignores-visible-devices",
        "docker run -d --runtime=ascend -e ASCEND_VISIBLE_DEVICES=0 IMAGE",
    ),
    (
        "docker-ignores-visible-devices",
        "docker run -d \\\n  -e ASCEND_VISIBLE_DEVICES=0 \\\n  --runtime ascend IMAGE",
    ),
    ("docker-ignores-visible-devices", "docker run IMAGE\nexec -e ASCEND_VISIBLE_DEVICES=0"),
    (
        "docker-ignores-visible-devices",
        "docker run -e ASCEND_RT_VISIBLE_DEVICES=0 IMAGE",
    ),
    (
        "driver-install-stopped-early",
        "[Driver] [INFO]upgradePercentage:90%\n[Driver] [INFO]upgradePercentage:100%\n"
        "[Driver] [INFO]Driver package installed successfully!",
    ),
    ("graphs-off", DECODE.format(1, "npu graph: True") + SPEED),
    ("graphs-off", DECODE.format(64, "npu graph: False") + SPEED),
    ("graphs-off", DECODE.format(1, "cuda graph: False") + SPEED.replace("5.1", "31.5")),
    ("hccl-user-without-name", "HCCL function error: HcclAllReduce, error code is 19"),
    ("hccl-two-groups-on-one-device", "HcclGetRootInfo(&hcclID), error code is 7\ndone\n"),
    ("hccn-conf-missing", "INFO: hccn.conf was read, 8 devices"),
    ("npu-class-behind", "AttributeError: 'NPUWorker' object has no attribute 'x'"),
    (
        "proxy-server-cut-the-stream",
        "upstream timed out (110: Connection timed out) while connecting",
    ),
    ("quantised-scales-skipped", "Parameter lm_head.weight not found in params_dict"),
    (
        "service-without-cann-environment",
        "ImportError: libhccl.so: cannot open shared object file: No such file or directory",
    ),
    (
        "service-without-cann-environment",
        "Nov 12 08:01:33 n x[1]: ImportError: libGL.so.1: cannot open",
    ),
    ("set-env-under-nounset", "./start.sh: line 3: MODEL: unbound variable"),
    ("torch-npu-before-triton-rename", LEFT_OUT + "No module named 'triton.language.extra.ascend'"),
    ("transfer-library-not-found", "libfoo.so: cannot open shared object file"),
    ("triton-tuning-note", "AttributeError: Please DO NOT tune args ['num_warps']"),
    ("vllm-weights-leave-no-room", "Available KV cache memory: 21.3 GiB"),
    (
        "warm-up-to-all-addresses-through-proxy",
        '"GET http://0.0.0.0:30000/get_model_info HTTP/1.1" 200 OK',
    ),
]


@pytest.mark.parametrize("row, text", NEAR)
def test_a_near_miss_shows_another_row_or_none(row, text):
    found = [
        each.id for each in diagnose(io.BytesIO(f"INFO: before\n{text}\nINFO: after\n".encode()))
    ]
    assert row not in found


def test_each_of_these_rows_speaks_where_it_should():
    rows = {row.id: row for row in known().rows}
    for name in {row for row, _ in NEAR}:
        assert name in [each.id for each in diagnose(io.BytesIO(rows[name].example.encode()))]
