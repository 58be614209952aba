"""Generates many lines at once; when a line ends, a waiting one takes its row."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from trek_lm.generation.sampling import Rules
from trek_lm.generation.steppers import Stepper, steppers_for
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.signals import uninterrupted

ROWS = 256  # parallel lines per thread; more are not faster
STEPS = 16  # characters of many lines per task of a thread
CHUNK = 64  # characters of a single line per task of a thread
# Of each row: the number of its line, the length of its start, the index of its last character,
# and the log-probability of the drawn characters.
_ROW = np.dtype([("number", "i8"), ("start", "i8"), ("at", "i8"), ("log_prob", "f8")])
Starts = Iterator[tuple[int, bytes]]


class Decoded(NamedTuple):
    """A finished line."""

    number: int
    ids: bytes  # the start and the drawn characters, with the newline if it was drawn
    drawn: int  # number of drawn characters
    log_prob: float  # of the drawn characters, by the model at temperature 1, in nats


def decode(model: RecurrentLM, starts: Sequence[bytes], rules: Rules) -> Iterator[Decoded]:
    """Yields the lines that begin with these ids (not empty), in the order in which they end.

    Native steppers run in as many threads as PyTorch would use, each with its own rows.
    """
    make, threads = steppers_for(model)
    workers = min(threads, len(starts))
    rows = min(ROWS, -(-len(starts) // workers))
    waiting = enumerate(starts)  # threads may share it: `next` of it is atomic
    yield from _gathered([_worker(make, waiting, rules, rows) for _ in range(workers)])


def stream(model: RecurrentLM, starts: Iterable[bytes], rules: Rules) -> Iterator[Iterator[int]]:
    """Yields the same lines in order, each as an iterator over its drawn ids."""
    make, _ = steppers_for(model)
    for number, start in enumerate(starts):
        yield (id_ for ids, _ in make(1).line(rules, number, start, 1) for id_ in ids)


def _worker(
    make: Callable[[int], Stepper], waiting: Starts, rules: Rules, rows: int
) -> Iterator[list[Decoded]]:
    """The work of one thread: each item has the lines that ended in some more steps."""
    if rows == 1:
        for number, start in waiting:
            ids, log_prob = start, 0.0
            for drawn, so_far in make(1).line(rules, number, start, CHUNK):
                ids, log_prob = ids + drawn, so_far
                yield []
            yield [Decoded(number, ids, len(ids) - len(start), log_prob)]
        return
    decoder = Decoder(make, waiting, rules, rows)
    while decoder:
        yield [line for _ in range(STEPS) if decoder for line in decoder.advance()]


def _gathered(workers: Sequence[Iterator[list[Decoded]]]) -> Iterator[Decoded]:
    """Yields the lines of all workers as soon as they end; each worker runs in a thread.

    A thread gets one task (one `next`) at a time, so nothing has to be stopped when the caller
    wants no more lines or the interpreter exits.
    """
    if len(workers) == 1:
        yield from chain.from_iterable(workers[0])
        return
    with ThreadPoolExecutor(len(workers)) as pool:
        with uninterrupted():  # a half-started thread can't be joined
            running = {pool.submit(next, worker, None): worker for worker in workers}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                worker = running.pop(future)
                if (ended := future.result()) is not None:
                    running[pool.submit(next, worker, None)] = worker
                    yield from ended


class Decoder:
    """Generates lines in parallel rows, each at its own position.

    A start is read one character per step, like the drawn characters, so it needs no separate pass
    through the model.
    """

    def __init__(
        self, make: Callable[[int], Stepper], waiting: Starts, rules: Rules, rows: int
    ) -> None:
        """`make(lines)` returns a stepper; `rows`: number of parallel lines."""
        self.rules = rules
        self._waiting = waiting
        first = list(islice(waiting, rows))
        self._stepper = make(len(first))
        self._rows = np.zeros(len(first), _ROW)
        self._ids = np.zeros((len(first), 128), np.uint8)
        for row, line in enumerate(first):
            self._begin(row, *line)

    def __bool__(self) -> bool:
        """Whether any line is left."""
        return len(self._rows) > 0

    def advance(self) -> list[Decoded]:
        """Adds a character to every row; returns the lines that ended."""
        rows, line = np.arange(len(self._rows)), self._rows
        ids = self._ids[rows, line["at"]]
        line["at"] += 1
        self._make_room(int(line["at"].max()) + 1)
        position = line["at"] - line["start"]  # among the drawn characters; < 0 in the start
        is_drawn = position >= 0
        logits = self._stepper.read(ids[None])[0]
        drawn, log_probs = self._stepper.draw(self.rules, logits, line["number"].copy(), position)
        chosen = np.where(is_drawn, drawn, self._ids[rows, line["at"]])
        self._ids[rows, line["at"]] = chosen
        line["log_prob"] += np.where(is_drawn, log_probs, 0)
        ends = (chosen == self.rules.newline) | (position + 1 == self.rules.max_chars)
        return self._replace(np.flatnonzero(is_drawn & ends).tolist())

    def _replace(self, ended: list[int]) -> list[Decoded]:
        """Returns the lines of these rows; waiting lines take the rows, while there are any."""
        lines, begun, left = [], [], []
        for row in ended:
            number, start, at, log_prob = self._rows[row].tolist()
            ids = self._ids[row, : at + 1].tobytes()
            lines.append(Decoded(number, ids, at + 1 - start, log_prob))
            if (waiting := next(self._waiting, None)) is None:
                left.append(row)
            else:
                self._begin(row, *waiting)
                begun.append(row)
        if begun:
            self._stepper.restart(begun)
        if left:
            stay = np.delete(np.arange(len(self._rows)), left)
            kept = np.arange(len(stay))
            # The last rows fill the gaps, so that few rows move.
            kept[[row for row in left if row < len(kept)]] = stay[stay >= len(kept)]
            self._stepper.keep(kept.tolist())
            self._rows, self._ids = self._rows[kept], self._ids[kept]
        return lines

    def _begin(self, row: int, number: int, start: bytes) -> None:
        self._make_room(len(start))
        self._rows[row] = (number, len(start), 0, 0.0)
        self._ids[row, : len(start)] = np.frombuffer(start, np.uint8)

    def _make_room(self, length: int) -> None:
        if length > self._ids.shape[1]:
            self._ids = np.pad(self._ids, ((0, 0), (0, length)))
