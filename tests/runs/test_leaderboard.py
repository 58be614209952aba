"""Leaderboards of made-up runs: a folder with `.hydra/` and `metrics.json` is enough."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import PROJECT
from tests.support.runs import board_of, column, tables, val, write_run
from trek_lm.errors import UserError
from trek_lm.runs.leaderboard import Leaderboard, main


def test_leaderboard_text(tmp_path: Path) -> None:
    figures = {
        **{"val/loss": 1.23456, "val/acc": 0.5, "test/acc": 0.51239, "test/bpc": 2.0},
        **{"parameters": 1234567, "epochs": 16, "chars_per_second": 98765.4},
        "train_seconds": 59.6,
    }
    write_run(tmp_path / "0", "model.hidden=100", metrics=figures)
    write_run(
        tmp_path / "1",
        "model.hidden=0",
        metrics={"status": "failed", "reason": "model.hidden=0: must be above 0"},
    )
    assert Leaderboard.of([tmp_path]).text(tmp_path) == (
        "| run | model.hidden | val loss | val acc | test acc | test bits/char | parameters"
        " | epochs | chars/s | seconds | status   |\n"
        "|----:|-------------:|---------:|--------:|---------:|---------------:|-----------:"
        "|-------:|--------:|--------:|----------|\n"
        "|   0 |          100 |   1.2346 |  0.5000 |   0.5124 |          2.000 |  1,234,567"
        " |     16 |  98,765 |      60 | finished |\n"
        "|   1 |            0 |          |         |          |                |           "
        " |        |         |         | failed   |\n"
        "\n"
        "1: model.hidden=0: must be above 0\n"
    )


def test_finished_runs_are_sorted_first(tmp_path: Path) -> None:
    write_run(tmp_path / "0", metrics=val(2.0))
    write_run(tmp_path / "1")
    write_run(tmp_path / "2", metrics=val(0.1) | {"status": "failed", "reason": "diverged"})
    write_run(tmp_path / "3", metrics=val(1.0, **{"train/loss": 3.0}))
    write_run(tmp_path / "10", metrics=val(1.5))
    table = board_of(tmp_path)
    assert column(table, "run") == ["3", "10", "0", "2", "1"]
    assert column(table, "status") == [*["finished"] * 3, "failed", "unfinished"]
    assert column(table, "val loss") == ["1.0000", "1.5000", "2.0000", "0.1000", ""]


def test_validation_loss_ranks_before_train_loss(tmp_path: Path) -> None:
    """The train loss of a run without validation is of text that it was trained on."""
    write_run(tmp_path / "0", metrics={"val/loss": None, "train/loss": 0.5})
    write_run(tmp_path / "1", metrics=val(3.0, **{"train/loss": 0.75}))
    write_run(tmp_path / "2", metrics={"val/loss": None, "train/loss": 0.25, "status": "failed"})
    assert column(board_of(tmp_path), "run") == ["1", "0", "2"]


def test_train_loss_ranks_without_validation(tmp_path: Path) -> None:
    for name, loss in (("0", 1.5), ("1", 1.25)):
        metrics = {"val/loss": None, "train/loss": loss, "train/acc": 0.5, "test/acc": 0.25}
        write_run(tmp_path / name, metrics=metrics)
    table = board_of(tmp_path)
    assert column(table, "run") == ["1", "0"]
    assert list(table[0])[:4] == ["run", "train loss", "train acc", "test acc"]
    assert column(table, "train loss") == ["1.2500", "1.5000"]
    assert column(table, "test acc") == ["0.2500", "0.2500"]


def test_columns_are_the_keys_that_differ(tmp_path: Path) -> None:
    """A key that only one command line named has its value of the config in the others' rows,
    and a group that an experiment chose for one is that of the other's `optim=`.
    """
    same = ("data=tos", "trainer.max_epochs=2")
    write_run(tmp_path / "0", *same, "optim=sgd", metrics=val(1.0))
    whole = (*same, "experiment=writeup", "model.hidden=200")
    write_run(tmp_path / "1", *whole, optim="adagrad", metrics=val(2.0))
    write_run(tmp_path / "2", *same, "+trainer.max_steps=5", metrics=val(3.0))
    table = board_of(tmp_path)
    varied = list(table[0])[1 : list(table[0]).index("val loss")]
    assert varied == ["optim", "experiment", "model.hidden", "trainer.max_steps"]
    assert [[row[key] for key in varied] for row in table] == [
        ["sgd", "", "256", ""],
        ["adagrad", "writeup", "200", ""],
        ["adamw", "", "256", "5"],
    ]


def test_changed_corpus_is_a_column(tmp_path: Path) -> None:
    for name, corpus in (("a", "1" * 64), ("b", "2" * 64)):
        write_run(tmp_path / name, "data=files", metrics=val(1.0, corpus_sha256=corpus))
    write_run(tmp_path / "c", "data=files")
    assert column(board_of(tmp_path), "corpus") == ["1" * 8, "2" * 8, ""]


@pytest.mark.parametrize("key", ["data", "data.series"])
def test_chosen_corpora_are_named(key: str, tmp_path: Path) -> None:
    for name, corpus in (("a", "1" * 64), ("b", "2" * 64)):
        write_run(tmp_path / name, f"{key}={name}", metrics=val(1.0, corpus_sha256=corpus))
    assert "corpus" not in board_of(tmp_path)[0]


def test_keys_without_effect_are_not_columns(tmp_path: Path) -> None:
    silent = (
        "sweep=grid",
        "callbacks=writeup",
        "checkpoint.every_minutes=9",
        "hydra.verbose=1",
    )
    write_run(tmp_path / "0", *silent, "resume=runs/0", "logger.x=1", metrics=val(1.0))
    write_run(tmp_path / "1", metrics=val(2.0))
    assert list(board_of(tmp_path)[0])[:2] == ["run", "val loss"]


def test_vertical_bar_in_a_value_is_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "data.root=a|b", metrics=val(1.0))
    write_run(tmp_path / "1", "data.root=c", metrics=val(2.0))
    assert "| a\\|b " in Leaderboard.of([tmp_path]).text(tmp_path)


def test_runs_that_differ_only_in_seed_are_averaged(tmp_path: Path) -> None:
    for name, hidden, seed, loss in (
        *(("0", 100, 1, 1.0), ("1", 100, 2, 2.0), ("2", 100, 3, 3.0)),
        *(("3", 200, 1, 1.5), ("4", 200, 2, 1.5), ("5", 300, 1, 9.0)),
    ):
        overrides = (f"model.hidden={hidden}", f"seed={seed}")
        write_run(tmp_path / name, *overrides, metrics=val(loss, parameters=hidden * 10, epochs=4))
    write_run(
        *(tmp_path / "6", "model.hidden=200", "seed=3"),
        metrics={"status": "failed", "reason": "training diverged"},
    )
    _, seeds = tables(Leaderboard.of([tmp_path]).text(tmp_path))
    assert list(seeds[0])[:3] == ["model.hidden", "runs", "val loss"]
    assert column(seeds, "model.hidden") == ["200", "100", "300"]
    assert column(seeds, "runs") == ["2", "3", "1"]  # the failed run does not count
    # The sample standard deviation, with n - 1.
    assert column(seeds, "val loss") == ["1.5000", "2.0000 ± 1.0000", "9.0000"]
    assert column(seeds, "parameters") == ["2,000", "1,000", "3,000"]
    assert column(seeds, "epochs") == ["4", "4", "4"]
    assert column(seeds, "test acc") == ["", "", ""]


@pytest.mark.parametrize("second", ["model.hidden=100", "seed=2 model.hidden=100"])
def test_runs_that_differ_in_more_are_not_averaged(second: str, tmp_path: Path) -> None:
    write_run(tmp_path / "0", metrics=val(1.0))
    write_run(tmp_path / "1", *second.split(), metrics=val(2.0))
    assert len(tables(Leaderboard.of([tmp_path]).text())) == 1


def test_data_seed_counts_as_a_seed(tmp_path: Path) -> None:
    for seed, loss in ((1, 1.0), (2, 2.0)):
        write_run(tmp_path / str(seed), f"data.seed={seed}", metrics=val(loss))
    _, seeds = tables(Leaderboard.of([tmp_path]).text())
    assert column(seeds, "val loss") == ["1.5000 ± 0.7071"]


def test_csv_has_every_metric(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "seed=1", metrics=val(1.23456789, seed=1, corpus="files", epochs=2))
    reason = 'hidden, "wide": too much'
    write_run(tmp_path / "1", "seed=2", metrics={"status": "failed", "reason": reason, "odd": None})
    rows = list(csv.DictReader(io.StringIO(Leaderboard.of([tmp_path]).csv(tmp_path))))
    assert list(rows[0]) == [
        "run",
        "seed",
        "status",
        "reason",
        "val/loss",
        "corpus",
        "epochs",
        "odd",
    ]
    assert list(rows[0].values()) == ["0", "1", "finished", "", "1.23456789", "files", "2", ""]
    assert list(rows[1].values()) == ["1", "2", "failed", reason, "", "", "", ""]


def test_several_folders_make_one_leaderboard(tmp_path: Path) -> None:
    """Runs are named by their folder; a run in two of the given folders counts once."""
    for name, hidden, loss in (("a/0", 5, 3.0), ("a/1", 7, 1.0), ("b", 5, 2.0)):
        write_run(Path(name), f"model.hidden={hidden}", metrics=val(loss))
    main(["a", "b", "a/0"])
    assert not list(tmp_path.rglob("leaderboard.*"))
    board = Leaderboard.of([Path("a"), Path("b"), Path("a/0")])
    (table,) = tables(board.text(Path.cwd()))
    assert column(table, "run") == ["a/1", "b", "a/0"]
    assert column(table, "model.hidden") == ["7", "5", "5"]


def test_unreadable_settings_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "0", metrics=val(1.0))
    (tmp_path / "0" / ".hydra" / "overrides.yaml").unlink()
    with pytest.raises(UserError, match=r"0/\.hydra/overrides\.yaml: cannot be read"):
        Leaderboard.of([tmp_path])


def test_single_run_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", "model.hidden=5", metrics=val(1.0))
    main([str(run)])
    (table,) = tables(capsys.readouterr().out)
    assert [(row["run"], row["val loss"]) for row in table] == [(str(run), "1.0000")]
    assert {path.name for path in run.iterdir()} == {".hydra", "metrics.json"}


def test_leaderboard_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trek_lm.leaderboard", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )

    write_run(tmp_path / "all" / "0", "model.hidden=5", metrics=val(2.0))
    write_run(tmp_path / "all" / "1", "model.hidden=7", metrics=val(1.0))
    (tmp_path / "empty").mkdir()
    done = run("all")
    assert done.returncode == 0, done.stderr
    (table,) = tables(done.stdout)
    assert column(table, "run") == ["1", "0"]
    assert (tmp_path / "all" / "leaderboard.md").read_text() == done.stdout
    written = (tmp_path / "all" / "leaderboard.csv").read_text()
    assert written.startswith("run,model.hidden,status,reason,val/loss\n1,7,finished,,1.0\n")
    for folder, message in (("empty", "no run in it"), ("missing", "not found")):
        done = run(folder)
        assert done.returncode != 0
        assert done.stderr == f"error: {folder}: {message}\n"
        assert done.stdout == ""


def test_configs_that_differ_in_keys_nobody_typed_are_not_averaged(tmp_path: Path) -> None:
    """As by an experiment of one's own, or a conf/ that changed between the runs."""
    for seed, hidden in ((1, 16), (2, 16), (3, 32)):
        run = write_run(
            tmp_path / str(seed), f"seed={seed}", f"model.hidden={hidden}", metrics=val(seed)
        )
        (run / ".hydra/overrides.yaml").write_text(f"- seed={seed}\n")
    first, means = tables(Leaderboard.of([tmp_path]).text(tmp_path))
    assert column(first, "model.hidden") == ["16", "16", "32"]
    assert column(means, "runs") == ["2", "1"]
    assert column(means, "val loss") == ["1.5000 ± 0.7071", "3.0000"]


def test_versions_and_commits_are_columns_where_they_differ(tmp_path: Path) -> None:
    for seed, commit, torch in ((1, "a" * 40, "2.13"), (2, "b" * 40, "2.13"), (3, "", "2.14")):
        recorded = {"git_commit": commit or None, "version/torch": torch}
        write_run(tmp_path / str(seed), f"seed={seed}", metrics=val(seed) | recorded)
    first, *means = tables(Leaderboard.of([tmp_path]).text(tmp_path))
    assert column(first, "git_commit") == ["aaaaaaaa", "bbbbbbbb", ""]
    assert column(first, "version/torch") == ["2.13", "2.13", "2.14"]
    assert means == []
