"""The recorded runs of the write-up: the claims of docs/writeup.md and docs/theory.md."""

from statistics import mean

import numpy as np
import pytest

from tests.benchmarks.writeup import PRINTED, Run, recorded, tables
from tests.support.commands import PROJECT


def runs_of(cell: str, optimizer: str) -> list[Run]:
    return [run for run in recorded() if (run.cell, run.optimizer) == (cell, optimizer)]


def test_the_tables_are_in_the_docs() -> None:
    page = (PROJECT / "docs/writeup.md").read_text(encoding="utf-8")
    for table in tables():
        assert table in page


def test_what_is_printed() -> None:
    """A few printed figures, copied by hand, and the whole accuracy column."""
    assert [row[3] for row in PRINTED] == [
        *(0.332, 0.480, 0.548, 0.578, 0.593, 0.606, 0.614, 0.622),
        *(0.628, 0.632, 0.634, 0.635, 0.638, 0.640, 0.642),
    ]
    assert PRINTED[0] == (2.38817, 0.220, 0.82465, 0.332)
    assert PRINTED[-1] == (0.87731, 0.661, 0.40540, 0.642)


def test_the_printed_curve_is_reached() -> None:
    """By three seeds; the second one falls back by an epoch and recovers."""
    runs = runs_of("lstm", "SGD")
    assert [run.seed for run in runs] == ["1", "2", "3"]
    curves = [run.curves["test/acc"] for run in runs]
    assert min(curve[-1] for curve in curves) >= 0.65
    printed = [row[3] for row in PRINTED]
    above = [mean(values) - p for values, p in zip(zip(*curves, strict=True), printed, strict=True)]
    assert min(above[2:]) == pytest.approx(0, abs=0.001)
    assert max(above[2:]) == pytest.approx(0.014, abs=0.001)
    off = {
        (seed, epoch): curve[epoch] - printed[epoch]
        for seed, curve in enumerate(curves, 1)
        for epoch in range(2, 15)
    }
    assert off.pop((2, 5)) == pytest.approx(-0.023, abs=0.001)
    assert min(off.values()) > 0
    assert max(off.values()) == pytest.approx(0.014, abs=0.001)


def test_the_printed_test_loss_was_divided_by_the_size_of_the_training_part() -> None:
    """Times 7/3, its ratio to the train loss is that of our run; the train loss is not in nats."""
    run = runs_of("lstm", "SGD")[0]
    for epoch, (train, accuracy, test, _) in enumerate(PRINTED):
        ours = run.curves["test/loss"][epoch] / run.curves["train/loss"][epoch]
        assert test * 7 / 3 / train == pytest.approx(ours, abs=0.02)
        nats = np.interp(accuracy, run.curves["train/acc"], run.curves["train/loss"])
        assert train / nats == pytest.approx(0.83, abs=0.006)


def test_q1_measured() -> None:
    """With the LSTM AdaGrad is ahead for two epochs, then SGD with momentum until the end."""
    (sgd, _, _), (adagrad,) = (runs_of("lstm", name) for name in ("SGD", "Adagrad"))
    pairs = list(zip(sgd.curves["test/acc"], adagrad.curves["test/acc"], strict=True))
    assert [a > s for s, a in pairs] == [True] * 2 + [False] * 13
    assert pairs[4] == pytest.approx((0.607, 0.587), abs=5e-4)
    assert pairs[14] == pytest.approx((0.650, 0.632), abs=5e-4)
    assert [run.epochs_to(0.6) for run in (sgd, adagrad)] == [5, 7]


def test_q1_measured_with_the_gru() -> None:
    """SGD is ahead throughout, and by more at the end."""
    (sgd,), (adagrad,) = (runs_of("gru", name) for name in ("SGD", "Adagrad"))
    pairs = list(zip(sgd.curves["test/acc"], adagrad.curves["test/acc"], strict=True))
    assert all(s > a for s, a in pairs)
    assert pairs[0] == pytest.approx((0.442, 0.423), abs=5e-4)
    assert pairs[14] == pytest.approx((0.641, 0.604), abs=5e-4)


def test_q1_measured_at_equal_seconds() -> None:
    """When the fastest of the four runs has ended."""
    kinds = [(cell, name) for cell in ("lstm", "gru") for name in ("SGD", "Adagrad")]
    runs = [runs_of(*kind)[0] for kind in kinds]
    seconds = min(sum(run.curves["train/seconds"]) for run in runs)
    reached = [run.within(seconds) for run in runs]
    assert reached == pytest.approx([0.650, 0.630, 0.631, 0.578], abs=5e-4)


def test_q3_3_measured() -> None:
    """The GRU is ahead for five epochs and ends lower; it needs as many epochs to reach 0.63."""
    runs = [runs_of(cell, "SGD")[0] for cell in ("lstm", "gru")]
    lstm, gru = (run.curves["test/acc"] for run in runs)
    for accuracy, epochs in ((0.6, [5, 5]), (0.62, [7, 7]), (0.63, [8, 8]), (0.64, [10, 14])):
        assert [run.epochs_to(accuracy) for run in runs] == epochs
    assert [g > s for s, g in zip(lstm, gru, strict=True)] == [True] * 5 + [False] * 10
    assert lstm[-1] - gru[-1] == pytest.approx(0.009, abs=0.001)
