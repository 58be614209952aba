"""From logits to the next character: which characters may be drawn, and the draw itself."""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from trek_lm.data.charset import MAX_SYMBOLS
from trek_lm.settings import settings

Integers = npt.NDArray[np.int64]
Temperature = Annotated[int | float, Field(gt=0, le=10**9)]
Share = Annotated[int | float, Field(gt=0, le=1)]


@settings()
class Sampling:
    """How the next character is drawn; raises UserError that names a value out of range.

    The filters act in this order. Of equally likely characters the first in the charset counts
    as the likelier.
    """

    temperature: Temperature = 0.5  # divides the logits
    top_k: Annotated[int, Field(ge=1, le=MAX_SYMBOLS)] | None = None  # only the k likeliest stay
    # Of those the fewest whose probabilities sum to it ("nucleus", Holtzman et al. 2020).
    top_p: Share | None = None
    # Of those the ones at least so many times as likely as the likeliest (Nguyen et al. 2024).
    min_p: Share | None = None
    greedy: bool = False  # takes the likeliest one instead

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the next character is drawn from: float64 `(B, V)`, each row's sum 1."""
        logits = logits.double()
        if self.greedy:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        # Divided by a temperature near 0, differences become infinite, which softmax takes.
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
        """A character a row, `(B,)`, by inverting the cumulative distribution at the noise.

        `logits` `(B, V)`; `noise` `(B,)` from `uniform`: the same noise draws the same character.
        """
        cumulative = self.probabilities(logits).cumsum(-1)
        points = noise[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, points, right=True)[:, 0]


class Rules(NamedTuple):
    """What all lines of a request are drawn by, and where they end."""

    sampling: Sampling
    seed: int
    max_chars: int  # drawn at most
    newline: int | None  # the id that ends a line, where one does
    unknown: int | None  # an id that is never drawn


def uniform(seed: int, line: Integers | int, position: Integers | int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), each a function of its (seed, line, position) alone.

    The position-th output of a SplitMix64 generator (Steele et al. 2014) that seed and line
    start: no state to carry, so a character's noise is the same however lines are batched. Of
    each output the upper 32 bits are taken, so that a number times a sum stays below the sum.
    """
    lines, positions = (np.asarray(number).astype(np.uint64) for number in (line, position))
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        starts = _mix((np.uint64(seed) << np.uint64(32)) + lines)
        mixed = _mix(starts + (positions + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (mixed >> np.uint64(32)).astype(np.float64) * 2.0**-32


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: every bit in changes about half of the bits out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
