"""Does the device compute? Two matrices of ones are multiplied: each of four numbers is 2.

python probe.py npu|cpu

The line `probe ok: NAME` is read by check and stands in records of machines.
"""

import importlib
import sys

import torch

ones = torch.ones(2, 2)
if sys.argv[1] == "npu":
    importlib.import_module("torch_npu")  # it gives torch the device
    ones, name = ones.npu(), torch.npu.get_device_name(0)
else:
    name = f"the processor, torch {torch.__version__}"
assert (ones @ ones).sum().item() == 8
print("probe ok:", name)
