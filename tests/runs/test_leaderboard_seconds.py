"""`--seconds`: the leaderboard after a given training time."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.support.runs import Metrics, board_of, column, tables, val, write_run
from trek_lm.runs.leaderboard import Row, main


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A slow run with the better end, and a fast one that is better after ten seconds."""
    for name, seconds, losses in (
        ("slow", [8.0, 8.0, 8.0], [3.0, 2.0, 1.0]),
        ("fast", [4.0, 6.0], [2.5, 1.5]),
    ):
        folder = tmp_path / name
        final = val(losses[-1], parameters=7, train_seconds=sum(seconds), chars_per_second=9.0)
        write_run(folder, f"model.hidden={len(losses)}", metrics=final | {"test/acc": 0.5})
        with SummaryWriter(str(folder / "lstm-5x1")) as writer:
            for epoch, (lasted, loss) in enumerate(zip(seconds, losses, strict=True)):
                writer.add_scalar("train/seconds", lasted, epoch)
                writer.add_scalar("train/loss", loss / 2, epoch)
                writer.add_scalar("val/loss", loss, epoch)
            writer.add_scalar("test/acc", 0.5, len(losses))
    return tmp_path


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (100, {"epochs": 2, "train_seconds": 10.0, "val/loss": 1.5, "train/loss": 0.75}),
        (10, {"epochs": 2, "train_seconds": 10.0, "val/loss": 1.5, "train/loss": 0.75}),
        (9.9, {"epochs": 1, "train_seconds": 4.0, "val/loss": 2.5, "train/loss": 1.25}),
        (3, {"epochs": 0, "train_seconds": 0.0}),
    ],
)
def test_last_epoch_within_the_time_counts(seconds: float, expected: Metrics, sweep: Path) -> None:
    """The test split is evaluated only at the end, so its columns are empty."""
    whole = {"parameters": 7, "chars_per_second": 9.0, "status": "finished", "reason": None}
    assert Row.of(sweep / "fast").within(seconds).metrics == whole | expected


def test_several_validations_per_epoch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "0", metrics=val(1.0))
    with SummaryWriter(str(folder / "lstm-5x1")) as writer:
        for step in range(1, 9):
            writer.add_scalar("val/loss", 9 - step, step)
        for step in (4, 8):
            writer.add_scalar("train/seconds", 5.0, step)
    assert Row.of(folder).within(6).metrics["val/loss"] == 5
    assert Row.of(folder).within(60).metrics["val/loss"] == 1


def test_running_run_is_shown(sweep: Path) -> None:
    (sweep / "fast" / "metrics.json").unlink()
    row = Row.of(sweep / "fast").within(5)
    assert row.metrics == {
        **{"epochs": 1, "train_seconds": 4.0, "val/loss": 2.5, "train/loss": 1.25},
    }
    assert row.status == "unfinished"


def test_run_without_logged_values(tmp_path: Path) -> None:
    row = Row.of(write_run(tmp_path / "0", metrics=val(1.0))).within(5)
    assert "val/loss" not in row.metrics
    assert row.metrics["epochs"] == 0


def test_order_at_that_time_and_no_file_written(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert column(board_of(sweep), "run") == ["slow", "fast"]
    main([str(sweep), "--seconds", "10"])
    (table,) = tables(capsys.readouterr().out)
    assert column(table, "run") == ["fast", "slow"]
    assert column(table, "val loss") == ["1.5000", "3.0000"]
    assert column(table, "epochs") == ["2", "1"]
    assert column(table, "seconds") == ["10", "8"]
    assert not list(sweep.glob("leaderboard.*"))
