"""How likely a model finds given text, character by character."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from trek_lm.data.charset import Charset
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.stepper import Native, NativeStepper

CHUNK = 4096  # characters a line whose logits are there at the same time
NATIVE_CHUNK = 256  # of all lines, by our own C: their logits stay in the processor's cache
BATCH = 64  # texts side by side
AREA = 2**18  # their number times the length of the longest, for which the others are padded


@dataclass(frozen=True)
class Score:
    """Bits of each character of a text, by a model that read those before it.

    The first character is given, so `bits[0]` is of the second one. The last is of the newline
    that ends a line, unless the text has no lines.
    """

    text: str  # as the model sees it
    bits: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        """The text's log-probability, given its first character, in nats."""
        return -math.log(2) * sum(self.bits)

    @property
    def bits_per_char(self) -> float:
        """Their mean; nan where nothing is predicted."""
        return sum(self.bits) / len(self.bits) if self.bits else math.nan


@torch.inference_mode()
def score(
    model: RecurrentLM, charset: Charset, texts: Sequence[str], *, lines: bool
) -> list[Score]:
    """The score of each text, from a zero state; `lines`: each with the newline that ends it."""
    ids = [charset.encode(text + "\n" * lines).long() for text in texts]
    bits: list[tuple[float, ...]] = [()] * len(texts)
    packed = Native.of(model)
    # Those of similar length side by side.
    order = sorted((n for n in range(len(ids)) if len(ids[n]) > 1), key=lambda n: len(ids[n]))
    for numbers in _batches(order, ids):
        for number, row in zip(
            numbers, _bits(model, packed, [ids[n] for n in numbers]), strict=True
        ):
            bits[number] = tuple(row)
    return [Score(charset.normalise(text), row) for text, row in zip(texts, bits, strict=True)]


def _batches(order: Iterable[int], ids: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Numbers of texts, the shorter ones first, side by side."""
    numbers: list[int] = []
    for number in order:
        if numbers and (len(numbers) == BATCH or (len(numbers) + 1) * len(ids[number]) > AREA):
            yield numbers
            numbers = []
        numbers.append(number)
    if numbers:
        yield numbers


def _bits(model: RecurrentLM, packed: Native | None, ids: list[torch.Tensor]) -> list[list[float]]:
    """Bits of every character but the first, a row a text."""
    padded = pad_sequence(ids)  # (T, B)
    parts = []
    for logits, wanted in _predictions(model, packed, padded):
        picked = logits.double().log_softmax(-1).gather(-1, wanted[:, :, None])
        parts.append(picked[:, :, 0])
    rows = (torch.cat(parts) / -math.log(2)).t().tolist()
    return [row[: len(text) - 1] for row, text in zip(rows, ids, strict=True)]


def _predictions(
    model: RecurrentLM, packed: Native | None, ids: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits `(t, B, V)` and the characters `(t, B)` that they should foresee, piece by piece.

    By the arithmetic that lines are drawn in, so that a line's score is what its draws summed to.
    """
    if packed is not None:
        stepper = NativeStepper(packed, ids.shape[1])
        steps = max(1, NATIVE_CHUNK // ids.shape[1])
        for inputs, wanted in zip(ids[:-1].split(steps), ids[1:].split(steps), strict=True):
            piece = np.empty((*inputs.shape, packed.weights.symbols), np.float32)
            for read, logits in zip(inputs.numpy().astype(np.uint8), piece, strict=True):
                logits[:] = stepper.step(read)
            yield torch.from_numpy(piece), wanted
        return
    device, state = model.embedding.weight.device, None
    for inputs, wanted in zip(ids[:-1].split(CHUNK), ids[1:].split(CHUNK), strict=True):
        logits, state = model(inputs.to(device), state)
        yield logits.cpu(), wanted
