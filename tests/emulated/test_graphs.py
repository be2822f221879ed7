"Capture, replay, update; what a capture forbids; and that nothing stays of one that failed."

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from qwen_npu_tut.rehearsal.emulated import graphs


@graphs.step
def scaled(x, *, context_lens, plus=0.0):
    "An operator with an argument of the host, and one result."
    assert x.device.type == "cpu"  # it is given the processor's alias
    return x * float(context_lens[0]) + plus


@graphs.step
def filled(x, *, out):
    out.copy_(x + 100)


def captured(build):
    "A graph of what `build` does, and its result."
    made = torch.npu.NPUGraph()
    with torch.npu.graph(made, pool=torch.npu.graph_pool_handle(), auto_dispatch_capture=True):
        result = build()
    return made, result


@pytest.fixture(params=[torch.no_grad, torch.inference_mode], ids=["no_grad", "inference"])
def mode(request):
    with request.param():
        yield


def test_a_replay_writes_where_the_capture_wrote(mode):
    x, table = torch.arange(6.0, device="npu"), torch.eye(3, device="npu")

    def build():
        y = (x.view(2, 3) @ table).relu()
        part = y[1:]
        part.add_(1)
        table[0, 0] += 0  # in place, a step without new memory
        return y, part, torch.cat([y, part]), y.max(-1)

    made, (y, part, joined, best) = captured(build)
    places = [each.data_ptr() for each in (y, part, joined, best.values)]
    for start in (10.0, -50.0):
        x.copy_(torch.arange(6.0) + start)
        made.replay()
        expected = (torch.arange(6.0) + start).view(2, 3).relu()
        expected[1] += 1
        assert torch.equal(y.cpu(), expected) and torch.equal(part.cpu(), expected[1:])
        assert torch.equal(joined.cpu(), torch.cat([expected, expected[1:]]))
        assert torch.equal(best.indices.cpu(), expected.max(-1).indices)
    assert places == [each.data_ptr() for each in (y, part, joined, best.values)]


def test_an_operator_of_ours_is_one_step_and_views_are_none(mode):
    x, out = torch.ones(4, device="npu"), torch.zeros(4, device="npu")

    def build():
        filled(x.view(2, 2).view(-1)[:], out=out)
        return x.unsqueeze(0).expand(3, 4)

    made, seen = captured(build)
    assert [each.name for each in made.steps] == ["filled"]
    x.fill_(5)
    made.replay()
    assert out.tolist() == [105] * 4 and seen[2, 3].item() == 5


def test_a_replay_waits_for_its_update_from_another_thread():
    x = torch.ones(2, device="npu")
    made, y = captured(lambda: scaled(x, context_lens=[1]))
    begun, order = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:
        for factor in (3, 4):

            def change(factor=factor):
                begun.wait(5)
                order.append("updated")
                made.update(cpu_update_input=[{"context_lens": [factor]}])

            waiting = pool.submit(change)
            threading.Timer(0.1, begun.set).start()
            made.replay()
            order.append("replayed")
            waiting.result()
            assert y.tolist() == [factor] * 2
            begun.clear()
    assert order == ["updated", "replayed"] * 2


def test_only_steps_with_arguments_of_the_host_wait(monkeypatch):
    monkeypatch.setattr(graphs, "PATIENCE", 0.2)
    x = torch.ones(2, device="npu")
    free, _ = captured(lambda: x + 1)
    free.replay()
    made, y = captured(lambda: scaled(x, context_lens=[2]))
    with pytest.raises(RuntimeError, match=r"scaled .*context_lens.*no update came"):
        made.replay()
    made.update(cpu_update_input=[{"another": 1}])  # an update that changes nothing lets it go
    made.replay()
    assert y.tolist() == [2, 2]


def test_each_replay_waits_for_an_update_of_its_own(monkeypatch):
    monkeypatch.setattr(graphs, "PATIENCE", 0.2)
    x = torch.ones(2, device="npu")
    made, y = captured(lambda: scaled(x, context_lens=[1]))
    for factor in (5, 6):
        made.update(cpu_update_input=[{"context_lens": [factor]}])
    made.replay()
    assert y.tolist() == [6, 6]
    with pytest.raises(RuntimeError, match="no update came"):
        made.replay()


