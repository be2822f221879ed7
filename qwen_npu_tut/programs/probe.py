"""Does the device compute? Two matrices of ones are multiplied: each of four numbers is 2.

python probe.py npu|cpu

The line `probe ok: NAME` is read by check and stands in records of machines.
"""

import sys

import torch

device = sys.argv[1]
if device == "npu":
    import torch_npu  # noqa: F401: it gives torch the device
ones = torch.ones(2, 2, device=device)
assert (ones @ ones).sum().item() == 8
npu = device == "npu"
name = torch.npu.get_device_name(0) if npu else f"the processor, torch {torch.__version__}"
print("probe ok:", name)
