"""Batches of character ids from one uint8 tensor, deterministic and resumable.

Two ways to cut a text, both nearly without padding and without a Python object per item:

- `LineBatches`: lines bucketed by length, each from a zero state.
- `StreamBatches`: the text as B contiguous tracks, T characters at a time; the state is carried.

The whole state of a batch source is (seed, epoch, batches consumed). Under DDP the global batch is
formed first and each rank takes a strided share of its columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.encoded import EncodedLines

IGNORE = -100  # target of padding: the default `ignore_index` of torch's cross entropy


class Batch(NamedTuple):
    """One batch: T characters in each of B columns (lines or tracks)."""

    inputs: Tensor  # int64 (T, B): ids of the input characters
    targets: Tensor  # int64 (T, B): ids of the next characters, IGNORE where padded
    characters: int  # predicted characters of the global batch, over all ranks
    carry: bool  # whether the columns continue those of the previous batch
    divisor: float  # training divides the summed loss by it; equal on all ranks


@dataclass(frozen=True)
class Shard:
    """The share of each batch that this process gets."""

    rank: int = 0
    world_size: int = 1


@dataclass(eq=False, repr=False)
class BatchSource(ABC):
    """A sized iterable over batches that can be stopped and resumed at any batch.

    Each `iter()` yields the next epoch; the first one after `load_state_dict` yields the rest of
    the restored epoch.

    With `weigh_characters` every character of an epoch has equal weight in the training loss.
    Without it every batch has equal weight, so a character in a small batch weighs more.
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
        self.length = 0  # batches per epoch
        self.characters = 0  # predicted per epoch
        self.repeats = False  # whether every epoch has the batches of the first one
        self.epoch = 0
        self.consumed = 0  # batches of this epoch already yielded
        self._restored = False

    def __len__(self) -> int:
        return self.length

    @abstractmethod
    def _batches(self, start: int) -> Iterator[Batch]:
        """Yields the batches of the current epoch, from number `start` on."""

    def __iter__(self) -> Iterator[Batch]:
        if self.consumed and not self._restored:  # the last epoch was not iterated to its end
            self.epoch, self.consumed = self.epoch + 1, 0
        self._restored = False
        for number, batch in enumerate(self._batches(self.consumed), start=self.consumed):
            # Counted before the yield: a caller that takes no batch after the last one never
            # resumes this generator.
            self.consumed = number + 1
            if self.consumed == self.length:
                self.epoch, self.consumed = self.epoch + 1, 0
            yield batch

    def _batch(
        self, starts: Tensor, counts: Tensor, *, carry: bool, unscored: Tensor | None = None
    ) -> Batch:
        """Makes a batch of columns `(B,)`: start in the text, number of characters.

        All characters are predicted but the first `unscored` ones of each column.
        """
        unscored = torch.zeros_like(counts) if unscored is None else unscored.minimum(counts)
        characters = int((counts - unscored).sum())
        share = slice(self.shard.rank, None, self.shard.world_size)
        starts, counts, unscored = starts[share], counts[share], unscored[share]
        if not len(starts):  # fewer columns than ranks: a column that predicts nothing
            starts = counts = unscored = torch.zeros(1, dtype=torch.int64)
        offset = torch.arange(max(int(counts.max()), 1))[:, None]  # (T, 1)
        index = (starts + offset).clamp_(max=len(self.text) - 2)  # (T, B)
        ignored = (offset >= counts) | (offset < unscored)
        targets = self.text[index + 1].long().masked_fill_(ignored, IGNORE)
        divisor = self.characters / len(self) if self.weigh_characters else characters
        return Batch(self.text[index].long(), targets, characters, carry, divisor)

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed, self.epoch, self.consumed = state["seed"], state["epoch"], state["consumed"]
        self._restored = True

    # Lightning calls `sampler.set_epoch` if a loader has these two attributes of torch's.
    batch_sampler = None

    @property
    def sampler(self) -> "BatchSource":
        return self

    def set_epoch(self, epoch: int) -> None:
        """Moves to the start of this epoch, unless it is the current one."""
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0

    def _generator(self) -> torch.Generator:
        # torch's CPU generator uses 32 bits of a seed, so seed and epoch are mixed into 32 bits.
        epoch = 0 if self.repeats else self.epoch
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**32)


