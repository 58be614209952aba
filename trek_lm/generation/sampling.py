"""From logits to the next character: which characters may be drawn, and the draw itself."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trek_lm.data.charset import MAX_SYMBOLS
from trek_lm.errors import check_flag, check_number, check_whole

Integers = npt.NDArray[np.int64] | int


@dataclass(frozen=True)
class Sampling:
    """How the next character is drawn, in this order.

    `temperature` divides the logits. Then only the `top_k` likeliest characters stay; of those
    only the fewest whose probabilities sum to `top_p` ("nucleus", Holtzman et al. 2020); of
    those only the ones at least `min_p` times as likely as the likeliest (Nguyen et al. 2024).
    `greedy` takes the likeliest one instead. Of equally likely ones the first in the charset
    counts as the likelier.

    Raises UserError that names the value for one out of range.
    """

    temperature: float = 0.5
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    greedy: bool = False

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0, float("inf"), "a number above 0")
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, MAX_SYMBOLS)
        for name in ("top_p", "min_p"):
            if (value := getattr(self, name)) is not None:
                check_number(name, value, 0, 1, "a number above 0 and at most 1", closed=True)
        check_flag("greedy", self.greedy)

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
        if self.greedy:
            return logits.argmax(-1)
        cumulative = self.probabilities(logits).cumsum(-1)
        points = noise[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, points, right=True)[:, 0]


def uniform(seed: int, line: Integers, position: Integers) -> npt.NDArray[np.float64]:
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
