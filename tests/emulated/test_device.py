"Tensors that are on the device, by every way to get there; and what is refused as on one."

import copy
import io
import pickle
import threading

import pytest
import torch

NPU0, NPU1 = torch.device("npu", 0), torch.device("npu", 1)


def on(*values, device="npu", **kwargs) -> torch.Tensor:
    return torch.tensor(values, device=device, **kwargs)


WAYS = {
    "tensor": lambda d: torch.tensor([1, 2], device=d),
    "as_tensor": lambda d: torch.as_tensor([1, 2], device=d),
    "empty": lambda d: torch.empty(2, device=d),
    "zeros": lambda d: torch.zeros(2, device=d),
    "ones": lambda d: torch.ones(2, device=d),
    "full": lambda d: torch.full((2,), 3, device=d),
    "arange": lambda d: torch.arange(4, device=d),
    "randn": lambda d: torch.randn(2, device=d),
    "randint": lambda d: torch.randint(0, 9, (2,), device=d),
    "randperm": lambda d: torch.randperm(4, device=d),
    "tril_indices": lambda d: torch.tril_indices(3, 3, device=d),
    "empty_strided": lambda d: torch.empty_strided((2, 2), (1, 2), device=d),
    "to": lambda d: torch.ones(2).to(d),
    "to with a type": lambda d: torch.ones(2).to(d, torch.bfloat16),
    "to another's": lambda d: torch.ones(2).to(torch.empty(1, device=d)),
    "new_zeros": lambda d: torch.empty(1, device=d).new_zeros(2),
    "zeros_like": lambda d: torch.zeros_like(torch.empty(1, device=d)),
    "like, elsewhere": lambda d: torch.ones_like(torch.empty(1), device=d),
    "pinned": lambda d: torch.zeros(2, pin_memory=True).to(d, non_blocking=True),
    "pin_memory": lambda d: torch.zeros(2).pin_memory().to(d),
    "parameter": lambda d: torch.nn.Linear(2, 2).to(d).weight,
    "deepcopy": lambda d: copy.deepcopy(torch.ones(2, device=d)),
    "pickle": lambda d: pickle.loads(pickle.dumps(torch.ones(2, device=d))),
    "clone": lambda d: torch.ones(2, device=d).clone(),
}


@pytest.mark.parametrize("device", ["npu", "npu:1", NPU1, torch.device("npu")], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_ways_onto_the_device(way, device):
    made = WAYS[way](device)
    assert made.device == (NPU1 if "1" in str(device) else NPU0) and made.is_npu


def test_ways_onto_the_current_device():
    torch.npu.set_device(1)
    assert torch.ones(2).npu().device == torch.ones(2).to("npu").device == NPU1
    assert torch.empty(2, device=torch.npu.current_device()).device == NPU1
    with torch.npu.device(2):
        assert torch.zeros(1, device="npu").device.index == 2
        with torch.npu.device(None):
            assert torch.npu.current_device() == 2
    assert torch.npu.current_device() == 1
    assert torch.ones(2).npu(0).device == NPU0
    assert torch.nn.Linear(2, 2).npu().weight.device == NPU1


def test_within_a_device():
    with torch.device("npu:1"):
        made = [torch.empty(2), torch.tensor([1]), torch.nn.Linear(2, 2).weight, torch.rand(1)]
    assert {each.device for each in made} == {NPU1}
    assert torch.empty(2).device.type == "cpu"


def test_each_thread_has_a_current_device():
    seen = []

    def work():
        seen.append(torch.npu.current_device())
        torch.npu.set_device(2)
        seen.append(torch.zeros(1, device="npu").device.index)

    torch.npu.set_device(1)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, 2] and torch.npu.current_device() == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(1, device="npu:8"),
        lambda: torch.ones(1).to("npu:99"),
        lambda: torch.npu.set_device(8),
        lambda: torch.npu.mem_get_info(8),
        lambda: torch.npu.Stream(8),
    ],
)
def test_a_device_that_is_not_there(ask):
    with pytest.raises(RuntimeError, match=r"Invalid NPU device \d+ .*0 to 7"):
        ask()
    assert torch.npu.current_device() == 0


MIXED = {
    "add": lambda a, b: a + b,
    "in place": lambda a, b: a.add_(b),
    "matmul": lambda a, b: a @ b,
    "cat": lambda a, b: torch.cat([a, b]),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "embedding": lambda a, b: torch.nn.functional.embedding(b.long(), a),
    "out": lambda a, b: torch.mul(a, a, out=b),
    "scatter": lambda a, b: a.scatter_(0, torch.zeros(2, 2, dtype=torch.long, device=a.device), b),
    "index_select": lambda a, b: a.index_select(0, b[0].long()),
}