@dataclass(eq=False, repr=False)
class LineBatches(BatchSource):
    """Batches of lines of similar length, each from a zero state.

    The first character of a line is given; every later one, and the newline, is predicted.
    To shuffle, lines are sorted by a randomised length, cut into batches, and the batches are
    shuffled: there is little padding, and each epoch has different batches.

    A batch has `batch_size` lines. With `even` it has about as many characters as `batch_size`
    lines of mean length: few long lines or many short ones.

    Without shuffling, lines are sorted by length. If only the first `sample` batches will be used
    (a number, or a fraction of all), these have lines drawn at random from all lengths.
    """

    _: KW_ONLY
    even: bool = False
    sample: int | float = 0

    JITTER = 0.05  # to sort, lengths are increased by up to this share

    def __post_init__(self) -> None:
        super().__post_init__()
        lines = self.lines.take(self.lines.lengths > 1)  # a bare newline has nothing to predict
        self.starts, self.counts = lines.starts, lines.lengths - 1
        self.characters = int(self.counts.sum())
        self.length = -(-len(self.counts) // self.batch_size)
        if self.even and self.length:
            # The mean size is at least the longest line, so that no batch is empty.
            self.length = min(self.length, self.characters // int(self.counts.max()))

    def _batches(self, start: int) -> Iterator[Batch]:
        if not len(self.counts):
            return
        generator = self._generator()
        lengths = self.counts + 1
        if self.shuffle:
            lengths = lengths * (1 + self.JITTER * torch.rand(len(lengths), generator=generator))
        order = lengths.argsort(stable=not self.shuffle)
        if not self.shuffle and self.sample:
            used = self.sample if isinstance(self.sample, int) else int(self.sample * len(self))
            generator.manual_seed(self.seed)  # the same lines in every epoch
            drawn = torch.zeros(len(order), dtype=torch.bool)
            drawn[torch.randperm(len(order), generator=generator)[: used * self.batch_size]] = True
            order = torch.cat([order[drawn[order]], order[~drawn[order]]])
        batches = order.split(self.batch_size)
        if self.even:
            ends = self.counts[order].cumsum(0)  # characters up to the end of each line
            batch_of_line = (ends - 1) * len(self) // self.characters
            batches = order.split(batch_of_line.bincount().tolist())
        if self.shuffle:
            shuffled = torch.randperm(len(batches), generator=generator)
            batches = [batches[number] for number in shuffled.tolist()]
        for rows in batches[start:]:
            yield self._batch(self.starts[rows], self.counts[rows], carry=False)


@dataclass(eq=False, repr=False)
class StreamBatches(BatchSource):
    """A text as `batch_size` contiguous tracks, `sequence_length` characters of each per batch.

    Every character but the first of the text is predicted exactly once per epoch; the first input
    of a track is the last target of the track before. To shuffle, the first batch of an epoch has
    a random length, so that the gradient is cut at different places.

    With `warm_up`, for evaluation, each track but the first starts by reading that many characters
    that the track before predicts, so that its first prediction has a context.
    """

    sequence_length: int
    _: KW_ONLY
    warm_up: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.text = self.lines.joined()
        self.characters = max(len(self.text) - 1, 0)
        tracks = min(self.batch_size, max(self.characters, 1))
        new = max(0, -(-(self.characters - self.warm_up) // tracks))  # the first predicts more
        self.track_length = new + self.warm_up
        self.starts = torch.arange(tracks) * new
        self.unscored = torch.full((tracks,), self.warm_up)
        self.unscored[0] = 0
        self.length = -(-self.track_length // self.sequence_length)

    def _batches(self, start: int) -> Iterator[Batch]:
        first = self.sequence_length
        if self.shuffle and len(self) > 1:  # at least the remainder: keeps the batch count
            remainder = self.track_length - (len(self) - 1) * first
            first = int(torch.randint(remainder, first + 1, (), generator=self._generator()))
        for number in range(start, len(self)):
            end = min(first + number * self.sequence_length, self.track_length)
            begin = max(first + (number - 1) * self.sequence_length, 0)
            starts = self.starts + begin
            ends = (self.starts + end).clamp_(max=self.characters)
            counts, unscored = (ends - starts).clamp_(min=0), (self.unscored - begin).clamp_(min=0)
            yield self._batch(starts, counts, carry=number > 0, unscored=unscored)
