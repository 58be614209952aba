"""Signals that stop a process: the first one at the end of a step, the second one at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C; a scheduler that ends a job; Slurm, some time before that; a closed terminal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object]
_Handlers = dict[int, Any]  # signal number -> handler


class Stopped(SystemExit):
    """Ends the process with the exit code that shells use for a signal: 128 + its number.

    Not a KeyboardInterrupt, which Lightning turns into exit code 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """Handles `SIGNALS` within `handled` by raising `Stopped`.

    Training sets `waiting` until a step ends: then the first signal is only stored in `received`,
    which training checks after the step, and the second one raises `Stopped`.
    """

    def __init__(self) -> None:
        self.waiting = False
        self.received: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles the signals in this block, except one that is ignored, as Ctrl-C is for a
        background job of a shell.
        """
        before = self.install()
        try:
            yield
        finally:
            self.waiting, self.received = False, None
            _restore(before)

    def install(self) -> _Handlers:
        """Replaces the handlers of the signals, and returns the replaced ones."""
        return _replace(self._receive, lambda old: old not in (signal.SIG_IGN, None))

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self.waiting or self.received is not None:
            raise Stopped(number)
        self.received = number
        if number == signal.SIGINT:  # os.write, as the signal may have interrupted a print
            os.write(2, b"\nstopping after this step; press Ctrl-C again to stop at once\n")


stop_signals = StopSignals()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays the signals that have a handler until the end of the block."""
    received: list[tuple[int, FrameType | None]] = []
    before = _replace(lambda *given: received.append(given), callable)
    try:
        yield
    finally:
        _restore(before)
    for number, frame in received:
        before[number](number, frame)


def _replace(handler: Handler, wanted: Callable[[Any], bool]) -> _Handlers:
    """Replaces those handlers of `SIGNALS` for which `wanted` is true, and returns them."""
    if threading.current_thread() is not threading.main_thread():  # other threads can't
        return {}
    current = {number: signal.getsignal(number) for number in SIGNALS}
    return {n: signal.signal(n, handler) for n, old in current.items() if wanted(old)}


def _restore(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