@pytest.mark.parametrize("other", ["cpu", "npu:1"])
@pytest.mark.parametrize("way", MIXED)
def test_mixing_devices_fails_as_on_a_device(way, other):
    with pytest.raises(RuntimeError, match="device"):
        MIXED[way](torch.ones(2, 2, device="npu:0"), torch.ones(2, 2, device=other))


def test_what_may_be_mixed():
    made = on(1.0, 2.0, 3.0)
    assert (made * torch.tensor(2.0)).tolist() == [2, 4, 6]
    assert made[torch.tensor([2, 0])].tolist() == [3, 1]
    made[torch.tensor([True, False, False])] = 9.0
    assert made.tolist() == [9, 2, 3]
    made.copy_(torch.tensor([4.0, 5.0, 6.0]))
    assert made.cpu().tolist() == [4, 5, 6] and made.cpu().device.type == "cpu"
    assert on(1.0).to("npu:1").device == NPU1
    there = torch.zeros(3)
    there.copy_(made)
    assert there.tolist() == [4, 5, 6]


def test_views_lie_on_the_same_memory():
    base = torch.arange(12, device="npu")
    view = base.view(3, 4).t()[1:3]
    view.mul_(10)
    assert base.tolist() == [0, 10, 20, 3, 4, 50, 60, 7, 8, 90, 100, 11]
    assert view.reshape(-1).tolist() == [10, 50, 90, 20, 60, 100]
    assert view.untyped_storage().data_ptr() == base.data_ptr()
    parts = base.split(5)
    parts[1].zero_()
    assert base.sum().item() == 0 + 10 + 20 + 3 + 4 + 100 + 11
    assert base.unsqueeze(0).expand(4, 12).data_ptr() == base.data_ptr()
    assert base.as_strided((2,), (3,), 1).tolist() == [10, 4]


def test_outputs_that_are_given():
    out = torch.empty(0, device="npu")
    kept = torch.add(on(1.0, 2.0), 1, out=out)
    assert kept is out and out.tolist() == [2, 3] and out.is_npu
    values, places = torch.empty(3, device="npu"), torch.empty(3, dtype=torch.long, device="npu")
    torch.sort(on(3.0, 1.0, 2.0), out=(values, places))
    assert (values.tolist(), places.tolist()) == ([1, 2, 3], [1, 2, 0])
    assert out.add_(1) is out


def test_resized_to_what_it_is_keeps_its_strides():
    x = torch.arange(6.0, device="npu").view(2, 3).t()
    assert x.resize_(3, 2).stride() == torch.arange(6.0).view(2, 3).t().resize_(3, 2).stride()
    assert x.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert torch.equal(x.resize_(2, 2).cpu(), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))


def test_a_tensor_that_lets_go_of_its_memory_leaves_it_to_others():
    x = torch.ones(4, device="npu")
    y = x.view(2, 2)
    x.set_()
    assert x.shape == (0,) and x.device == y.device and y.tolist() == [[1, 1], [1, 1]]


def test_memory_of_the_processor_does_not_become_the_devices():
    x = torch.zeros(2, device="npu")
    with pytest.raises(RuntimeError, match="storage of a tensor on npu:0 to a storage on cpu"):
        x.set_(torch.ones(3).untyped_storage())
    assert x.device.type == "npu" and x.tolist() == [0, 0]


def test_lists_of_tensors():
    several = [on(1.0), on(2.0, 3.0)]
    assert [each.tolist() for each in torch._foreach_add(several, 1)] == [[2], [3, 4]]
    torch._foreach_mul_(several, 2)
    assert [each.tolist() for each in several] == [[2], [4, 6]]
    here = [torch.zeros(1)]
    torch._foreach_copy_(here, [on(5.0)])
    assert here[0].tolist() == [5]
    table = torch.zeros(2, 3, device="npu")
    table.index_put_((on(0, 1), on(2, 0)), on(7.0, 8.0))
    table[:, on(1)] = 1.0
    assert table.tolist() == [[0, 1, 7], [8, 1, 0]]
    assert torch.stack(list(table)).is_npu


def test_memory_of_another_is_taken():
    source = torch.ones(4, device="npu")
    made = torch.empty(0, device="npu").set_(source.untyped_storage(), 1, (3,), (1,))
    made.zero_()
    assert source.tolist() == [1, 0, 0, 0]
    assert torch.empty(0, device="npu").set_(source).data_ptr() == source.data_ptr()
    assert torch.empty(0, device="npu").set_(source.untyped_storage()).shape == (4,)


