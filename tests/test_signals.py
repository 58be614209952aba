import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from tests.support.training import LINES, STREAM, Run, assert_same
from trek_lm.signals import SIGNALS, Stopped, stop_signals


class Signalling(Callback):
    """Raises a signal before the given optimizer steps, counted from 1."""

    def __init__(self, sent: signal.Signals, *steps: int) -> None:
        self.sent = sent
        self.steps = steps

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for _time in range(self.steps.count(trainer.global_step + 1)):
            signal.raise_signal(self.sent)


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize(("data", "step"), [(LINES, 2), (LINES, 4), (STREAM, 3)])
def test_signal_stops_after_the_step(
    data: dict[str, Any], step: int, sent: signal.Signals, corpus: Path, tmp_path: Path
) -> None:
    """Step 4 of `LINES` is the last of an epoch, so the run stops after the epoch's end."""
    whole, stopped = (Run(tmp_path / name, corpus, data) for name in ("whole", "stopped"))
    whole.fit(minutes=60)
    with pytest.raises(Stopped) as left, stop_signals.handled():
        stopped.fit(minutes=60, more=[Signalling(sent, step)])
    assert left.value.code == 128 + sent
    assert stopped.checkpoint()["global_step"] == step
    stopped.fit(resume=True, minutes=60)
    assert_same(whole.result(), stopped.result())


def test_second_signal_stops_at_once(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", corpus, LINES)
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Stopped), stop_signals.handled():
        run.fit(minutes=60, more=[Signalling(signal.SIGINT, 2, 2)])
    assert run.checkpoint()["global_step"] == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signal_outside_training_stops_at_once(corpus: Path, tmp_path: Path) -> None:
    for where in ("on_fit_start", "on_fit_end"):
        callback: Any = Callback()
        setattr(callback, where, lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped), stop_signals.handled():
            Run(tmp_path / where, corpus, LINES).fit(more=[callback])
