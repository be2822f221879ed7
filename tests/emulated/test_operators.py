"Each operator of the emulated NPU against a second formulation that shares no formula with it."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_npu_tut.rehearsal.emulated import operators as ours
from torch.testing import assert_close

few = settings(max_examples=20, deadline=None)
sizes, seeds = st.integers(1, 9), st.integers(0, 2**31)
kinds = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
INFINITE = float("inf")


def numbers(seed: int, *shape: int, kind=torch.float32) -> torch.Tensor:
    "Normal numbers on the host, the same for the same seed."
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def on(*tensors: torch.Tensor) -> list[torch.Tensor]:
    "Copies on the emulated device."
    return [each.clone().to("npu") for each in tensors]


def near(got: torch.Tensor, wanted: torch.Tensor) -> None:
    "Equal to float64's result but for one rounding of the kind that it has, and float32's sums."
    room = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}[got.dtype]
    assert_close(got.cpu().double(), wanted.double(), rtol=room, atol=room / 8)


@few
@given(sizes, sizes, sizes, st.integers(1, 2), kinds, seeds)
def test_norms(tokens, heads, width, dims, kind, seed):
    x, other = (numbers(seed + n, tokens, heads, width, kind=kind) for n in (0, 1))
    gamma = numbers(seed + 2, *x.shape[3 - dims :], kind=kind)

    def wanted(x, gamma):
        return torch.nn.functional.rms_norm(x.double(), gamma.shape, gamma.double(), 1e-6)

    device, second, weight = on(x, other, gamma)
    got, rstd = ours.npu_rms_norm(device, weight, 1e-6)
    assert got.dtype == kind and got.device == device.device
    near(got, wanted(x, gamma))
    root = (x.double().flatten(3 - dims).norm(dim=-1) / math.sqrt(gamma.numel())).clamp(min=1e-3)
    assert_close(1 / rstd.cpu().double().flatten(), root.flatten(), rtol=1e-4, atol=1e-3)
    got, _, total = ours.npu_add_rms_norm(device, second, weight, 1e-6)
    summed = (x.double() + other.double()).to(kind)
    assert torch.equal(total.cpu(), summed)
    near(got, wanted(summed, gamma))
    near(ours.npu_gemma_rms_norm(device, weight, 1e-6)[0], wanted(x, gamma.double() + 1))


@few
@given(sizes, sizes, kinds, seeds)
def test_activations(tokens, width, kind, seed):
    x = 4 * numbers(seed, tokens, 2 * width, kind=kind)
    wanted = [
        [row[i] / (1 + math.exp(-row[i])) * row[width + i] for i in range(width)]
        for row in x.double().tolist()
    ]
    near(ours.npu_swiglu(*on(x)), torch.tensor(wanted, dtype=torch.double))
    near(ours.npu_swiglu(*on(x.T), 0), torch.tensor(wanted, dtype=torch.double).T)
    size = x.double().abs()  # the form that Huawei's documentation of FastGelu has
    wanted = x.double() / (1 + (-1.702 * size).exp()) * (0.851 * (x.double() - size)).exp()
    near(ours.npu_fast_gelu(*on(x)), wanted)


def turned(x: torch.Tensor, angles: torch.Tensor, mode: str) -> torch.Tensor:
    "Pairs of x as complex numbers, times that of length 1 at their angle."
    x = x.double()
    pairs = (
        torch.complex(*x.chunk(2, -1))
        if mode == "half"
        else torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    )
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    if mode == "half":
        return torch.cat((pairs.real, pairs.imag), -1)
    return torch.view_as_real(pairs).flatten(-2)


def spread(values: torch.Tensor, mode: str) -> torch.Tensor:
    "A value for each pair, at both numbers of the pair."
    return (
        values.repeat(*[1] * (values.dim() - 1), 2)
        if mode == "half"
        else (values.repeat_interleave(2, -1))
    )


modes = st.sampled_from(["half", "interleave"])


@few
@given(sizes, sizes, st.integers(1, 8), kinds, modes, seeds)
def test_turning(tokens, heads, half, kind, mode, seed):
    x = numbers(seed, 1, tokens, heads, 2 * half, kind=kind)
    other = numbers(seed + 1, 1, tokens, 2, 2 * half)
    angles = 3 * numbers(seed + 2, 1, tokens, 1, half).double()
    cos, sin = on(spread(angles.cos(), mode).float(), spread(angles.sin(), mode).float())
    device, second = on(x, other)
    near(ours.npu_rotary_mul(device, cos, sin, mode), turned(x, angles, mode))
    both = ours.npu_apply_rotary_pos_emb(device, second, cos, sin, rotary_mode=mode)
    for got, was in zip(both, (x, other)):
        near(got, turned(was, angles, mode))


