"""Signals that ask a process to stop: heeded at a safe place, at once the second time."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C, what a job's system sends at its end, and what Slurm can send some time before it.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Handler = Callable[[int, FrameType | None], object]
_Handlers = dict[int, Any]  # by the signal's number


class Stopped(SystemExit):
    """A signal ends this process, with the exit code that shells have for it.

    No KeyboardInterrupt: from that Lightning makes an exit code of 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """What this process does about `SIGNALS`, while `heeded`: it raises `Stopped`.

    While `waiting`, as training is for the end of a step, the first one is only kept in `received`
    and `Stopped` is raised by the second; who waits looks there.
    """

    def __init__(self) -> None:
        self.waiting = False
        self.received: int | None = None

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Handles the signals in this block; one that is ignored, as Ctrl-C is in a shell's
        background, stays so.
        """
        before = self.install()
        try:
            yield
        finally:
            self.waiting, self.received = False, None
            _restore(before)

    def install(self) -> _Handlers:
        """Takes the signals from whoever has them, and gives those that had."""
        return _replace(self._receive, lambda old: old not in (signal.SIG_IGN, None))

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self.waiting or self.received is not None:
            raise Stopped(number)
        self.received = number
        if number == signal.SIGINT:  # not by a stream, in whose own code it may have come
            os.write(2, b"\nstopping after this step; Ctrl-C again leaves at once\n")


stop_signals = StopSignals()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """The signals that have a handler wait until the block is done."""
    received: list[tuple[int, FrameType | None]] = []
    before = _replace(lambda *given: received.append(given), callable)
    try:
        yield
    finally:
        _restore(before)
    for number, frame in received:
        before[number](number, frame)


def _replace(handler: Handler, wanted: Callable[[Any], bool]) -> _Handlers:
    """Sets the handler of `SIGNALS` whose present one is wanted, and gives those."""
    if threading.current_thread() is not threading.main_thread():  # others can't
        return {}
    present = {number: signal.getsignal(number) for number in SIGNALS}
    return {n: signal.signal(n, handler) for n, old in present.items() if wanted(old)}


def _restore(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
