"""Computes how likely a model finds a given text, in bits of each character."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from trek_lm.data.charset import Charset
from trek_lm.generation.steppers import Stepper, steppers_for
from trek_lm.models.char_lm import RecurrentLM

BATCH = 64  # texts per batch
AREA = 2**18  # limit of a batch's texts times its longest length: padding


@dataclass(frozen=True)
class Score:
    """Bits of each character of a text, predicted from those before it.

    The first character is given, so `bits[0]` is that of the second. For a line the last value is
    that of the newline that ends it.
    """

    text: str  # as the model sees it
    bits: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        """The text's log-probability, given its first character, in nats."""
        return -math.log(2) * sum(self.bits)

    @property
    def bits_per_char(self) -> float:
        """The mean of `bits`; nan if there are none."""
        return sum(self.bits) / len(self.bits) if self.bits else math.nan


def score(
    model: RecurrentLM, charset: Charset, texts: Sequence[str], *, lines: bool
) -> list[Score]:
    """Scores each text from a zero state; `lines`: with the newline that ends it."""
    ids = [charset.encode(text + "\n" * lines).long() for text in texts]
    bits: dict[int, list[float]] = {}
    make, _ = steppers_for(model)
    # Texts of similar length share a batch.
    order = sorted((n for n in range(len(ids)) if len(ids[n]) > 1), key=lambda n: len(ids[n]))
    for numbers in _batches(order, ids):
        rows = _bits(make(len(numbers)), [ids[n] for n in numbers])
        bits.update(zip(numbers, rows, strict=True))
    return [Score(charset.normalise(text), tuple(bits.get(n, ()))) for n, text in enumerate(texts)]


def _batches(order: Iterable[int], ids: Sequence[torch.Tensor]) -> list[list[int]]:
    """Groups the numbers of texts, given by increasing length, into batches."""
    batches: list[list[int]] = []
    for number in order:
        size = len(batches[-1]) + 1 if batches else BATCH + 1
        if size > BATCH or size * len(ids[number]) > AREA:
            batches.append([])
        batches[-1].append(number)
    return batches


def _bits(stepper: Stepper, ids: list[torch.Tensor]) -> list[list[float]]:
    """Bits of every character but the first, a row per text.

    Uses the arithmetic of generation, so that a line's score equals the sum over its draws.
    """
    padded = pad_sequence(ids)  # (T, B)
    parts = []
    pieces = (padded[:-1].split(stepper.chunk), padded[1:].split(stepper.chunk))
    for inputs, wanted in zip(*pieces, strict=True):
        logits = torch.from_numpy(stepper.read(inputs.numpy().astype(np.uint8))).double()
        parts.append(logits.log_softmax(-1).gather(-1, wanted[:, :, None])[:, :, 0])
    rows = (torch.cat(parts) / -math.log(2)).t().tolist()
    return [row[: len(text) - 1] for row, text in zip(rows, ids, strict=True)]