def test_lengths_on_the_device_are_read_there():
    x, lengths = torch.ones(2, device="npu"), torch.tensor([2], device="npu")
    made, y = captured(lambda: scaled(x, context_lens=lengths))
    lengths.fill_(9)
    made.replay()
    assert y.tolist() == [9, 9]


def test_what_the_host_does_is_done_once(mode):
    x, counted = torch.zeros(2, device="npu"), torch.tensor([3])

    def build():
        counted.add_(1)
        x.add_(counted.item())

    made, _ = captured(build)
    made.replay()
    assert counted.tolist() == [4] and x.tolist() == [8, 8] and len(made.steps) == 1


def test_a_replay_has_the_mode_of_its_capture():
    x = torch.ones(2, device="npu")
    with torch.inference_mode():
        made, y = captured(lambda: x + 1)
    x.fill_(5)
    made.replay()
    assert y.tolist() == [6, 6] and y.is_inference()


def test_a_second_capture_that_fails_leaves_nothing_of_the_first():
    x = torch.ones(2, device="npu")
    made, _ = captured(lambda: x + 1)
    with pytest.raises(RuntimeError, match="reads a value back"), torch.npu.graph(made):
        x.tolist()
    with pytest.raises(RuntimeError, match="before anything was captured"):
        made.replay()


def test_a_capture_in_a_capture_is_refused():
    x, made, inner = torch.ones(1, device="npu"), torch.npu.NPUGraph(), torch.npu.NPUGraph()
    with pytest.raises(RuntimeError, match="captures a graph already"):
        with torch.npu.graph(made), torch.npu.graph(inner):
            x + 1
    assert graphs.recorder() is None and made.steps is None and inner.steps is None


def test_one_change_for_all_steps_or_one_for_each():
    x = torch.ones(1, device="npu")

    def build():
        return scaled(x, context_lens=[1]), x + 0, scaled(x, context_lens=[1], plus=0.5)

    made, (first, _, second) = captured(build)
    made.update(cpu_update_input=[{"context_lens": [7]}])
    made.replay()
    assert (first.item(), second.item()) == (7, 7.5)
    made.update(cpu_update_input=[{"context_lens": [2]}, {"context_lens": [3], "plus": 1.0}])
    made.replay()
    assert (first.item(), second.item()) == (2, 4)
    with pytest.raises(RuntimeError, match="got 3 changes"):
        made.update(cpu_update_input=[{}] * 3)


