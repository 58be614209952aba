"""A model one character at a time, many lines side by side: by PyTorch, or by our own C.

`steppers_for` picks which. `TorchStepper` takes any model on any device, `NativeStepper` what
steps.c can step; each line's numbers are the same there in any company.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trek_lm.generation.sampling import Integers, Rules, uniform
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import ffi
from trek_lm.models.native.weights import PackedModel, packed
from trek_lm.models.state import restart, select

Ids = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]  # float32 or float64


class TorchStepper:
    """By PyTorch's modules: lines side by side, each at its own state."""

    chunk = 4096  # characters a line that are best read at a time

    def __init__(self, model: RecurrentLM, rows: int) -> None:
        self._model = model
        self._state: Any = None  # a `State`, once something was read

    @torch.inference_mode()
    def read(self, ids: Ids) -> Floats:
        """Logits `(T, B, V)` after each of some more characters of each line, ids `(T, B)`."""
        device = self._model.embedding.weight.device
        logits, self._state = self._model(torch.from_numpy(ids).to(device).long(), self._state)
        return logits.cpu().double().numpy()  # type: ignore[no-any-return]

    def draw(
        self, rules: Rules, logits: Floats, numbers: Integers, positions: Integers
    ) -> tuple[Ids, Floats]:
        """A character for each line, `(B,)`, and its log-probability by the model, `(B,)`.

        From logits `(B, V)`, for the lines of these numbers at these positions after their starts.
        """
        own = torch.from_numpy(logits)
        noise = torch.from_numpy(uniform(rules.seed, numbers, positions))
        allowed = own
        if rules.unknown is not None:
            allowed = own.clone()
            allowed[:, rules.unknown] = -torch.inf
        picked = rules.sampling.pick(allowed, noise)
        log_probs = own.log_softmax(-1).gather(-1, picked[:, None])[:, 0]
        return picked.numpy().astype(np.uint8), log_probs.numpy()

    def line(
        self, rules: Rules, number: int, start: bytes, size: int
    ) -> Iterator[tuple[bytes, float]]:
        """What a new, single line goes on with, up to `size` characters at a time.

        With the log-probability of all that was drawn of it so far.
        """
        log_prob = 0.0
        for id_ in start:
            logits = self.read(np.array([[id_]], np.uint8))[0]
        for position in range(rules.max_chars):
            ids, log_probs = self.draw(rules, logits, np.array([number]), np.array([position]))
            log_prob += float(log_probs[0])
            yield ids.tobytes(), log_prob
            if ids[0] == rules.newline:
                return
            logits = self.read(ids[None])[0]

    @torch.inference_mode()
    def restart(self, rows: Sequence[int]) -> None:
        """Puts these lines at a zero state."""
        restart(self._state, rows)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these lines only, in this order."""
        self._state = select(self._state, rows)


class NativeStepper:
    """The same by steps.c and draw.c.

    In NumPy: a thread that calls PyTorch gets a team of threads of its own.
    """

    def __init__(self, weights: PackedModel, rows: int) -> None:
        self._weights, self._lib, self._model = weights, weights.library, weights.struct
        model = self._model
        self.chunk = max(1, 256 // max(1, rows))  # their logits stay in the processor's cache
        self.h = np.zeros((rows, model.count * model.padded), np.uint16)  # bfloat16
        self.c = np.zeros((rows, model.count * model.hidden), np.float32)
        self.seen = np.zeros((rows, model.history), np.uint16)
        self.table = np.zeros((rows, model.gates.outputs * model.match_rows), np.uint32)
        self._work = np.empty((self._lib.TILE + 1) * 4 * weights.widest, np.float32)
        self._state = self._addresses()

    def read(self, ids: Ids) -> Floats:
        logits = np.empty((*ids.shape, self._model.vocab_size), np.float32)
        for step, after in zip(ids, logits, strict=True):
            self._lib.step_lines(self._model, len(step), _at(step), self._state, _at(after))
        return logits

    def draw(
        self, rules: Rules, logits: Floats, numbers: Integers, positions: Integers
    ) -> tuple[Ids, Floats]:
        ids, log_probs = np.empty(len(logits), np.uint8), np.empty(len(logits))
        arrays = map(_at, (logits, numbers, positions, ids, log_probs))
        self._lib.draw_lines(self._model, _structure(rules), len(logits), *arrays)
        return ids, log_probs

    def line(
        self, rules: Rules, number: int, start: bytes, size: int
    ) -> Iterator[tuple[bytes, float]]:
        given = (self._model, _structure(rules), self._state, number)
        self._lib.read_start(self._model, self._state, start, len(start))
        drawn, log_prob, ids = 0, ffi.new("double *"), ffi.new("uint8_t[]", size + 1)
        ids[0] = start[-1]
        while drawn < rules.max_chars and (not drawn or ids[0] != rules.newline):
            left = min(size, rules.max_chars - drawn)
            count = self._lib.draw_line(*given, drawn, ids, left, log_prob)
            drawn += count
            ids[0] = ids[count]
            yield ffi.buffer(ids)[1 : count + 1], log_prob[0]

    def restart(self, rows: Sequence[int]) -> None:
        for part in (self.h, self.c, self.seen, self.table):
            part[rows] = 0

    def keep(self, rows: Sequence[int]) -> None:
        kept = np.array(rows, np.int64)
        self.h, self.c, self.seen = self.h[kept], self.c[kept], self.seen[kept]
        # Tables may take gigabytes: only those are copied that change their place.
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        self.table[moved] = self.table[kept[moved]]
        self.table = self.table[: len(kept)]
        self._state = self._addresses()

    def _addresses(self) -> Any:
        parts = (self.h, self.c, self.seen, self.table, self._work)
        return ffi.new("state *", [*map(_at, parts)])[0]


Stepper = TorchStepper | NativeStepper


def steppers_for(model: RecurrentLM) -> tuple[Callable[[int], Stepper], int]:
    """What makes a stepper of so many lines at a zero state, and how many may work at a time.

    The weights are those of now, whatever the model's mode.
    """
    if (weights := packed(model)) is not None:
        return partial(NativeStepper, weights), torch.get_num_threads()
    # A copy's weights lie apart, which cuDNN would gather at every step: `to` does so once.
    model = copy.deepcopy(model).eval().to(model.embedding.weight.device)
    return partial(TorchStepper, model), 1  # which has threads of its own


def _structure(rules: Rules) -> Any:
    """The rules for draw.c: 0, or -1 for an id, is without one."""
    by = rules.sampling
    numbers = (by.temperature, by.top_p or 0, by.min_p or 0, by.top_k or 0, by.greedy)
    ids = (-1 if id_ is None else id_ for id_ in (rules.newline, rules.unknown))
    return ffi.new("rules *", [*numbers, *ids, rules.seed])


def _at(array: npt.NDArray[Any]) -> Any:
    """Where its numbers are, for C."""
    return ffi.cast("void *", ffi.from_buffer(array))
