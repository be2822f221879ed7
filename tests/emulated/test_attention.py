"Attention of the emulated NPU against a loop over single positions in float64."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_npu_tut.rehearsal.emulated import attention as ours
from torch.testing import assert_close

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))
lengths = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=5)
kinds = st.sampled_from([torch.float32, torch.bfloat16])
NAN = float("nan")
MASK = torch.ones(8, 8).triu(1)


class Batch:
    """Sequences of (rows before, new rows), their keys in shuffled pages, everything else NaN.

    Whoever reads a row that is not the sequence's own, or an entry of the block table behind its
    end, gets NaN or leaves the cache."""

    def __init__(self, sequences, shape, page, seed, kind=torch.float32):
        self.shared, group, self.width, self.v_width = shape
        self.heads, self.page, self.sequences = self.shared * group, page, sequences
        made = torch.Generator().manual_seed(seed)
        self.new = [new for _, new in sequences]
        self.totals = [before + new for before, new in sequences]
        self.query = torch.randn(sum(self.new), self.heads, self.width, generator=made).to(kind)
        self.keys = [
            torch.randn(n, self.shared, self.width, generator=made).to(kind) for n in self.totals
        ]
        self.values = [
            torch.randn(n, self.shared, self.v_width, generator=made).to(kind) for n in self.totals
        ]
        needed = [-(-n // page) for n in self.totals]
        order = iter(torch.randperm(sum(needed) + 2, generator=made).tolist())
        self.table = torch.full((len(sequences), max(needed, default=0) + 1), 10**6).int()
        self.caches = [
            torch.full((sum(needed) + 2, page, self.shared, width), NAN).to(kind)
            for width in (self.width, self.v_width)
        ]
        for i, count in enumerate(needed):
            for place in range(count):
                self.table[i, place] = next(order)
            for n in range(self.totals[i]):
                slot = self.table[i, n // page], n % page
                self.caches[0][slot], self.caches[1][slot] = self.keys[i][n], self.values[i][n]

    def wanted(self, scale: float, causal: bool) -> torch.Tensor:
        "Each new row and head by itself: what it sees, weighed by the exponential of its score."
        rows, first = [], 0
        for new, total, keys, values in zip(self.new, self.totals, self.keys, self.values):
            for place in range(new):
                sees = total - new + place + 1 if causal else total
                for head in range(self.heads):
                    own, side = self.query[first + place, head], head * self.shared // self.heads
                    scores = [
                        scale * float(own.double() @ keys[n, side].double()) for n in range(sees)
                    ]
                    weights = [math.exp(score - max(scores)) for score in scores]
                    whole = sum(each * values[n, side].double() for n, each in enumerate(weights))
                    rows.append(whole / sum(weights))
            first += new
        shape = len(self.query), self.heads, self.v_width
        return torch.stack(rows).view(shape) if rows else torch.zeros(shape, dtype=torch.double)


def on(*tensors):
    return [each.to("npu") for each in tensors]


def near(got, wanted) -> None:
    room = 1e-5 if got.dtype == torch.float32 else 2**-6
    assert_close(got.cpu().double().view(wanted.shape), wanted, rtol=room, atol=room)


@few
@given(st.lists(st.integers(0, 40), max_size=6), shapes, st.integers(1, 7), kinds, seeds)
def test_new_tokens(before, shape, page, kind, seed):
    batch = Batch([(n, 1) for n in before], shape, page, seed, kind)
    query, *caches, table = on(batch.query, *batch.caches, batch.table)
    out = torch.full((len(query), batch.heads, batch.v_width), NAN, dtype=kind).to("npu")
    for totals in (
        batch.totals,
        torch.tensor(batch.totals).int(),
        torch.tensor(batch.totals).int().to("npu"),
    ):
        ours._npu_paged_attention(
            query=query,
            key_cache=caches[0],
            value_cache=caches[1],
            num_heads=batch.heads,
            num_kv_heads=batch.shared,
            scale_value=0.3,
            block_table=table,
            context_lens=totals,
            out=out,
        )
        near(out, batch.wanted(0.3, False))
        out.fill_(NAN)


@few
@given(lengths, shapes, st.integers(1, 7), kinds, seeds)
def test_prompts(sequences, shape, page, kind, seed):
    "With and without a prefix, of one token and of many, of one sequence, of none."
    batch = Batch(sequences, shape, page, seed, kind)
    query, *caches, table, mask = on(batch.query.flatten(1), *batch.caches, batch.table, MASK)
    out = torch.full((len(query), batch.heads * batch.v_width), NAN, dtype=kind).to("npu")
    ours._npu_flash_attention_qlens(
        query=query,
        key_cache=caches[0],
        value_cache=caches[1],
        mask=mask,
        block_table=table,
        seq_len=torch.tensor(batch.new).int(),
        context_lens=torch.tensor(batch.totals).int(),
        scale_value=0.3,
        num_heads=batch.heads,
        num_kv_heads=batch.shared,
        out=out,
    )
    near(out, batch.wanted(0.3, True))


def test_sequences_in_stretches_of_their_own():
    "Some share a call and some do not; each has its own answer."
    before = [126, 127, 128, 0, 255, 256, 300, 5, 127]
    batch = Batch([(n, 1) for n in before], (1, 2, 4, 4), 128, 7)
    query, *caches, table = on(batch.query, *batch.caches, batch.table)
    out = torch.empty(len(before), 2, 4).to("npu")
    ours._npu_paged_attention(query, *caches, 1, 2, 0.5, table, batch.totals, out)
    near(out, batch.wanted(0.5, False))


@few
@given(lengths, shapes, st.integers(1, 7), kinds, seeds, st.booleans())
def test_fused_in_pages(sequences, shape, page, kind, seed, second):
    "TND, as prompts are with ASCEND_USE_FIA=1; rows of other requests behind them stay 0."
    batch = Batch(sequences, shape, page, seed, kind)
    more = torch.cat((batch.query, torch.ones(2, *batch.query.shape[1:], dtype=kind)))
    query, *caches, table, mask = on(
        more, *(each.flatten(2) for each in batch.caches), batch.table, MASK.bool()
    )
    ends = torch.tensor(batch.new).cumsum(0).tolist()
    named = dict(
        num_heads=batch.heads,
        scale=0.3,
        actual_seq_lengths=ends,
        actual_seq_lengths_kv=batch.totals,
    )
    fused = ours.npu_fused_infer_attention_score
    if second:
        fused = ours.npu_fused_infer_attention_score_v2
        renamed = {old: new for new, old in ours.RENAMED.items()}
        named = {renamed[name]: value for name, value in named.items()}
    got, sums = fused(
        query,
        *caches,
        num_key_value_heads=batch.shared,
        block_table=table,
        block_size=page,
        input_layout="TND",
        sparse_mode=3,
        atten_mask=mask,
        pre_tokens=2147483647,
        next_tokens=0,
        **named,
    )
    near(got[: len(batch.query)], batch.wanted(0.3, True))
    assert not got[len(batch.query) :].any() and sums.tolist() == [0]


@few
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    shapes,
    st.integers(1, 7),
    seeds,
    st.sampled_from(["BSH", "BSND"]),
)
def test_fused_new_tokens(before, shape, page, seed, layout):
    "As graphs call it: one row of each sequence, the memory given."
    batch = Batch([(n, 1) for n in before], shape, page, seed)
    query = batch.query.unsqueeze(1) if layout == "BSND" else batch.query.flatten(1).unsqueeze(1)
    query, *caches, table = on(query, *(each.flatten(2) for each in batch.caches), batch.table)
    named = dict(
        block_table=table,
        block_size=page,
        num_heads=batch.heads,
        scale=0.3,
        num_key_value_heads=batch.shared,
        input_layout=layout,
        atten_mask=None,
        actual_seq_lengths_kv=batch.totals,
        sparse_mode=0,
    )
    near(ours.npu_fused_infer_attention_score(query, *caches, **named)[0], batch.wanted(0.3, False))
    room = ours._npu_fused_infer_attention_score_get_max_workspace(query, *caches, **named)
    out = torch.full((len(before), 1, batch.heads * batch.v_width), NAN).to("npu")
    sums = torch.ones(1).to("npu")
    ours.npu_fused_infer_attention_score.out(
        query, *caches, workspace=room, out=[out, sums], **named
    )
    near(out, batch.wanted(0.3, False))
    assert sums.tolist() == [0] and room.device.type == out.device.type


@few
@given(st.integers(1, 9), st.integers(0, 20), st.integers(1, 4), shapes, seeds, st.booleans())
def test_fused_without_pages(new, before, count, shape, seed, causal):
    "A batch of sequences as long as each other, and the same sequences one behind the other."
    batch = Batch([(before, new)] * count, shape, 4, seed)
    keys, values = torch.cat(batch.keys), torch.cat(batch.values)
    query, keys, values, mask = on(batch.query, keys, values, MASK)
    named = dict(
        num_heads=batch.heads,
        num_key_value_heads=batch.shared,
        scale=0.3,
        sparse_mode=3 if causal else 0,
        atten_mask=mask if causal else None,
    )
    wanted, fused = batch.wanted(0.3, causal), ours.npu_fused_infer_attention_score
    near(
        fused(
            query,
            keys,
            values,
            input_layout="TND",
            actual_seq_lengths=[new * (n + 1) for n in range(count)],
            actual_seq_lengths_kv=[(before + new) * (n + 1) for n in range(count)],
            **named,
        )[0],
        wanted,
    )
    query, keys, values = (each.unflatten(0, (count, -1)) for each in (query, keys, values))
    near(fused(query, keys, values, input_layout="BSND", **named)[0], wanted)
    query, keys, values = (each.flatten(2) for each in (query, keys, values))
    near(fused(query, keys, values, input_layout="BSH", **named)[0], wanted)


def test_a_sequence_without_keys_gets_zeros():
    "Graphs are captured with lengths of 0, and their spare rows keep them."
    cache = torch.full((2, 4, 1), NAN).to("npu")
    query, table = torch.ones(3, 1, 2).to("npu"), torch.zeros(3, 1).int().to("npu")
    got, _ = ours.npu_fused_infer_attention_score(
        query,
        cache,
        cache,
        num_heads=2,
        num_key_value_heads=1,
        block_table=table,
        block_size=4,
        actual_seq_lengths_kv=[0, 0, 0],
    )
    assert got.shape == query.shape and not got.any()


query, pages, table = torch.ones(2, 1, 4), torch.ones(3, 4, 4), torch.tensor([[0, 1], [2, 1]])
in_pages = dict(block_table=table, block_size=4, actual_seq_lengths_kv=[8, 8])
NOT_DONE = [
    ({"input_layout": "BNSD"}, "input_layout 'BNSD'"),
    ({"sparse_mode": 4}, "sparse_mode 4"),
    ({"sparse_mode": 2}, "sparse_mode 2"),
    ({"sparse_mode": 3}, "this mask"),
    ({"sparse_mode": 3, "atten_mask": torch.zeros(4, 4)}, "this mask"),
    ({"sparse_mode": 3, "atten_mask": torch.ones(4, 4)}, "this mask"),
    ({"atten_mask": MASK}, "a mask in sparse_mode 0"),
    ({"softmax_lse_flag": True}, "softmax_lse_flag"),
    *(
        ({name: torch.zeros(1)}, name)
        for name in (
            "query_rope",
            "key_rope",
            "pse_shift",
            "learnable_sink",
            "antiquant_scale",
            "dequant_scale1",
            "key_shared_prefix",
            "actual_shared_prefix_len",
        )
    ),
]


@pytest.mark.parametrize("form", ["plain", "out", "v2"])
@pytest.mark.parametrize("more, words", NOT_DONE, ids=[words for _, words in NOT_DONE])
def test_what_is_not_done_is_refused(form, more, words):
    operator = ours.npu_fused_infer_attention_score
    if form == "out":
        operator, more = operator.out, {**more, "out": [query.clone(), torch.ones(1)]}
    if form == "v2":
        operator, more = ours.npu_fused_infer_attention_score_v2, dict(more)
    named = {**in_pages, **more}
    if form == "v2":
        named["actual_seq_kvlen"] = named.pop("actual_seq_lengths_kv")
    with pytest.raises(NotImplementedError) as refusal:
        operator(query, pages, pages, **named)
    assert "npu_fused_infer_attention_score" in str(refusal.value) and words in str(refusal.value)


def test_pages_of_other_layouts_are_refused():
    with pytest.raises(NotImplementedError, match="pages of 5 dimensions"):
        ours.npu_fused_infer_attention_score(query, pages[:, None, None], pages, **in_pages)
    with pytest.raises(NotImplementedError, match="this mask"):
        cache = pages.unsqueeze(2)
        ours._npu_flash_attention_qlens(
            query, cache, cache, table, MASK.T, [1, 1], [8, 8], 1, 1, 1.0, query.clone()
        )


DOES_NOT_FIT = [
    ({"block_table": table + 1}, "page 3 is outside 0 to 2"),
    ({"block_table": table - 1}, "page -1 is outside"),
    ({"actual_seq_lengths_kv": [8, 9]}, "page of a sequence 2 is outside 0 to 1"),
    ({"actual_seq_lengths_kv": [8]}, "list of lengths"),
    ({"block_size": 5}, "a page"),
    ({"input_layout": "TND", "actual_seq_lengths": [1, 3]}, "end of a sequence 3"),
    (
        {
            "input_layout": "TND",
            "actual_seq_lengths": [2],
            "sparse_mode": 3,
            "atten_mask": MASK,
            "actual_seq_lengths_kv": [1],
        },
        "new rows 2 is outside 0 to 1",
    ),
]


@pytest.mark.parametrize("more, words", DOES_NOT_FIT, ids=[words for _, words in DOES_NOT_FIT])
def test_what_does_not_fit_is_refused(more, words):
    with pytest.raises(RuntimeError) as refusal:
        ours.npu_fused_infer_attention_score(query, pages, pages, **{**in_pages, **more})
    assert words in str(refusal.value)


def test_entries_behind_the_end_are_not_read():
    "A block table is as wide as the longest sequence; what stands behind others' ends is old."
    out = torch.empty(2, 1, 4)
    old = torch.tensor([[0, 10**6], [2, -5]])
    cache = pages.unsqueeze(2)
    ours._npu_paged_attention(query, cache, cache, 1, 1, 1.0, old, [4, 1], out)
    assert torch.equal(out, query)
    with pytest.raises(RuntimeError, match="_npu_paged_attention.*page 1000000"):
        ours._npu_paged_attention(query, cache, cache, 1, 1, 1.0, old, [5, 1], out)