@few
@given(sizes, sizes, sizes, st.integers(1, 8), kinds, modes, seeds)
def test_positions(tokens, heads, shared, half, kind, mode, seed):
    angles = 3 * numbers(seed, 12, half).double()
    table = torch.cat((angles.cos(), angles.sin()), -1).float()
    places = torch.randint(12, (tokens,), generator=torch.Generator().manual_seed(seed))
    query, key = (numbers(seed + n, tokens, n * 2 * half, kind=kind) for n in (heads, shared))
    got = ours.npu_mrope(
        *on(places, query, key, table), 2 * half, mrope_section=[0, 0, 0], rotary_mode=mode
    )
    for each, was in zip(got, (query, key)):
        one_by_one = [
            turned(was[i].unflatten(-1, (-1, 2 * half)), angles[place], mode).flatten()
            for i, place in enumerate(places.tolist())
        ]
        near(each, torch.stack(one_by_one))


@few
@given(sizes, st.integers(1, 3), st.integers(1, 4), st.integers(1, 8), kinds, st.booleans(), seeds)
def test_split_norm_and_turn(tokens, shared, group, half, kind, with_bias, seed):
    width, heads = 2 * half, shared * group
    q_size, kv_size = heads * width, shared * width
    qkv = numbers(seed, tokens, q_size + 2 * kv_size, kind=kind)
    angles = 3 * numbers(seed + 1, tokens, 1, half).double()
    weights = [numbers(seed + 2 + n, width, kind=kind) for n in range(4)]
    cos, sin = (spread(f(angles), "half").float().unsqueeze(1) for f in (torch.cos, torch.sin))
    more = dict(zip(("q_weight", "k_weight", "q_bias", "k_bias"), on(*weights)))
    if not with_bias:
        more["q_bias"] = more["k_bias"] = None
    device, sines, cosines = on(qkv, sin, cos)
    got = ours.split_qkv_rmsnorm_rope(
        device, sines, cosines, q_size, kv_size, width, eps=1e-6, **more
    )
    parts = qkv.split((q_size, kv_size, kv_size), -1)
    for n, (each, part) in enumerate(zip(got, parts[:2])):
        x = part.double().unflatten(-1, (-1, width))
        root = torch.sqrt(torch.einsum("thd,thd->th", x, x) / width + 1e-6)
        x = torch.einsum("thd,th,d->thd", x, 1 / root, weights[n].double())
        if with_bias:
            x = x + weights[2 + n].double()
        near(each, turned(x, angles, "half").flatten(1))
    assert torch.equal(got[2].cpu(), parts[2])


@few
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 3), st.integers(1, 4), seeds)
def test_caches(pages, page, heads, width, seed):
    chosen = torch.randperm(pages * page, generator=torch.Generator().manual_seed(seed))
    slots = chosen[: max(1, pages * page // 2)]
    key, value = (numbers(seed + n, len(slots), heads, width) for n in (1, 2))
    known = {slot: (key[i], value[i]) for i, slot in enumerate(slots.tolist())}
    nothing = torch.full((pages, page, heads, width), 7.0)

    def check(key_cache, value_cache):
        for n, cache in enumerate((key_cache, value_cache)):
            for slot, row in enumerate(cache.cpu().reshape(-1, heads, width)):
                assert torch.equal(row, known[slot][n] if slot in known else nothing[0, 0])

    rows, caches = on(key, value), on(nothing, nothing)
    ours._npu_reshape_and_cache(*rows, *caches, *on(slots.int()))
    check(*caches)
    caches = on(nothing, nothing)
    ours.npu_scatter_pa_kv_cache(*rows, *caches, *on(slots.int()), cache_mode="Norm")
    check(*caches)
    caches = on(nothing, nothing)
    for row, cache in zip(rows, caches):
        ours.npu_scatter_nd_update_(cache.view(-1, heads, width), *on(slots.view(-1, 1)), row)
    check(*caches)
    caches = on(nothing, nothing)
    places = torch.tensor([divmod(slot, page) for slot in slots.tolist()])
    for row, cache in zip(rows, caches):
        ours.npu_scatter_nd_update_(cache, *on(places), row)
    check(*caches)


@few
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=5),
    st.integers(1, 8),
    seeds,
)
def test_slots_of_new_rows(grown, page, seed):
    "Row by row: a row takes the next slot of its page, or the first one of the next free page."
    pages = torch.randperm(200, generator=torch.Generator().manual_seed(seed)).tolist()
    free, lasts, wanted = iter(pages[50:]), [], []
    for i, (prefix, new) in enumerate(grown):
        slot = pages[i] * page + (prefix - 1) % page if prefix else -1
        lasts.append(slot)
        for place in range(prefix, prefix + new):
            slot = slot + 1 if place % page else next(free) * page
            wanted.append(slot)
    prefixes = torch.tensor([prefix for prefix, _ in grown])
    lengths = prefixes + torch.tensor([new for _, new in grown])
    out = torch.full((len(wanted),), -1)
    given = on(prefixes, lengths, torch.tensor(lasts), torch.tensor(pages[50:]), out)
    ours.alloc_extend_kernel[(len(grown),)](*given, 8, page, 128)
    assert given[-1].tolist() == wanted


