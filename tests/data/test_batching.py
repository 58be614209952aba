import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from trek_lm.data.batching import IGNORE, Batch, BatchSource, LineBatches, Shard, StreamBatches
from trek_lm.data.encoded import EncodedLines

Ids = list[list[int]]
# Bytes without 0, so that padding of inputs doesn't look like text.
texts = st.lists(st.lists(st.integers(1, 255), min_size=1, max_size=30), min_size=1, max_size=40)


def encoded(lines: Ids) -> EncodedLines:
    text = torch.tensor([character for line in lines for character in line], dtype=torch.uint8)
    lengths = torch.tensor([len(line) for line in lines], dtype=torch.int64)
    return EncodedLines(text, lengths.cumsum(0) - lengths, lengths)


def read_back(batch: Batch) -> Ids:
    """The lines of a batch: the first input, then the targets without padding."""
    lines = []
    for inputs, targets in zip(batch.inputs.T, batch.targets.T, strict=True):
        counted = targets[targets != IGNORE]
        if len(counted):
            assert inputs[1 : len(counted)].tolist() == counted[:-1].tolist()
            lines.append([int(inputs[0]), *counted.tolist()])
    return lines


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.inputs, second.inputs)
        and torch.equal(first.targets, second.targets)
        and first[2:] == second[2:]
    )


def test_line_batch_is_sorted_and_padded() -> None:
    (batch,) = LineBatches(encoded([[1, 2, 3], [4, 5], [6]]), batch_size=4)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [[5, 2], [IGNORE, 3]]  # (T, B), shortest line first
    assert batch.inputs[:, 1].tolist() == [1, 2]
    assert (batch.characters, batch.carry) == (3, False)


def test_stream_batches_are_tracks() -> None:
    batches = list(
        StreamBatches(encoded([[1, 2, 3, 4], [5, 6, 7, 8]]), batch_size=2, sequence_length=3)
    )
    assert [b.inputs.tolist() for b in batches] == [[[1, 5], [2, 6], [3, 7]], [[4, 7]]]
    assert [b.targets.tolist() for b in batches] == [[[2, 6], [3, 7], [4, 8]], [[5, IGNORE]]]
    assert [b.characters for b in batches] == [6, 1]
    assert [b.carry for b in batches] == [False, True]


@given(texts, st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 5))
def test_each_epoch_has_every_line_once(
    lines: Ids, size: int, even: bool, shuffle: bool, seed: int
) -> None:
    source = LineBatches(encoded(lines), size, even=even, seed=seed, shuffle=shuffle)
    for _ in range(2):
        batches = list(source)
        assert len(batches) == len(source)
        found = [line for batch in batches for line in read_back(batch)]
        assert sorted(found) == sorted(line for line in lines if len(line) > 1)
        assert sum(batch.characters for batch in batches) == source.characters


@given(texts, st.integers(1, 9), st.integers(0, 5))
def test_even_batches_have_similar_numbers_of_characters(lines: Ids, size: int, seed: int) -> None:
    """Each differs from the mean by less than the longest line."""
    source = LineBatches(encoded(lines), size, even=True, seed=seed, shuffle=True)
    counts = [batch.characters for batch in source]
    longest = max(map(len, lines)) - 1
    assert all(abs(count - source.characters / len(counts)) < longest for count in counts)
    as_lines = LineBatches(encoded(lines), size)
    assert len(source) <= len(as_lines)
    if counts and source.characters // len(as_lines) >= longest:
        assert len(source) == len(as_lines)


@given(texts)
def test_divisor_weighs_characters_or_batches_equally(lines: Ids) -> None:
    """With either setting the weights of an epoch sum to its number of batches."""
    for weigh_characters in (True, False):
        for source in sources(lines, weigh_characters=weigh_characters):
            batches = list(source)
            weights = [1 / batch.divisor for batch in batches]  # of one character
            totals = [batch.characters / batch.divisor for batch in batches]
            assert sum(totals) == pytest.approx(len(batches))
            equal = weights if weigh_characters else totals
            assert equal == pytest.approx(equal[:1] * len(equal))


@pytest.mark.parametrize("repeats", [False, True])
def test_repeats_makes_epochs_identical(repeats: bool) -> None:
    source = LineBatches(encoded([[n] * (n % 7 + 2) for n in range(40)]), 4, shuffle=True)
    source.repeats = repeats
    first, second = ([batch.inputs.tolist() for batch in source] for _ in range(2))
    assert (first == second) == repeats