READ_BACK = {
    "item": lambda x: x.sum().item(),
    "int": lambda x: int(x[0]),
    "branch": lambda x: 1 if x[0] > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "copy": lambda x: torch.zeros(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "mask of bytes": lambda x: x[(x > 0).byte()],
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "unique": lambda x: torch.unique(x),
    "equal": lambda x: torch.equal(x, x),
    "repeat": lambda x: torch.repeat_interleave(x.long()),
}
ALLOWED = {
    "indices": lambda x: x[torch.tensor([0, 1], device="npu")],
    "where": lambda x: torch.where(x > 0, x, 0),
    "repeat of a known length": lambda x: torch.repeat_interleave(x.long(), output_size=6),
    "without waiting": lambda x: torch.zeros(3).copy_(x, non_blocking=True),
    "from the host": lambda x: x.copy_(torch.ones(3)),
}


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
@pytest.mark.parametrize("way", READ_BACK)
def test_reading_back_in_a_capture_fails_and_leaves_nothing(mode, way):
    x = torch.tensor([1.0, 2.0, 3.0], device="npu")
    made = torch.npu.NPUGraph()
    with pytest.raises(RuntimeError, match="reads a value back"):
        with torch.npu.graph(made):
            x + 1
            READ_BACK[way](x)
    assert not torch.npu.is_current_stream_capturing()
    READ_BACK[way](x)  # outside it is allowed again
    with pytest.raises(RuntimeError, match="before anything was captured"):
        made.replay()
    again, y = captured(lambda: x * 2)
    x.fill_(4)
    again.replay()
    assert len(again.steps) == 1 and y.tolist() == [8, 8, 8]


@pytest.mark.parametrize("way", ALLOWED)
def test_what_a_capture_allows(mode, way):
    x = torch.tensor([1.0, 2.0, 3.0], device="npu")
    captured(lambda: ALLOWED[way](x))[0].replay()


def test_a_capture_that_an_operator_broke_is_over():
    @graphs.step
    def broken(x):
        raise ValueError("the operator's own mistake")

    x = torch.ones(1, device="npu")
    for failure in (lambda: broken(x), lambda: (_ for _ in ()).throw(KeyboardInterrupt)):
        with pytest.raises((ValueError, KeyboardInterrupt)):
            captured(lambda failure=failure: next(failure()))
        assert not torch.npu.is_current_stream_capturing() and graphs.recorder() is None
    made, y = captured(lambda: x + 1)
    assert torch.npu.is_current_stream_capturing() is False and len(made.steps) == 1


def test_a_capture_is_of_its_own_thread():
    x = torch.ones(1, device="npu")
    made = torch.npu.NPUGraph()
    with torch.npu.graph(made), ThreadPoolExecutor(1) as pool:
        assert torch.npu.is_current_stream_capturing()
        assert pool.submit(lambda: (x + 1).item()).result() == 2
        assert not pool.submit(torch.npu.is_current_stream_capturing).result()
    assert made.steps == []


def test_a_graph_keeps_its_tensors_as_long_as_it_lives():
    gc.collect()
    before = torch.npu.memory_allocated()
    x = torch.ones(1000, device="npu")
    made, y = captured(lambda x=x: scaled(x, context_lens=[1]) + x)
    for _ in range(50):
        made.update(cpu_update_input=[{"context_lens": [2]}])
        made.replay()
    assert torch.npu.memory_allocated() - before == 3 * 4000
    seen = weakref.ref(made.steps[0])
    del x, y, made
    gc.collect()
    assert seen() is None and torch.npu.memory_allocated() == before


def test_results_lie_on_the_device_of_the_arguments():
    x = torch.ones(2, device="npu:3")
    assert scaled(x, context_lens=[2]).device.index == 3
    torch.npu.set_device(2)
    assert graphs.record(lambda: torch.ones(1), (), {}).device.index == 2


def collect(rank: int, port: int, answers: str) -> None:
    "One of two processes: a sum over both, in a graph and out of it."
    torch.npu.set_device(rank)
    address = f"tcp://127.0.0.1:{port}"
    wait = timedelta(seconds=60)
    dist.init_process_group("hccl", address, wait, world_size=2, rank=rank)
    x = torch.full((4,), rank + 1.0, device="npu")
    dist.all_reduce(x)
    y, both = torch.zeros(2, device="npu"), torch.zeros(4, device="npu")

    def build():
        z = y * 2
        dist.all_reduce(z)
        dist.all_gather_into_tensor(both, y)
        return z + 1

    made, z = captured(build)
    y.fill_(10.0 * (rank + 1))
    made.replay()
    much = torch.ones(100_000, device="npu")

    def later():
        total = much * 1
        dist.all_reduce(total, async_op=True).wait()
        return total * 1

    made_later, total = captured(later)
    right = []
    for factor in range(1, 31):
        much.fill_(factor)
        made_later.replay()
        right.append(bool((total == 2 * factor).all()))
    words = [f"rank {rank}"]
    dist.broadcast_object_list(words, src=1)
    dist.barrier()
    names = [each.name for each in made.steps]
    got = (str(x.device), x.tolist(), z.tolist(), both.tolist(), words, dist.get_backend(), names)
    got += (all(right),)
    with open(f"{answers}/{rank}", "w", encoding="utf8") as out:
        out.write(repr(got))
    dist.destroy_process_group()


RANK = """
import sys
sys.path[:0] = {path!r}
import torch
from test_graphs import collect
collect(int(sys.argv[1]), {port}, {answers!r})
"""


def test_collectives_are_one_step_and_answer_for_both(tmp_path):
    import socket
    import subprocess
    import sys

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    path = [os.path.dirname(__file__), *sys.path]
    program = tmp_path / "rank.py"
    program.write_text(RANK.format(path=path, port=port, answers=str(tmp_path)))
    line = [sys.executable, str(program)]
    ranks = [subprocess.Popen([*line, str(rank)]) for rank in (0, 1)]
    assert [rank.wait(timeout=100) for rank in ranks] == [0, 0]
    steps = ["aten.mul.Tensor", "all_reduce", "all_gather_into_tensor", "aten.add.Tensor"]
    for rank in (0, 1):
        got = eval((tmp_path / str(rank)).read_text())
        values = ([3.0] * 4, [61.0] * 2, [10.0, 10.0, 20.0, 20.0], ["rank 1"], "hccl", steps, True)
        assert got == (f"npu:{rank}", *values)
