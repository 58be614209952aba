"""How likely a model finds given text, character by character."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from trek_lm.data.charset import Charset
from trek_lm.models.char_lm import RecurrentLM

CHUNK = 4096  # characters a line, so that a whole book needs no more memory than a page
BATCH = 64


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
    # Those of similar length side by side.
    order = sorted((n for n in range(len(ids)) if len(ids[n]) > 1), key=lambda n: len(ids[n]))
    for at in range(0, len(order), BATCH):
        numbers = order[at : at + BATCH]
        for number, row in zip(numbers, _bits(model, [ids[n] for n in numbers]), strict=True):
            bits[number] = tuple(row)
    return [Score(charset.normalise(text), row) for text, row in zip(texts, bits, strict=True)]


def _bits(model: RecurrentLM, ids: list[torch.Tensor]) -> list[list[float]]:
    """Bits of every character but the first, a row a text."""
    device = model.embedding.weight.device
    padded = pad_sequence(ids)  # (T, B)
    state, parts = None, []
    for read, wanted in zip(padded[:-1].split(CHUNK), padded[1:].split(CHUNK), strict=True):
        logits, state = model(read.to(device), state)
        picked = logits.double().log_softmax(-1).gather(-1, wanted.to(device)[:, :, None])
        parts.append(picked[:, :, 0].cpu())  # (T, B)
    rows = (torch.cat(parts) / -math.log(2)).t().tolist()
    return [row[: len(text) - 1] for row, text in zip(rows, ids, strict=True)]