def test_large_operators_agree_with_the_processor():
    torch.manual_seed(0)
    x, w = torch.randn(5, 7, 32), torch.randn(32, 32)
    f = torch.nn.functional

    def compute(x, w):
        y = f.silu(x @ w)
        best = torch.topk(y.softmax(-1), 3)
        return y, best.values, best.indices, y.cumsum(1).amax(1), torch.sort(y, stable=True)[1]

    for here, there in zip(compute(x, w), compute(x.to("npu"), w.to("npu"))):
        assert there.is_npu and torch.equal(here, there.cpu())
    # for these torch has kernels of its own on a processor, and makes them of others elsewhere
    for function in (
        lambda x: f.layer_norm(x, (32,)),
        lambda x: f.scaled_dot_product_attention(x, x, x, is_causal=True),
    ):
        there = function(x.to("npu"))
        assert there.is_npu
        torch.testing.assert_close(there.cpu(), function(x))


def test_gradients():
    layer = torch.nn.Linear(3, 2).to("npu")
    layer(torch.ones(4, 3, device="npu")).sum().backward()
    assert layer.bias.grad.tolist() == [4, 4] and layer.weight.grad.is_npu


def test_random_numbers_are_seeded_once_for_both():
    torch.manual_seed(3)
    first = torch.randn(4, device="npu").cpu()
    torch.npu.manual_seed(3)
    assert torch.equal(torch.randn(4), first)
    torch.npu.manual_seed_all(3)
    state = torch.npu.get_rng_state()
    assert torch.equal(torch.randn(4, device="npu").cpu(), first)
    torch.npu.set_rng_state(state)
    assert torch.equal(torch.randn(4, device="npu").cpu(), first)
    own = torch.Generator(device="npu").manual_seed(3)
    assert torch.equal(torch.randn(4, device="npu", generator=own).cpu(), first)
    assert isinstance(own, torch.Generator)


def test_saved_and_loaded():
    kept = io.BytesIO()
    torch.save({"w": on(1.0, 2.0)}, kept)
    places = []
    for where in (None, "cpu", "npu:1"):
        kept.seek(0)
        made = torch.load(kept, map_location=where)["w"]
        places.append(str(made.device))
        assert made.tolist() == [1, 2]
    assert places == ["npu:0", "cpu", "npu:1"]


def test_streams_and_events():
    stream = torch.npu.current_stream()
    assert stream is torch.npu.current_stream() and stream.device == NPU0
    with torch.npu.stream(stream) as entered, torch.npu.stream(stream):
        assert entered is stream
    begun, ended = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    begun.record()
    threading.Event().wait(0.02)
    ended.record(stream)
    assert 20 <= begun.elapsed_time(ended) < 2000
    assert stream.record_event().query() and torch.npu.Stream(1).device == NPU1
    on(1).record_stream(stream)


def test_what_the_device_says_of_itself():
    said = torch.npu.get_device_properties()
    assert said.name == torch.npu.get_device_name(3) == "Ascend910B3 (emulated)"
    assert said.total_memory == torch.npu.mem_get_info()[1] == 62_420 * 2**20
    assert torch.npu.device_count() == 8 and torch.npu.is_available()
    assert torch.accelerator.current_accelerator().type == "npu"
    assert "device='npu:0'" in repr(on(1.0))


MAPPED = """
import torch
torch.manual_seed(7)
made = torch.zeros(3, 4, device="npu:1")
with torch.device("npu"):
    layer, one, two = torch.nn.Linear(4, 2), torch.tensor([1]), torch.empty(2)
moved = torch.ones(300_000).to("npu")
pinned = torch.zeros(2, pin_memory=True).npu()
print({each.device.type for each in (made, layer.weight, one, two, moved, pinned)})
print(torch.npu.memory_allocated(), torch.npu.memory_allocated(1), layer(made).shape)
large = torch.zeros(40 * 2**30, dtype=torch.uint8, device="npu")
print(torch.npu.memory_allocated() // 2**30, int(large[::2**30].sum()))
del large
try: torch.empty(70 * 2**30, dtype=torch.uint8, device="npu:2")
except torch.OutOfMemoryError as error: print(error)
try: torch.empty(1, device="npu:8")
except RuntimeError as error: print(error)
torch.npu.manual_seed(7)
print(torch.equal(torch.rand(3, device="npu", generator=torch.Generator("npu").manual_seed(1)),
                  torch.rand(3, generator=torch.Generator().manual_seed(1))))
torch.npu.set_device(1)
print(torch.npu.current_device(), torch.as_tensor([1.0], device="npu").tolist())
"""


def test_mapped(python):
    ran = python(MAPPED, NPU_EMULATED="1", NPU_EMULATED_DEVICE="mapped")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[:3] == ["{'cpu'}", "1200000 0 torch.Size([3, 2])", "40 0"]
    assert lines[3].startswith("NPU out of memory. Tried to allocate 70.00 GiB (NPU 2; 60.96 GiB")
    assert lines[4:] == [
        "Invalid NPU device 8 (emulated): the devices are 0 to 7.",
        "True",
        "1 [1.0]",
    ]
