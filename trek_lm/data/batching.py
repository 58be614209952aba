"""Batches of characters from one uint8 tensor, exact and resumable.

Two ways to cut a text, both without padding to speak of and without an object per item:

- `LineBatches`: lines bucketed by length; the state is zero at each line's start.
- `StreamBatches`: the text as B contiguous tracks, T characters at a time; the state carries on.

A batch source is a sized iterable whose whole state is (seed, epoch, batches consumed). Under
DDP the global batch is formed first and each rank takes a strided share of its columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.encoded import EncodedLines

IGNORE = -100  # target of a padded place: what torch's cross entropy ignores by default


class Batch(NamedTuple):
    """What a training step is given. T characters, B columns (lines or tracks)."""

    inputs: Tensor  # int64 (T, B): ids of the given characters
    targets: Tensor  # int64 (T, B): ids of the characters that follow, IGNORE where padded
    characters: int  # predicted characters in the whole global batch, over all ranks
    carry: bool  # whether the columns go on from those of the batch before
    divisor: float  # what the summed loss is divided by in training, on every rank


@dataclass(frozen=True)
class Shard:
    """This process's place among those that share each batch."""

    rank: int = 0
    world_size: int = 1

    def take(self, columns: Tensor) -> Tensor:
        return columns[self.rank :: self.world_size]


