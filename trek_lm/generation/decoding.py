"""Many lines at once, character by character: a line that ends makes room for a waiting one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from trek_lm.generation.sampling import Rules
from trek_lm.generation.steppers import Stepper, steppers_for
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.signals import uninterrupted

ROWS = 256  # lines side by side on a core: more gain nothing
STEPS = 16  # of many lines, between two looks at whether somebody still wants them
CHUNK = 64  # characters of a single line between two such looks
# Of each line in work: its number, how long its start is, where its last character stands, and
# the log-probability of what was drawn.
_ROW = np.dtype([("number", "i8"), ("start", "i8"), ("at", "i8"), ("log_prob", "f8")])
Starts = Iterator[tuple[int, bytes]]


class Decoded(NamedTuple):
    """A line as it came out."""

    number: int
    ids: bytes  # its start, what was drawn, its newline where it ended by itself
    drawn: int  # how many were drawn
    log_prob: float  # of those, by the model's own probabilities, in nats


def decode(model: RecurrentLM, starts: Sequence[bytes], rules: Rules) -> Iterator[Decoded]:
    """The lines that begin with these ids, one at least in each, in the order in which they end.

    On a CPU each core has rows of its own: as many threads as PyTorch would use.
    """
    make, threads = steppers_for(model)
    workers = min(threads, len(starts))
    rows = min(ROWS, -(-len(starts) // workers))
    waiting = enumerate(starts)  # which threads may share: its next is one step of the interpreter
    yield from _gathered([_work(make, waiting, rules, rows) for _ in range(workers)])


def stream(model: RecurrentLM, starts: Iterable[bytes], rules: Rules) -> Iterator[Iterator[int]]:
    """The same lines one after the other, each as what is drawn after its start, id by id."""
    make, _ = steppers_for(model)
    for number, start in enumerate(starts):
        yield (id_ for ids, _ in make(1).line(rules, number, start, 1) for id_ in ids)


def _work(
    make: Callable[[int], Stepper], waiting: Starts, rules: Rules, rows: int
) -> Iterator[list[Decoded]]:
    """What one thread does: the lines that end, some steps at a time."""
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


def _gathered(works: Sequence[Iterator[list[Decoded]]]) -> Iterator[Decoded]:
    """What comes of these, each in a thread, as it comes.

    A thread is given its next steps when it is done with some, so that there is nothing to stop:
    not when nobody wants more lines, and not when the interpreter ends.
    """
    if len(works) == 1:
        yield from chain.from_iterable(works[0])
        return
    with ThreadPoolExecutor(len(works)) as pool:
        with uninterrupted():  # a thread half started can't be joined
            running = {pool.submit(next, work, None): work for work in works}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                work = running.pop(future)
                if (ended := future.result()) is not None:
                    running[pool.submit(next, work, None)] = work
                    yield from ended


class Decoder:
    """Lines in work, each in a row of its own and at its own character.

    A row's first characters are those of its start, one a step like the ones that follow: reading
    starts needs no second way through the model.
    """

    def __init__(
        self, make: Callable[[int], Stepper], waiting: Starts, rules: Rules, rows: int
    ) -> None:
        """`make` gives a stepper for so many lines; `rows`: lines at a time."""
        self.rules = rules
        self._waiting = waiting
        first = list(islice(waiting, rows))
        self._stepper = make(len(first))
        self._rows = np.zeros(len(first), _ROW)
        self._ids = np.zeros((len(first), 128), np.uint8)
        for row, line in enumerate(first):
            self._begin(row, *line)

    def __bool__(self) -> bool:
        """Whether a line is left."""
        return len(self._rows) > 0

    def advance(self) -> list[Decoded]:
        """One more character in every row; the lines that end with it."""
        rows, line = np.arange(len(self._rows)), self._rows
        ids = self._ids[rows, line["at"]]
        line["at"] += 1
        self._make_room(int(line["at"].max()) + 1)
        position = line["at"] - line["start"]  # of the character, among those drawn
        is_drawn = position >= 0
        logits = self._stepper.read(ids[None])[0]
        drawn, log_probs = self._stepper.draw(self.rules, logits, line["number"].copy(), position)
        chosen = np.where(is_drawn, drawn, self._ids[rows, line["at"]])
        self._ids[rows, line["at"]] = chosen
        line["log_prob"] += np.where(is_drawn, log_probs, 0)
        ends = (chosen == self.rules.newline) | (position + 1 == self.rules.max_chars)
        return self._replace(np.flatnonzero(is_drawn & ends).tolist())

    def _replace(self, ended: list[int]) -> list[Decoded]:
        """Takes these rows' lines out and puts waiting ones in, while there are any."""
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
            # The last ones go into the gaps, so that few change their place.
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