@given(texts, st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_stream_predicts_each_character_once_in_order(
    lines: Ids, size: int, sequence_length: int, shuffle: bool
) -> None:
    source = StreamBatches(encoded(lines), size, sequence_length, shuffle=shuffle)
    text = list(itertools.chain(*lines))
    for _ in range(2):
        batches = list(source)
        assert len(batches) == len(source)
        # The targets of a track over all batches, one track after the other, are the text.
        targets = torch.cat([b.targets for b in batches]).T if batches else torch.empty(0)
        inputs = torch.cat([b.inputs for b in batches]).T if batches else torch.empty(0)
        counted = targets != IGNORE
        assert targets[counted].tolist() == text[1:]
        assert inputs[counted].tolist() == text[:-1]
        assert [b.carry for b in batches] == [n > 0 for n in range(len(batches))]
        assert sum(b.characters for b in batches) == source.characters == len(text) - 1


@given(texts, st.integers(1, 5), st.integers(1, 9), st.integers(0, 12))
def test_warm_up_reads_what_precedes_a_track(
    lines: Ids, size: int, sequence_length: int, warm_up: int
) -> None:
    source = StreamBatches(encoded(lines), size, sequence_length, warm_up=warm_up)
    text = list(itertools.chain(*lines))
    batches = list(source)
    targets = torch.cat([b.targets for b in batches]).T if batches else torch.empty(0)
    inputs = torch.cat([b.inputs for b in batches]).T if batches else torch.empty(0)
    counted = targets != IGNORE
    assert targets[counted].tolist() == text[1:]
    assert inputs[counted].tolist() == text[:-1]
    assert sum(b.characters for b in batches) == len(text) - 1
    for start, track, scored in zip(source.starts.tolist(), inputs, counted, strict=bool(batches)):
        if scored.any():
            first = int(scored.int().argmax())
            assert first == (warm_up if start else 0)
            assert track[:first].tolist() == text[start : start + first]


@pytest.mark.parametrize("sample", [5, 0.05])
def test_first_batches_of_a_partial_evaluation_are_a_fair_sample(sample: float) -> None:
    """Sorted by length alone, they would be the shortest lines."""
    lines = [[1] * (2 + n % 100) for n in range(1000)]
    source = LineBatches(encoded(lines), 10, sample=sample)
    sizes = [batch.characters for batch in source]
    assert len(sizes) == len(source) == 100
    assert sum(sizes[:5]) / 50 == pytest.approx(sum(sizes) / 1000, rel=0.2)
    assert sizes == [batch.characters for batch in source]  # the same in every epoch
    assert sum(sizes) == sum(map(len, lines)) - len(lines)


def sources(lines: Ids, shard: Shard = Shard(), **options: Any) -> list[BatchSource]:
    options |= {"seed": 1, "shuffle": True, "shard": shard}
    return [
        LineBatches(encoded(lines), 4, **options),
        LineBatches(encoded(lines), 4, even=True, **options),
        StreamBatches(encoded(lines), 4, 5, **options),
    ]


@given(texts, st.data())
def test_resumed_source_yields_the_remaining_batches(lines: Ids, data: st.DataObject) -> None:
    for source, other, stopped in zip(*(sources(lines) for _ in range(3)), strict=True):
        total = 2 * len(source)
        stop = data.draw(st.integers(0, total))
        whole = [*source, *source]
        for _ in itertools.islice(itertools.chain(stopped, stopped), stop):
            pass
        other.load_state_dict(stopped.state_dict())
        rest = list(itertools.islice(itertools.chain(other, other, other), total - stop))
        assert len(rest) == total - stop
        assert all(map(same, rest, whole[stop:]))


def test_state_after_last_batch_is_next_epoch() -> None:
    """Lightning never requests a batch after the last, so the source can't wait for that."""
    for source in sources([[1, 2, 3]] * 9):
        iterator = iter(source)
        for _ in range(len(source)):
            next(iterator)
        assert source.state_dict() == {"seed": 1, "epoch": 1, "consumed": 0}


def test_next_epoch_after_an_interrupted_one_is_complete() -> None:
    for source in sources([[1, 2, 3]] * 9):
        next(iter(source))
        assert len(list(source)) == len(source)
        assert source.state_dict()["epoch"] == 2


def test_order_differs_between_epochs_and_seeds() -> None:
    lines = encoded([[n, n + 1, n + 2] for n in range(1, 100)])
    source = LineBatches(lines, 8, seed=1, shuffle=True)
    orders = [[b.inputs[0].tolist() for b in source] for _ in range(3)]
    orders.append([b.inputs[0].tolist() for b in LineBatches(lines, 8, seed=2, shuffle=True)])
    assert len({str(order) for order in orders}) == 4
    assert str([b.inputs[0].tolist() for b in LineBatches(lines, 8, seed=1, shuffle=True)]) in {
        str(orders[0])
    }


@given(texts, st.integers(2, 5))
def test_ranks_share_each_batch(lines: Ids, world_size: int) -> None:
    """Each line is on one rank, ranks have equal steps, and the mean loss is the global one."""
    logits_of = torch.randn(256, 256, dtype=torch.float64)  # a model: logits of the next character

    def loss(batch: Batch, ranks: int) -> Tensor:
        logits = logits_of[batch.inputs].flatten(0, 1)
        summed = functional.cross_entropy(logits, batch.targets.flatten(), reduction="sum")
        return summed * ranks / batch.divisor

    for kind, whole in enumerate(sources(lines)):
        shards = [sources(lines, Shard(rank, world_size))[kind] for rank in range(world_size)]
        assert {len(shard) for shard in shards} == {len(whole)}
        for alone, *shares in zip(whole, *shards, strict=True):
            assert {share.characters for share in shares} == {alone.characters}
            assert {share.divisor for share in shares} == {alone.divisor}
            assert {share.carry for share in shares} == {alone.carry}
            found = [line for share in shares for line in read_back(share)]
            assert sorted(found) == sorted(read_back(alone))
            # DDP averages over ranks.
            averaged = torch.stack([loss(share, world_size) for share in shares]).mean()
            assert averaged == pytest.approx(float(loss(alone, 1)), abs=1e-9)


def test_empty_shard_has_zero_gradient() -> None:
    lines = encoded([[1, 2, 3]])
    for source in (
        LineBatches(lines, 4, shard=Shard(1, 2)),
        StreamBatches(lines, 1, 5, shard=Shard(1, 2)),
    ):
        (batch,) = source
        weights = torch.randn(256, 256, requires_grad=True)
        logits = weights[batch.inputs].flatten(0, 1)
        functional.cross_entropy(logits, batch.targets.flatten(), reduction="sum").backward()
        assert weights.grad is not None
        assert not weights.grad.any()
        assert batch.characters == 2


def test_no_batches_without_targets() -> None:
    assert list(LineBatches(encoded([]), 4)) == []
    assert list(LineBatches(encoded([[1]]), 4)) == []
    assert list(StreamBatches(encoded([[1]]), 4, 4)) == []