class BatchSource(ABC):
    """A sized iterable over batches that can stop and go on anywhere.

    Each `iter()` gives the next epoch from its start, unless `load_state_dict` has just set a
    place within an epoch: then the rest of that one.

    With `weigh_characters` every character of an epoch counts the same in training, so a batch
    counts for those that it has. Without, every batch counts the same, and in one of few
    characters each for more.
    """

    characters: int  # predicted in one epoch

    def __init__(self, *, weigh_characters: bool, seed: int, shuffle: bool, shard: Shard) -> None:
        self.weigh_characters = weigh_characters
        self.seed = seed
        self.shuffle = shuffle
        self.shard = shard
        self.repeats = False  # whether every epoch has the first one's batches
        self.epoch = 0
        self.consumed = 0  # batches of this epoch already given
        self._restored = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _batches(self, start: int) -> Iterator[Batch]:
        """The batches of the current epoch from the one numbered `start`."""

    def __iter__(self) -> Iterator[Batch]:
        if self.consumed and not self._restored:  # the last pass was left before its end
            self.epoch, self.consumed = self.epoch + 1, 0
        self._restored = False
        last = len(self) - 1
        for number, batch in enumerate(self._batches(self.consumed), start=self.consumed):
            # Counted before the batch is handed over: who asks for no batch after the last
            # one never comes back here.
            if number == last:
                self.epoch, self.consumed = self.epoch + 1, 0
            else:
                self.consumed = number + 1
            yield batch

    def _batch_of(self, inputs: Tensor, targets: Tensor, characters: int, carry: bool) -> Batch:
        mean = self.characters / len(self) if self.weigh_characters else characters
        return Batch(inputs, targets, characters, carry, mean)

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed, self.epoch, self.consumed = state["seed"], state["epoch"], state["consumed"]
        self._restored = True

    # Lightning calls `sampler.set_epoch` of what looks like torch's DataLoader this far.
    batch_sampler = None

    @property
    def sampler(self) -> "BatchSource":
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch that comes next, where the one before was cut short."""
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0

    def _generator(self) -> torch.Generator:
        # Only 32 bits of a seed count on the CPU, so seed and epoch are mixed into them.
        epoch = 0 if self.repeats else self.epoch
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**32)


class LineBatches(BatchSource):
    """Lines of similar length side by side, each from a zero state.

    The first character of a line is given; every later one, and the newline, is predicted.
    When shuffling, lines are sorted by a length blurred at random, cut into batches, and the
    batches shuffled: the padding is small and the company of a line changes every epoch.

    A batch has `batch_size` lines. With `even` it has as many characters as that many lines have
    on average: few long lines, many short ones.
    """

    JITTER = 0.05  # lengths are blurred by up to this share of themselves

    def __init__(
        self,
        lines: EncodedLines,
        batch_size: int,
        *,
        even: bool = False,
        weigh_characters: bool = True,
        seed: int = 0,
        shuffle: bool = False,
        shard: Shard = Shard(),
    ) -> None:
        super().__init__(weigh_characters=weigh_characters, seed=seed, shuffle=shuffle, shard=shard)
        lines = lines.take(lines.lengths > 1)  # nothing to predict in a bare newline
        self.batch_size = batch_size
        self.even = even
        self.text, self.starts, self.lengths = lines
        self.characters = int(self.lengths.sum()) - len(self.lengths)

    def __len__(self) -> int:
        count = -(-len(self.lengths) // self.batch_size)
        if not self.even or not count:
            return count
        # No more than leaves room for the longest line in each: then none is empty.
        return min(count, self.characters // (int(self.lengths.max()) - 1))

    def _batches(self, start: int) -> Iterator[Batch]:
        for rows in self._order()[start:]:
            yield self._batch(rows)

    def _order(self) -> list[Tensor]:
        """The lines of each batch of this epoch."""
        if not len(self.lengths):
            return []
        if not self.shuffle:
            return self._cut(self.lengths.argsort(stable=True))
        generator = self._generator()
        jitter = 1 + self.JITTER * torch.rand(len(self.lengths), generator=generator)
        batches = self._cut((self.lengths * jitter).argsort())
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _cut(self, order: Tensor) -> list[Tensor]:
        if not self.even:
            return list(order.split(self.batch_size))
        ends = (self.lengths[order] - 1).cumsum(0)  # characters up to the end of each line
        number = (ends - 1) * len(self) // self.characters  # the batch of each line
        return list(order.split(number.bincount().tolist()))

    def _batch(self, rows: Tensor) -> Batch:
        characters = int(self.lengths[rows].sum()) - len(rows)
        rows = self.shard.take(rows)
        if not len(rows):  # fewer lines than ranks: one column that predicts nothing
            nothing = torch.full((1, 1), IGNORE)
            return self._batch_of(torch.zeros_like(nothing), nothing, characters, carry=False)
        lengths = self.lengths[rows]  # (B,)
        place = torch.arange(int(lengths.max()))[:, None]  # (T + 1, 1)
        index = (self.starts[rows] + place).clamp_(max=len(self.text) - 1)
        ids = self.text[index].long()  # (T + 1, B)
        targets = ids[1:].masked_fill(place[1:] >= lengths, IGNORE)
        return self._batch_of(ids[:-1], targets, characters, carry=False)


class StreamBatches(BatchSource):
    """A text as `batch_size` contiguous tracks, `sequence_length` characters of each per batch.

    Every character but the very first is predicted exactly once in an epoch; the first of a
    track has the last of the track before as its input. When shuffling, the first chunk of an
    epoch has a random length, so that the places where the gradient is cut move.
    """

    def __init__(
        self,
        lines: EncodedLines,
        batch_size: int,
        sequence_length: int,
        *,
        weigh_characters: bool = True,
        seed: int = 0,
        shuffle: bool = False,
        shard: Shard = Shard(),
    ) -> None:
        super().__init__(weigh_characters=weigh_characters, seed=seed, shuffle=shuffle, shard=shard)
        self.text = text = lines.joined()
        self.sequence_length = sequence_length
        self.characters = max(len(text) - 1, 0)
        self.tracks = min(batch_size, max(self.characters, 1))
        self.track_length = -(-self.characters // self.tracks)

    def __len__(self) -> int:
        return -(-self.track_length // self.sequence_length)

    def _batches(self, start: int) -> Iterator[Batch]:
        bounds = self._bounds()
        for number in range(start, len(self)):
            yield self._batch(bounds[number], bounds[number + 1], carry=number > 0)

    def _bounds(self) -> list[int]:
        """Where in its track each chunk starts, and where the last one ends."""
        first = self.sequence_length
        if self.shuffle and len(self) > 1:  # at least what is left over: keeps their number
            left_over = self.track_length - (len(self) - 1) * self.sequence_length
            first = int(
                torch.randint(left_over, self.sequence_length + 1, (), generator=self._generator())
            )
        later = [min(first + n * self.sequence_length, self.track_length) for n in range(len(self))]
        return [0, *later]

    def _batch(self, start: int, end: int, *, carry: bool) -> Batch:
        tracks = torch.arange(self.tracks)  # (B,)
        index = tracks * self.track_length + torch.arange(start, end)[:, None]  # (T, B)
        padded = index >= self.characters
        characters = int((~padded).sum())
        index, padded = index[:, self.shard.take(tracks)], padded[:, self.shard.take(tracks)]
        if not index.shape[1]:  # fewer tracks than ranks: one column that predicts nothing
            index = torch.zeros(end - start, 1, dtype=torch.int64)
            padded = torch.ones_like(index, dtype=torch.bool)
        inputs = self.text[index.clamp(max=self.characters - 1)].long()
        targets = self.text[(index + 1).clamp_(max=self.characters)].long()
        return self._batch_of(inputs, targets.masked_fill(padded, IGNORE), characters, carry)
