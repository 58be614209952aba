"""From logits to the next character: temperature, filters and the draw."""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from trek_lm.data.charset import MAX_VOCAB_SIZE
from trek_lm.settings import settings

Integers = npt.NDArray[np.int64]
Temperature = Annotated[int | float, Field(gt=0, le=10**9)]
Share = Annotated[int | float, Field(gt=0, le=1)]


@settings()
class Sampling:
    """How the next character is drawn; raises UserError that names a value out of range.

    The filters apply in this order. Of equally likely characters the first in the charset ranks
    higher.
    """

    temperature: Temperature = 0.5  # divides the logits
    top_k: Annotated[int, Field(ge=1, le=MAX_VOCAB_SIZE)] | None = None  # keeps the k likeliest
    # Keeps the fewest likeliest whose probabilities sum to it ("nucleus", Holtzman et al. 2020).
    top_p: Share | None = None
    # Keeps those at least `min_p` times as likely as the likeliest (Nguyen et al. 2024).
    min_p: Share | None = None
    greedy: bool = False  # takes the likeliest character

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution of the next character: float64 `(B, V)`, each row sums to 1."""
        logits = logits.double()
        if self.greedy:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        # Near temperature 0 these become -inf, which softmax accepts; logits could become +inf.
        above = logits - logits.amax(-1, keepdim=True)
        probabilities = (above / self.temperature).softmax(-1)
        if self.top_k is None and self.top_p is None and self.min_p is None:
            return probabilities
        ranked, ids = probabilities.sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ranked[:, self.top_k :] = 0
        if self.top_p is not None:
            sums = ranked.cumsum(-1)
            enough = sums >= self.top_p * sums[:, -1:]
            ranked[:, 1:][enough[:, :-1]] = 0
        if self.min_p is not None:
            ranked[ranked < self.min_p * ranked[:, :1]] = 0
        kept = torch.zeros_like(ranked).scatter_(-1, ids, ranked)
        return kept / kept.sum(-1, keepdim=True)

    def pick(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Draws a character per row, `(B,)`: inverts the cumulative distribution at the noise.

        `logits` `(B, V)`; `noise` `(B,)` from `uniform`: the same noise draws the same character.
        """
        cumulative = self.probabilities(logits).cumsum(-1)
        points = noise[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, points, right=True)[:, 0]


class Rules(NamedTuple):
    """How all lines of a request are drawn, and where they end."""

    sampling: Sampling
    seed: int
    max_chars: int  # drawn at most per line
    newline: int | None  # the id that ends a line; None: no id does
    unknown: int | None  # an id that is never drawn; None: all may be


def uniform(seed: int, line: Integers | int, position: Integers | int) -> npt.NDArray[np.float64]:
    """Random numbers in [0, 1), each a function of (seed, line, position) only.

    The position-th output of a SplitMix64 generator (Steele et al. 2014) seeded with seed and line.
    It has no state, so the noise of a character doesn't depend on how lines are batched. Only the
    upper 32 bits of an output are used, so that a number times a sum stays below the sum.
    """
    lines, positions = (np.asarray(number).astype(np.uint64) for number in (line, position))
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        starts = _mix((np.uint64(seed) << np.uint64(32)) + lines)
        mixed = _mix(starts + (positions + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (mixed >> np.uint64(32)).astype(np.float64) * 2.0**-32


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: each input bit changes about half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
