"""Runs a model one character at a time, many lines in parallel: by PyTorch or by C code.

`steppers_for` selects one. `TorchStepper` supports any model on any device, `NativeStepper` the
models that steps.c supports; there a line's numbers don't depend on the other lines.
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
    """Runs PyTorch's modules on parallel lines, each with its own state."""

    chunk = 4096  # best number of characters per line in one `read`

    def __init__(self, model: RecurrentLM, rows: int) -> None:
        self._model = model
        self._state: Any = None  # a `State` after the first read

    @torch.inference_mode()
    def read(self, ids: Ids) -> Floats:
        """Reads more characters of each line, `(T, B)`; returns logits after each, `(T, B, V)`."""
        device = self._model.embedding.weight.device
        logits, self._state = self._model(torch.from_numpy(ids).to(device).long(), self._state)
        return logits.cpu().double().numpy()  # type: ignore[no-any-return]

    def draw(
        self, rules: Rules, logits: Floats, numbers: Integers, positions: Integers
    ) -> tuple[Ids, Floats]:
        """Draws a character per line, `(B,)`; returns it and its log-probability, `(B,)`.

        `logits` `(B, V)`; `numbers` `(B,)` of the lines; `positions` `(B,)` among drawn characters.
        """
        unmasked = torch.from_numpy(logits)
        noise = torch.from_numpy(uniform(rules.seed, numbers, positions))
        allowed = unmasked
        if rules.unknown is not None:
            allowed = unmasked.clone()
            allowed[:, rules.unknown] = -torch.inf
        picked = rules.sampling.pick(allowed, noise)
        log_probs = unmasked.log_softmax(-1).gather(-1, picked[:, None])[:, 0]
        return picked.numpy().astype(np.uint8), log_probs.numpy()

    def line(
        self, rules: Rules, number: int, start: bytes, size: int
    ) -> Iterator[tuple[bytes, float]]:
        """Yields what is drawn of a single line after its start, up to `size` characters at a time.

        Each item also has the log-probability of all characters drawn so far.
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
        """Resets these rows to a zero state."""
        restart(self._state, rows)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keeps only these rows, in this order."""
        self._state = select(self._state, rows)


class NativeStepper:
    """The same by steps.c and draw.c.

    It uses NumPy, because each thread that calls PyTorch gets its own pool of threads.
    """

    def __init__(self, weights: PackedModel, rows: int) -> None:
        self._weights, self._lib, self._model = weights, weights.library, weights.struct
        model = self._model
        self.chunk = max(1, 256 // max(1, rows))  # the logits then fit in the CPU's cache
        self.h = np.zeros((rows, model.num_layers * model.padded), np.uint16)  # bfloat16
        self.c = np.zeros((rows, model.num_layers * model.hidden), np.float32)
        self.seen = np.zeros((rows, model.history), np.uint16)
        self.table = np.zeros((rows, model.match_gates.outputs * model.match_rows), np.uint32)
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
        # Tables may take gigabytes: only rows that move are copied.
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        self.table[moved] = self.table[kept[moved]]
        self.table = self.table[: len(kept)]
        self._state = self._addresses()

    def _addresses(self) -> Any:
        parts = (self.h, self.c, self.seen, self.table, self._work)
        return ffi.new("state *", [*map(_at, parts)])[0]


Stepper = TorchStepper | NativeStepper


def steppers_for(model: RecurrentLM) -> tuple[Callable[[int], Stepper], int]:
    """Returns a function from a number of lines to a stepper, and the number of threads to use.

    A stepper starts at a zero state and has the current weights, in eval mode.
    """
    if (weights := packed(model)) is not None:
        return partial(NativeStepper, weights), torch.get_num_threads()
    # A copy's weights are not contiguous: `to` flattens them once, cuDNN would at every step.
    model = copy.deepcopy(model).eval().to(model.embedding.weight.device)
    return partial(TorchStepper, model), 1  # PyTorch has its own threads


def _structure(rules: Rules) -> Any:
    """The rules as a C struct; without a filter it has 0, without an id -1."""
    by = rules.sampling
    numbers = (by.temperature, by.top_p or 0, by.min_p or 0, by.top_k or 0, by.greedy)
    ids = (-1 if id_ is None else id_ for id_ in (rules.newline, rules.unknown))
    return ffi.new("rules *", [*numbers, *ids, rules.seed])


def _at(array: npt.NDArray[Any]) -> Any:
    """A C pointer to the array's data."""
    return ffi.cast("void *", ffi.from_buffer(array))
