"What is on a device is counted to the byte, refused where it is too much, and never touched."

import gc
import re
from pathlib import Path

import pytest
import torch

from qwen_npu_tut.rehearsal.emulated import memory

MB = 2**20


def live(device: int = 0) -> int:
    return torch.npu.memory_allocated(device)


def resident() -> int:
    "Bytes of this process that are really in memory."
    words = Path("/proc/self/status").read_text(encoding="utf8")
    return int(re.search(r"VmRSS:\s+(\d+) kB", words)[1]) * 1024


@pytest.mark.parametrize("count", [1, 1000, MB // 4, MB, 64 * MB, 100 * MB])
def test_a_block_of_any_size_is_counted_and_freed(count):
    before, free = live(), torch.npu.mem_get_info()[0]
    made = torch.empty(count, dtype=torch.uint8, device="npu")
    assert (live() - before, free - torch.npu.mem_get_info()[0]) == (count, count)
    del made
    assert (live(), torch.npu.mem_get_info()[0]) == (before, free)


def test_what_an_operator_makes_is_counted_too():
    "Also where it was the processor's allocator that gave the memory."
    before = live()
    table = torch.ones(100, 64, device="npu")
    chosen = torch.tensor([1, 2, 3], device="npu")
    rows = torch.nn.functional.embedding(chosen, table)
    picked = table[chosen]
    assert live() - before == 4 * 100 * 64 + 8 * 3 + 2 * 4 * 3 * 64
    del table, chosen, rows, picked
    assert live() == before


def test_a_view_is_not_counted_again_and_keeps_its_base():
    before = live()
    part = torch.zeros(1000, dtype=torch.uint8, device="npu")[10:20].view(2, 5).t()
    assert live() - before == 1000
    del part
    assert live() == before


def test_what_grows_is_counted():
    before = live()
    made = torch.arange(10, dtype=torch.uint8, device="npu")
    view = made[2:5]
    made.resize_(5000)
    assert live() - before == 5000 and made[:10].tolist() == list(range(10))
    made[3] = 77
    assert view.tolist() == [2, 77, 4]
    out = torch.empty(0, dtype=torch.int64, device="npu")
    torch.nonzero(torch.ones(50, dtype=torch.uint8, device="npu"), out=out)
    assert live() - before == 5000 + 8 * 50 and out.flatten().tolist() == list(range(50))
    del made, view, out
    assert live() == before


def test_each_device_has_its_own():
    before = [live(0), live(3)]
    made = torch.empty(MB, dtype=torch.uint8, device="npu:3")
    assert [live(0), live(3)] == [before[0], before[1] + MB]
    assert torch.npu.mem_get_info(3)[0] < torch.npu.mem_get_info(2)[0]
    del made


def test_the_most_that_there_was():
    torch.npu.reset_peak_memory_stats()
    before = live()
    made = torch.empty(3 * MB, dtype=torch.uint8, device="npu")
    del made
    assert (torch.npu.max_memory_allocated(), live()) == (before + 3 * MB, before)
    torch.npu.reset_peak_memory_stats()
    assert torch.npu.max_memory_allocated() == before


def test_a_cache_larger_than_the_machine_costs_its_written_pages():
    before, start = resident(), live()
    cache = torch.zeros(2, 36, 1900, 128, 8, 128, dtype=torch.bfloat16, device="npu")
    assert cache.nbytes > 30 * 2**30 and live() - start == cache.nbytes
    cache[1, 35, 1899, 5] = 2.0
    assert resident() - before < 20 * MB
    assert cache[1, 35, 1899, 5].sum().item() == 2.0 * 8 * 128
    assert cache[0, 0, 0].sum().item() == 0.0
    del cache
    assert live() == start


TOO_MUCH = re.compile(
    r"NPU out of memory\. Tried to allocate 62\.00 GiB \(NPU 2; 60\.96 GiB total capacity; "
    r"20\.00 MiB already allocated; 60\.49 GiB free; .*; emulated\)"
)


def test_too_much_is_refused_in_the_words_of_torch_npu():
    some = torch.empty(20 * MB, dtype=torch.uint8, device="npu:2")
    with pytest.raises(torch.OutOfMemoryError, match=TOO_MUCH):
        torch.empty(62 * 2**30, dtype=torch.uint8, device="npu:2")
    assert live(2) == some.nbytes
    assert torch.ones(3, device="npu:2").sum().item() == 3.0  # and it goes on


def test_to_the_byte():
    free = torch.npu.mem_get_info(5)[0]
    rest = torch.empty(free, dtype=torch.uint8, device="npu:5")
    assert torch.npu.mem_get_info(5)[0] == 0
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1, dtype=torch.uint8, device="npu:5")
    del rest
    assert torch.npu.mem_get_info(5)[0] == free


LOADING = """
import os, torch
free = lambda: torch.npu.mem_get_info()[0] // 2**20
print(torch.npu.mem_get_info()[1] // 2**20, free())
small = torch.empty(2**20, dtype=torch.uint8, device="npu")
print(free())
weights = torch.empty(100 * 2**20, dtype=torch.uint8, device="npu")
more = torch.empty(100 * 2**20, dtype=torch.uint8, device="npu")
print(free())
del weights, more
print(free())
layer = torch.empty(1000, 1000, device="npu").uniform_()
print(bool(layer.any()), bool(torch.empty(100, device="npu").uniform_(1, 2).all()))
"""


@pytest.mark.parametrize("way", ["native", "mapped"])
def test_what_a_load_takes_is_taken_once(python, way):
    sizes = {"TOTAL_MB": "1000", "USED_MB": "10", "LOADED_MB": "30", "LAZY": "1", "DEVICE": way}
    ran = python(LOADING, NPU_EMULATED="1", **{f"NPU_EMULATED_{k}": v for k, v in sizes.items()})
    assert ran.stdout.split() == "1000 990 989 759 959 False True".split(), ran.stderr


def test_the_two_ways_count_alike():
    "The class that counts mapped tensors, and the library that counts native ones."
    chip = memory.chip()
    mapped = memory.Counted(6, chip)
    made = memory.strided(mapped, (3, 5 * MB), (5 * MB, 1), torch.uint8)
    assert mapped.live == made.nbytes == 15 * MB
    with pytest.raises(torch.OutOfMemoryError) as ours:
        memory.strided(mapped, (61 * 2**30,), (1,), torch.uint8)
    keep = torch.empty(15 * MB, dtype=torch.uint8, device="npu:6")
    assert live(6) == keep.nbytes
    with pytest.raises(torch.OutOfMemoryError) as native:
        torch.empty(61 * 2**30, dtype=torch.uint8, device="npu:6")
    assert str(ours.value) == str(native.value).splitlines()[0]
    del made
    gc.collect()
    assert mapped.live == 0
