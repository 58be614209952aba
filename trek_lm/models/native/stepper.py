"""steps.c and draw.c from Python: lines side by side, or one alone."""

from collections.abc import Sequence
from ctypes import Structure, byref, c_double, c_int32, c_int64, c_uint8, c_uint64, c_void_p
from typing import Any

import numpy as np
import numpy.typing as npt

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import library
from trek_lm.models.native.weights import Weights, can_pack

Ids = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
TILE = 48  # as in steps.h, whose structures follow


class _State(Structure):
    _fields_ = tuple((name, c_void_p) for name in ("h", "c", "seen", "table", "work"))


class DrawRules(Structure):
    """How characters are drawn; 0 or, for an id, -1 is without it."""

    _fields_ = (
        *((name, c_double) for name in ("temperature", "top_p", "min_p")),
        *((name, c_int32) for name in ("top_k", "greedy", "newline", "unknown")),
        ("seed", c_uint64),
    )


class Native:
    """The built library, and a model's weights for it."""

    def __init__(self, model: RecurrentLM) -> None:
        """For a model that `of` found it can step."""
        lib = library("steps")
        assert lib is not None
        self.library = lib
        self.weights = Weights(model)

    @staticmethod
    def of(model: RecurrentLM) -> "Native | None":
        """The model for steps.c, where there is one and it can step such a model."""
        return Native(model) if can_pack(model) and library("steps") is not None else None


class NativeStepper:
    """`Stepper` by steps.c; each line's numbers are the same in any company.

    In NumPy: a thread that calls PyTorch gets a team of threads of its own.
    """

    def __init__(self, native: Native, rows: int) -> None:
        """For `rows` lines, each at a zero state."""
        self.native, weights = native, native.weights
        self.h = np.zeros((rows, weights.layers * weights.padded), np.uint16)  # bfloat16
        self.c = np.zeros((rows, weights.layers * weights.hidden), np.float32)
        self.seen = np.zeros((rows, weights.history), np.uint16)
        self.table = np.zeros((rows, len(weights.lengths) * weights.match_rows), np.uint32)
        widest = 4 * max(weights.hidden, *weights.head_outputs, len(weights.lengths))
        self._work = np.empty((TILE + 1) * widest, np.float32)

    @property
    def state(self) -> _State:
        """Where the states are, for steps.c."""
        parts = (self.h, self.c, self.seen, self.table, self._work)
        return _State(*(part.ctypes.data for part in parts))

    def step(self, ids: Ids) -> npt.NDArray[np.float32]:
        """Logits `(B, V)` after one more character of each line, ids `(B,)`."""
        weights = self.native.weights
        logits = np.empty((len(ids), weights.symbols), np.float32)
        self.native.library.step_lines(
            byref(weights.struct), len(ids), _at(ids), self.state, _at(logits)
        )
        return logits

    def draw(
        self,
        rules: DrawRules,
        logits: npt.NDArray[np.float32],
        numbers: Integers,
        positions: Integers,
    ) -> tuple[Ids, npt.NDArray[np.float64]]:
        """A character for each line, `(B,)`, and its log-probability, `(B,)`."""
        ids = np.empty(len(logits), np.uint8)
        log_probs = np.empty(len(logits))
        self.native.library.draw_lines(
            byref(self.native.weights.struct),
            byref(rules),
            len(logits),
            *(_at(array) for array in (logits, numbers, positions, ids, log_probs)),
        )
        return ids, log_probs

    def restart(self, rows: Sequence[int]) -> None:
        """Puts these lines at a zero state."""
        self.h[rows] = 0
        self.c[rows] = 0
        self.seen[rows] = 0
        self.table[rows] = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these lines only, in this order."""
        kept = np.array(rows, np.int64)
        self.h, self.c, self.seen = self.h[kept], self.c[kept], self.seen[kept]
        # Tables may take gigabytes: only those are copied that change their place.
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        self.table[moved] = self.table[kept[moved]]
        self.table = self.table[: len(kept)]


class NativeLine:
    """One line, many characters a call."""

    def __init__(self, native: Native, number: int, start: bytes) -> None:
        """The line of that number after its start, ids of which there is one at least."""
        self._native = native
        self._stepper = NativeStepper(native, 1)
        self._number = number
        self._last = start[-1]
        self.drawn = 0
        self.log_prob = 0.0  # of those drawn, in nats
        native.library.read_start(
            byref(native.weights.struct), self._stepper.state, start, len(start)
        )

    def draw(self, rules: DrawRules, count: int) -> bytes:
        """The next characters, fewer than `count` where the line ends."""
        ids = (c_uint8 * (count + 1))(self._last)
        log_prob = c_double(self.log_prob)
        drawn = self._native.library.draw_line(
            byref(self._native.weights.struct),
            byref(rules),
            self._stepper.state,
            c_int64(self._number),
            c_int64(self.drawn),
            ids,
            count,
            byref(log_prob),
        )
        self.drawn += drawn
        self.log_prob = log_prob.value
        self._last = ids[drawn]
        return bytes(ids[1 : drawn + 1])


def _at(array: npt.NDArray[Any]) -> c_void_p:
    return c_void_p(array.ctypes.data)
