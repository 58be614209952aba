"""Many lines at once, character by character: a line that ends makes room for a waiting one."""

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from queue import Full, Queue
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trek_lm.generation.sampling import Sampling, uniform
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.stepper import (
    DrawRules,
    Ids,
    Integers,
    Native,
    NativeLine,
    NativeStepper,
)
from trek_lm.models.stepper import Stepper
from trek_lm.signals import uninterrupted

ROWS = 256  # lines side by side on a core: more gain nothing
AHEAD = 100  # steps with a line at its end that may wait to be taken
CHUNK = 64  # characters of a single line between two looks at whether somebody still wants them
# Of each line in work: its number, how long its start is, where its last character stands, and
# the log-probability of what was drawn.
_ROW = np.dtype([("number", "i8"), ("start", "i8"), ("at", "i8"), ("log_prob", "f8")])
Floats = npt.NDArray[np.float64]
Starts = Iterator[tuple[int, bytes]]


@dataclass(frozen=True)
class Rules:
    """What all lines are drawn by."""

    sampling: Sampling
    seed: int
    max_chars: int  # drawn at most
    newline: int | None  # the id that ends a line, where one does
    unknown: int | None  # an id that is never drawn

    def packed(self) -> DrawRules:
        """The same for draw.c."""
        by = self.sampling
        numbers = (by.temperature, by.top_p or 0, by.min_p or 0, by.top_k or 0, by.greedy)
        ids = (-1 if id_ is None else id_ for id_ in (self.newline, self.unknown))
        return DrawRules(*numbers, *ids, self.seed)


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
    waiting = _Shared(enumerate(starts))
    if not starts:
        return
    packed = Native.of(model)
    if packed is None:
        decoder = Decoder(lambda rows: Stepper(model), waiting, rules, ROWS)
        while decoder:
            yield from decoder.advance()
        return
    workers = min(torch.get_num_threads(), len(starts))
    rows = min(ROWS, -(-len(starts) // workers))

    def work() -> Iterator[list[Decoded]]:
        if rows == 1:
            for number, start in waiting:
                line, ids = NativeLine(packed, number, start), start
                for chunk in _chunks(line, rules, CHUNK):
                    ids += chunk
                    yield []
                yield [Decoded(number, ids, line.drawn, line.log_prob)]
            return
        decoder = Decoder(partial(NativeStepper, packed), waiting, rules, rows)
        while decoder:
            yield decoder.advance()

    yield from _gathered(work, workers)


def stream(model: RecurrentLM, starts: Iterable[bytes], rules: Rules) -> Iterator[Iterator[int]]:
    """The same lines one after the other, each as what is drawn after its start, id by id."""
    packed = Native.of(model)
    if packed is not None:
        for number, start in enumerate(starts):
            yield chain.from_iterable(_chunks(NativeLine(packed, number, start), rules, 1))
        return
    decoder = Decoder(lambda rows: Stepper(model), enumerate(starts), rules, 1)
    while decoder:
        yield _newest(decoder)


class Decoder:
    """Lines in work, each in a row of its own and at its own character.

    A row's first characters are those of its start, one a step like the ones that follow: reading
    starts needs no second way through the model.
    """

    def __init__(
        self,
        make: Callable[[int], Stepper | NativeStepper],
        waiting: Starts,
        rules: Rules,
        rows: int,
    ) -> None:
        """`make` gives a stepper for so many lines; `rows`: lines at a time."""
        self.rules = rules
        self._packed_rules = rules.packed()
        self._waiting = waiting
        first = [line for _, line in zip(range(rows), waiting, strict=False)]
        self._stepper = make(len(first))
        self._rows = np.zeros(len(first), _ROW)
        self._ids = np.zeros((len(first), 128), np.uint8)
        for row, line in enumerate(first):
            self._begin(row, *line)
        self.newest: list[int] = []  # what the last step drew; nothing for a line at its start

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
        drawn, log_probs = self._draw(ids, position)
        chosen = np.where(is_drawn, drawn, self._ids[rows, line["at"]])
        self._ids[rows, line["at"]] = chosen
        line["log_prob"] += np.where(is_drawn, log_probs, 0)
        self.newest = chosen[is_drawn].tolist()
        ends = (chosen == self.rules.newline) | (position + 1 == self.rules.max_chars)
        return self._replace(np.flatnonzero(is_drawn & ends).tolist())

    def _draw(self, ids: Ids, position: Integers) -> tuple[Ids, Floats]:
        """A character after these, for each row, and its log-probability by the model itself."""
        numbers = self._rows["number"].copy()
        if isinstance(self._stepper, NativeStepper):
            return self._stepper.draw(
                self._packed_rules, self._stepper.step(ids), numbers, position
            )
        logits = self._stepper.step(torch.from_numpy(ids)).double().cpu()
        noise = torch.from_numpy(uniform(self.rules.seed, numbers, position))
        allowed = logits
        if self.rules.unknown is not None:
            allowed = logits.clone()
            allowed[:, self.rules.unknown] = -torch.inf
        picked = self.rules.sampling.pick(allowed, noise)
        log_probs = logits.log_softmax(-1).gather(-1, picked[:, None])[:, 0]
        return picked.numpy().astype(np.uint8), log_probs.numpy()

    def _replace(self, ended: list[int]) -> list[Decoded]:
        """Takes these rows' lines out and puts waiting ones in, while there are any."""
        lines, begun, left = [], [], []
        for row in ended:
            lines.append(self._decoded(row))
            if (waiting := next(self._waiting, None)) is None:
                left.append(row)
            else:
                self._begin(row, *waiting)
                begun.append(row)
        if begun:
            self._stepper.restart(begun)
        if left:
            kept = _without(left, len(self._rows))
            self._stepper.keep(kept.tolist())
            self._rows, self._ids = self._rows[kept], self._ids[kept]
        return lines

    def _decoded(self, row: int) -> Decoded:
        number, start, at, log_prob = self._rows[row].tolist()
        return Decoded(number, self._ids[row, : at + 1].tobytes(), at + 1 - start, log_prob)

    def _begin(self, row: int, number: int, start: bytes) -> None:
        self._make_room(len(start))
        self._rows[row] = (number, len(start), 0, 0.0)
        self._ids[row, : len(start)] = np.frombuffer(start, np.uint8)

    def _make_room(self, length: int) -> None:
        if length > self._ids.shape[1]:
            room = np.zeros((len(self._ids), 2 * length), np.uint8)
            room[:, : self._ids.shape[1]] = self._ids
            self._ids = room


def _without(left: list[int], count: int) -> Integers:
    """The other rows, the last ones in the gaps, so that few change their place."""
    stays = np.ones(count, bool)
    stays[left] = False
    kept = np.arange(stays.sum())
    kept[~stays[: len(kept)]] = len(kept) + np.flatnonzero(stays[len(kept) :])
    return kept


def _newest(decoder: Decoder) -> Iterator[int]:
    """What is drawn of a decoder's only line."""
    ended: list[Decoded] = []
    while not ended:
        ended = decoder.advance()
        yield from decoder.newest


def _chunks(line: NativeLine, rules: Rules, size: int) -> Iterator[bytes]:
    """What is drawn of a line, so many characters at a time."""
    by = rules.packed()
    while line.drawn < rules.max_chars:
        ids = line.draw(by, min(size, rules.max_chars - line.drawn))
        yield ids
        if ids[-1] == rules.newline:
            return


def _gathered(work: Callable[[], Iterator[list[Decoded]]], workers: int) -> Iterator[Decoded]:
    """What comes of so many threads doing this work, as it comes."""
    results: Queue[list[Decoded] | BaseException | None] = Queue(AHEAD)
    unwanted = threading.Event()

    def put(result: list[Decoded] | BaseException | None) -> None:
        while not unwanted.is_set():
            with suppress(Full):
                results.put(result, timeout=0.1)
                return

    def run() -> None:
        try:
            for lines in work():
                if lines:
                    put(lines)
                if unwanted.is_set():
                    break
            put(None)
        except BaseException as error:  # raised below, where somebody waits for it
            put(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers)]

    def stop() -> None:
        unwanted.set()
        for thread in threads:
            if thread.ident is not None:  # Ctrl-C may come before it is started
                thread.join()

    # A thread that is at work when the interpreter ends would take it down.
    atexit.register(stop)
    try:
        with uninterrupted():  # a thread half started can't be joined
            for thread in threads:
                thread.start()
        running = workers
        while running:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield from result
    finally:
        stop()
        atexit.unregister(stop)


class _Shared(Iterator[tuple[int, bytes]]):
    """An iterator that several threads take from."""

    def __init__(self, items: Iterable[tuple[int, bytes]]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __next__(self) -> tuple[int, bytes]:
        with self._lock:
            return next(self._items)