def kept(row: list[float], k: int | None, p: float | None) -> set[int]:
    "From the likeliest downwards: as many as k, and as long as those before have less than p."
    order = sorted(range(len(row)), key=lambda i: (-row[i], -i))
    if k is not None:
        order = [i for i in order if row[i] >= row[order[k - 1]]]
    if p is None:
        return set(order)
    whole = math.fsum(math.exp(row[i]) for i in order)
    before, chosen = 0.0, set()
    for i in order:
        if chosen and before >= p:
            break
        chosen.add(i)
        before += math.exp(row[i]) / whole
    return chosen


@few
@given(sizes, st.integers(1, 40), st.booleans(), st.booleans(), st.booleans(), seeds)
def test_top_k_top_p(rows, tokens, by_k, by_p, with_equals, seed):
    logits = 3 * numbers(seed, rows, tokens)
    if with_equals and not by_p:
        logits = logits.round()
    made = torch.Generator().manual_seed(seed)
    k = torch.randint(1, tokens + 1, (rows,), generator=made) if by_k else None
    p = torch.rand(rows, generator=made) if by_p else None
    given = [each if each is None else on(each)[0] for each in (p, k)]
    got = ours.npu_top_k_top_p(*on(logits), *given)
    for i, (row, was) in enumerate(zip(got.tolist(), logits.tolist())):
        chosen = kept(was, int(k[i]) if by_k else None, float(p[i]) if by_p else None)
        assert row == [was[j] if j in chosen else -INFINITE for j in range(tokens)]


@pytest.mark.parametrize("p, kept", [(0.75, 3), (0.5, 2), (0.25, 1), (1e-9, 1), (1.0, 4)])
def test_the_edge_of_top_p(p, kept):
    "Four tokens of a quarter each: a sum of exactly 1 - p is dropped, the likeliest never."
    made = ours.npu_top_k_top_p(torch.zeros(1, 4).to("npu"), torch.tensor([p]).to("npu"), None)
    assert made.isfinite().sum().item() == kept


