"""Batches of characters from one uint8 tensor, exact and resumable.

Two ways to cut a text, both without padding to speak of and without an object per item:

- `LineBatches`: lines bucketed by length; the state is zero at each line's start.
- `StreamBatches`: the text as B contiguous tracks, T characters at a time; the state carries on.

A batch source is a sized iterable whose whole state is (seed, epoch, batches consumed). Under
DDP the global batch is formed first and each rank takes a strided share of its columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
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


@dataclass(eq=False, repr=False)
class BatchSource(ABC):
    """A sized iterable over batches that can stop and go on anywhere.

    Each `iter()` gives the next epoch from its start, unless `load_state_dict` has just set a
    place within an epoch: then the rest of that one.

    With `weigh_characters` every character of an epoch counts the same in training, so a batch
    counts for those that it has. Without, every batch counts the same, and in one of few
    characters each for more.
    """

    lines: EncodedLines
    batch_size: int  # columns of a batch
    _: KW_ONLY
    weigh_characters: bool = True
    seed: int = 0
    shuffle: bool = False
    shard: Shard = Shard()

    def __post_init__(self) -> None:
        self.text = self.lines.text
        self.length = 0  # batches of an epoch
        self.characters = 0  # predicted in one epoch
        self.repeats = False  # whether every epoch has the first one's batches
        self.epoch = 0
        self.consumed = 0  # batches of this epoch already given
        self._restored = False

    def __len__(self) -> int:
        return self.length

    @abstractmethod
    def _batches(self, start: int) -> Iterator[Batch]:
        """The batches of the current epoch from the one numbered `start`."""

    def __iter__(self) -> Iterator[Batch]:
        if self.consumed and not self._restored:  # the last pass was left before its end
            self.epoch, self.consumed = self.epoch + 1, 0
        self._restored = False
        for number, batch in enumerate(self._batches(self.consumed), start=self.consumed):
            # Counted before the batch is handed over: who asks for no batch after the last
            # one never comes back here.
            self.consumed = number + 1
            if self.consumed == self.length:
                self.epoch, self.consumed = self.epoch + 1, 0
            yield batch

    def _batch(self, starts: Tensor, counts: Tensor, *, carry: bool) -> Batch:
        """Of columns `(B,)`: where each starts in the text, and how much of it is predicted."""
        characters = int(counts.sum())
        share = slice(self.shard.rank, None, self.shard.world_size)
        starts, counts = starts[share], counts[share]
        if not len(starts):  # fewer columns than ranks: one that predicts nothing
            starts = counts = torch.zeros(1, dtype=torch.int64)
        place = torch.arange(max(int(counts.max()), 1))[:, None]  # (T, 1)
        index = (starts + place).clamp_(max=len(self.text) - 2)  # (T, B)
        targets = self.text[index + 1].long().masked_fill_(place >= counts, IGNORE)
        mean = self.characters / len(self) if self.weigh_characters else characters
        return Batch(self.text[index].long(), targets, characters, carry, mean)

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


@dataclass(eq=False, repr=False)
class LineBatches(BatchSource):
    """Lines of similar length side by side, each from a zero state.

    The first character of a line is given; every later one, and the newline, is predicted.
    When shuffling, lines are sorted by a length blurred at random, cut into batches, and the
    batches shuffled: the padding is small and the company of a line changes every epoch.

    A batch has `batch_size` lines. With `even` it has as many characters as that many lines have
    on average: few long lines, many short ones.
    """

    _: KW_ONLY
    even: bool = False

    JITTER = 0.05  # lengths are blurred by up to this share of themselves

    def __post_init__(self) -> None:
        super().__post_init__()
        lines = self.lines.take(self.lines.lengths > 1)  # nothing to predict in a bare newline
        self.starts, self.counts = lines.starts, lines.lengths - 1
        self.characters = int(self.counts.sum())
        self.length = -(-len(self.counts) // self.batch_size)
        if self.even and self.length:
            # No more than leaves room for the longest line in each: then none is empty.
            self.length = min(self.length, self.characters // int(self.counts.max()))

    def _batches(self, start: int) -> Iterator[Batch]:
        if not len(self.counts):
            return
        generator = self._generator()
        lengths = self.counts + 1
        if self.shuffle:
            lengths = lengths * (1 + self.JITTER * torch.rand(len(lengths), generator=generator))
        order = lengths.argsort(stable=not self.shuffle)
        batches = order.split(self.batch_size)
        if self.even:
            ends = self.counts[order].cumsum(0)  # characters up to the end of each line
            number = (ends - 1) * len(self) // self.characters  # the batch of each line
            batches = order.split(number.bincount().tolist())
        if self.shuffle:
            shuffled = torch.randperm(len(batches), generator=generator)
            batches = [batches[number] for number in shuffled.tolist()]
        for rows in batches[start:]:
            yield self._batch(self.starts[rows], self.counts[rows], carry=False)


@dataclass(eq=False, repr=False)
class StreamBatches(BatchSource):
    """A text as `batch_size` contiguous tracks, `sequence_length` characters of each per batch.

    Every character but the very first is predicted exactly once in an epoch; the first of a
    track has the last of the track before as its input. When shuffling, the first chunk of an
    epoch has a random length, so that the places where the gradient is cut move.
    """

    sequence_length: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.text = self.lines.joined()
        self.characters = max(len(self.text) - 1, 0)
        tracks = min(self.batch_size, max(self.characters, 1))
        self.track_length = -(-self.characters // tracks)
        self.starts = torch.arange(tracks) * self.track_length
        self.length = -(-self.track_length // self.sequence_length)

    def _batches(self, start: int) -> Iterator[Batch]:
        first = self.sequence_length
        if self.shuffle and len(self) > 1:  # at least what is left over: keeps their number
            left_over = self.track_length - (len(self) - 1) * first
            first = int(torch.randint(left_over, first + 1, (), generator=self._generator()))
        for number in range(start, len(self)):
            end = min(first + number * self.sequence_length, self.track_length)
            starts = self.starts + max(first + (number - 1) * self.sequence_length, 0)
            ends = (self.starts + end).clamp_(max=self.characters)
            yield self._batch(starts, (ends - starts).clamp_(min=0), carry=number > 0)