@few
@given(sizes, st.integers(1, 130), kinds, seeds)
def test_bits_of_tokens(rows, tokens, kind, seed):
    words = -(-tokens // 32)
    made = torch.Generator().manual_seed(seed)
    mask = torch.randint(-(2**31), 2**31, (rows, words), generator=made).int()
    logits = numbers(seed, rows, tokens, kind=kind)
    device = on(logits)[0]
    assert ours.apply_token_bitmask(device, *on(mask)) is None
    for got, was, row in zip(device.tolist(), logits.tolist(), mask.tolist()):
        bits = "".join(f"{word % 2**32:032b}"[::-1] for word in row)
        assert got == [was[i] if bits[i] == "1" else -INFINITE for i in range(tokens)]


def test_numbers_stay_where_they_are():
    weight = torch.ones(2, 2, device="npu")
    assert ours.npu_format_cast(weight, 29) is weight
    assert ours.npu_format_cast_(weight, 29) is weight
    assert ours.get_npu_format(weight) == 2
    assert ours.npu_prefetch(weight, None, 100) is None


one, two = torch.ones(1, 4), torch.ones(2, 4)
row, cache = torch.ones(1, 1, 4), torch.ones(2, 2, 1, 4)
slot = torch.tensor([0])
NOT_DONE = [
    ("npu_swiglu", (torch.ones(3),), {}, "3 columns"),
    ("npu_rotary_mul", (one, one, one, "quarter"), {}, "rotary_mode 'quarter'"),
    ("npu_apply_rotary_pos_emb", (one, one, one, one, "BNSD"), {}, "layout 'BNSD'"),
    ("npu_mrope", (slot, one, one, two, 4), {"mrope_section": [1, 1, 0]}, "sections"),
    ("npu_mrope", (slot.view(1, 1), one, one, two, 4), {}, "sections"),
    ("npu_mrope", (slot, one, one, two, 2), {}, "part of the head"),
    ("split_qkv_rmsnorm_rope", (one, one, one, 2, 1, 1), {"is_neox_style": False}, "neighbours"),
    ("npu_scatter_pa_kv_cache", (row, row, cache, cache, slot), {}, "cache_mode 'PA_NZ'"),
    (
        "npu_scatter_pa_kv_cache",
        (row, row, cache, cache, slot),
        {"cache_mode": "Norm", "seq_lens": slot},
        "seq_lens",
    ),
    ("npu_format_cast", (one, 29), {"customize_dtype": torch.int8}, "packed"),
]
DOES_NOT_FIT = [
    ("npu_rms_norm", (one, torch.ones(3)), "[3]"),
    ("npu_add_rms_norm", (one, one, torch.ones(2, 4)), "gamma"),
    ("npu_gemma_rms_norm", (one, torch.ones(5)), "[5]"),
    ("npu_mrope", (torch.tensor([2]), one, one, two, 4), "position 2 is outside 0 to 1"),
    ("npu_mrope", (torch.tensor([-1]), one, one, two, 4), "position -1"),
    ("split_qkv_rmsnorm_rope", (one, one, one, 2, 2, 2), "[1, 6]"),
    ("_npu_reshape_and_cache", (row, row, cache, cache, torch.tensor([4])), "slot 4"),
    ("_npu_reshape_and_cache", (row, row, cache, cache, torch.tensor([-1])), "slot -1"),
    ("_npu_reshape_and_cache", (one, one, cache, cache, slot), "a new row"),
    ("npu_scatter_nd_update_", (two, torch.tensor([[2]]), one), "index 2"),
    ("npu_scatter_nd_update_", (two, torch.tensor([[0]]), two), "updates"),
    ("npu_top_k_top_p", (one, None, torch.tensor([0])), "k 0 is outside 1 to 4"),
    ("npu_top_k_top_p", (torch.ones(1, 2000), None, torch.tensor([1025])), "1 to 1024"),
    ("apply_token_bitmask", (torch.ones(1, 33), torch.tensor([[1]])), "[1, 2]"),
    ("apply_token_bitmask", (torch.ones(2, 32), torch.tensor([[1]])), "[2, 1]"),
    ("extend_slots", (slot, slot + 3, slot - 1, slot[:0], torch.ones(3), 1, 2, 4), "pages 2"),
    ("extend_slots", (slot, slot + 3, slot - 1, torch.tensor([1, 2]), slot, 1, 2, 4), "slots 3"),
]


@pytest.mark.parametrize("name, given, named, words", NOT_DONE)
def test_what_is_not_done_is_refused(name, given, named, words):
    with pytest.raises(NotImplementedError) as refusal:
        getattr(ours, name)(*given, **named)
    assert name in str(refusal.value) and words in str(refusal.value)


@pytest.mark.parametrize("name, given, words", DOES_NOT_FIT)
def test_what_does_not_fit_is_refused(name, given, words):
    with pytest.raises(RuntimeError) as refusal:
        getattr(ours, name)(*given)
    assert name.replace("extend_slots", "alloc_extend_kernel") in str(refusal.value)
    assert words in str(refusal.value)


def test_a_refused_write_leaves_the_cache_as_it_was():
    held = torch.zeros(2, 2, 1, 4)
    with pytest.raises(RuntimeError):
        ours._npu_reshape_and_cache(
            torch.ones(2, 1, 4), torch.ones(2, 1, 4), held, held, torch.tensor([0, 9])
        )
    assert not held.any()


def test_each_operator_is_a_step():
    "So that a captured graph has it; those that do nothing to numbers need not be."
    idle = {"npu_format_cast", "npu_format_cast_", "get_npu_format", "npu_prefetch"}
    plain = {name for name, each in ours.OPERATORS.items() if not hasattr(each, "__wrapped__")}
    assert plain == idle
