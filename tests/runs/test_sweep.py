"""Sweeps with failed, changed and stopped runs, and their leaderboard."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

import train
from tests.support.commands import PROJECT, TINY, RunHere
from tests.support.corpora import write_episodes
from tests.support.runs import column, tables
from trek_lm.generation.api import CharLM
from trek_lm.runs import train as run_module
from trek_lm.runs.finish import fail
from trek_lm.runs.folder import BEST, LAST, METRICS, read_metrics

SMALL = ("trainer.max_epochs=1", "data.batch_size=16")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written_at(folder: Path) -> dict[str, int]:
    """When a run's checkpoints and metrics were last written."""
    return {str(path): (folder / path).stat().st_mtime_ns for path in (BEST, LAST, METRICS)}


def board_of(sweep: Path) -> list[dict[str, str]]:
    return tables((sweep / "leaderboard.md").read_text())[0]


def statuses(sweep: Path) -> dict[str, str]:
    """The status of each run, in the leaderboard's order."""
    return {row["run"]: row["status"] for row in board_of(sweep)}


def test_repeated_sweep_keeps_an_early_stopped_run(corpus: Path, run_here: RunHere) -> None:
    stop = "+callbacks.stop"
    sweep = ("-m", "data=files", f"data.root={corpus}", *TINY, "hydra.sweep.dir=all")
    early = (
        f"{stop}._target_=pytorch_lightning.callbacks.EarlyStopping",
        *(f"{stop}.monitor=val/loss", f"{stop}.min_delta=99", f"{stop}.patience=1"),
    )
    longer = "trainer.max_epochs=8"
    run_here(train, *sweep, *early, longer)
    before = written_at(Path("all/0"))
    assert read_metrics(Path("all/0"))["epochs"] == 2
    run_here(train, *sweep, *early, longer)
    assert written_at(Path("all/0")) == before
    # With more patience it continues.
    run_here(train, *sweep, *early[:-1], f"{stop}.patience=2", longer)
    assert read_metrics(Path("all/0"))["epochs"] > 2


def test_sweep_has_a_folder_per_run(
    corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(
        *(train, "-m", "model.hidden=5,7", "data=files", f"data.root={corpus}"),
        *("trainer.max_epochs=1", "optim=sgd"),
    )
    (sweep,) = Path("outputs/sweeps").iterdir()
    sizes = [
        CharLM.load(sweep / member / "checkpoints" / "best.ckpt").model.spec["hidden"]
        for member in ("0", "1")
    ]
    assert sizes == [5, 7]
    assert all(read_metrics(sweep / member)["status"] == "finished" for member in ("0", "1"))
    board = (sweep / "leaderboard.md").read_text()
    assert capsys.readouterr().out.endswith(
        f"\n\n{board}\nleaderboard: {sweep}/leaderboard.md\n"
        f"dashboard:   tensorboard --logdir {sweep}\n"
    )


def test_failed_run_is_listed_and_retried(
    tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ("data=files", f"data.root={corpus}", *SMALL, "hydra.sweep.dir=all")
    with pytest.raises(SystemExit) as left:
        run_here(train, "-m", "model.hidden=0,5", *same)
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.err == "error: 1 of 2 runs did not finish\n"
    assert printed.out.endswith("continue it: the same command with hydra.sweep.dir=all\n")
    sweep = tmp_path / "all"
    reason = "model.hidden=0: must be greater than or equal to 1"
    assert read_metrics(sweep / "0") == {"status": "failed", "reason": reason}
    assert f"failed: {reason}" in (sweep / "0" / "train.log").read_text()
    assert read_metrics(sweep / "1")["status"] == "finished"
    assert statuses(sweep) == {"1": "finished", "0": "failed"}
    assert f"\n0: {reason}\n" in (sweep / "leaderboard.md").read_text()
    with (sweep / "leaderboard.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["run"], first["model.hidden"], first["epochs"]) == ("1", "5", "1")
    shown = {key: value for key, value in second.items() if value}
    assert shown == {"run": "0", "model.hidden": "0", "status": "failed", "reason": reason}

    # Corrected, the failed run starts again; the finished one is skipped.
    before = written_at(sweep / "1")
    run_here(train, "-m", "model.hidden=6,5", *same)
    assert "all/1 is finished (1 epoch)" in capsys.readouterr().out
    assert written_at(sweep / "1") == before
    assert sorted(statuses(sweep).items()) == [("0", "finished"), ("1", "finished")]
    assert CharLM.load(sweep / "0" / BEST).model.spec["hidden"] == 6

    # With another setting they would be other runs: they stay, and the new run is trained.
    kept = [contents(sweep / member) for member in "01"]
    with pytest.raises(SystemExit) as left:
        run_here(train, "-m", "model.hidden=6,5,7", *same, "optim.lr=0.5", "trainer.devices=1")
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: all/0: holds a different run (optim.lr: 0.012 -> 0.5); "
        "repeat the sweep's own command, or set another hydra.sweep.dir"
    )
    assert [contents(sweep / member) for member in "01"] == kept
    assert sorted(statuses(sweep)) == ["0", "1", "2"]
    assert column(board_of(sweep), "status") == ["finished"] * 3


def test_diverged_run_is_listed_with_its_reason(
    corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_here(
            *(train, "-m", "optim.lr=1e30,0.1", "optim=sgd", "trainer.gradient_clip_val=null"),
            *("data=files", f"data.root={corpus}", *TINY, "hydra.sweep.dir=all"),
        )
    assert left.value.code == 2
    assert "error: 1 of 2 runs did not finish" in capsys.readouterr().err
    assert statuses(Path("all")) == {"1": "finished", "0": "failed"}
    metrics = read_metrics(Path("all/0"))
    assert metrics["status"] == "failed"
    assert metrics["reason"].startswith("training diverged (step 2, gradient norm ")
    assert f"\n0: {metrics['reason']}\n" in Path("all/leaderboard.md").read_text()


def test_bug_in_one_run_does_not_stop_the_sweep(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log keeps the traceback; the other runs are trained."""
    ran: list[int] = []

    def fit(config: DictConfig) -> None:
        ran.append(config.model.hidden)
        if len(ran) == 1:
            raise ZeroDivisionError("a bug\nin two lines")

    monkeypatch.setattr(run_module, "fit", fit)
    with pytest.raises(SystemExit):
        run_here(train, "-m", "model.hidden=5,7", "hydra.sweep.dir=all")
    assert ran == [5, 7]
    reason = "ZeroDivisionError: a bug"
    assert read_metrics(Path("all/0")) == {"status": "failed", "reason": reason}
    assert f"failed: {reason}\nTraceback" in Path("all/0/train.log").read_text()
    assert statuses(Path("all")) == {"0": "failed", "1": "unfinished"}


def test_failed_run_keeps_earlier_metrics(tmp_path: Path) -> None:
    """As of a run that fails while it is trained longer; some errors have no text."""
    (tmp_path / METRICS).write_text('{"status": "finished", "epochs": 3, "reason": null}')
    fail(tmp_path, AssertionError())
    assert read_metrics(tmp_path) == {"status": "failed", "epochs": 3, "reason": "AssertionError"}


def test_sweep_continues_runs_that_were_resumed_alone(
    tmp_path: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repeated sweep that fails to train a run longer says so; corrected, it succeeds."""
    write_episodes(tmp_path / "show")
    source = ("data=files", "data.root=show", "data.batch_size=16")
    same = ("-m", "seed=1,2", *source, "model.hidden=5", "hydra.sweep.dir=all")
    run_here(train, *same, "trainer.max_epochs=1")
    run_here(train, "resume=all/1", "trainer.max_epochs=2")
    run_here(train, *same, "trainer.max_epochs=1")
    assert "all/1 is finished (2 epochs)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        run_here(train, *same, "trainer.max_epochs=3", "trainer.precision=3")
    assert left.value.code == 2
    assert set(statuses(Path("all")).values()) == {"failed"}
    run_here(train, *same, "trainer.max_epochs=3")
    assert set(statuses(Path("all")).values()) == {"finished"}
    assert [read_metrics(Path("all", member))["epochs"] for member in "01"] == [3, 3]


@pytest.mark.parametrize(
    ("sent", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_stopped_sweep_has_a_leaderboard_and_resumes(
    sent: signal.Signals,
    code: int,
    tmp_path: Path,
    corpus: Path,
    run_here: RunHere,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = ("data=files", f"data.root={corpus}", "model.hidden=12", "data.batch_size=8")
    same = ("-m", *source, "hydra.sweep.dir=all")
    sweep = tmp_path / "all"
    with subprocess.Popen(
        [sys.executable, PROJECT / "train.py", *same, "trainer.max_epochs=1,100000,2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (sweep / "1" / BEST).exists():
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(sent)
        out, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    assert statuses(sweep) == {"0": "finished", "1": "unfinished"}  # 2 has not started
    assert "leaderboard: all/leaderboard.md" in out.splitlines()

    last: dict[str, Any] = torch.load(sweep / "1" / LAST, weights_only=True)
    before = written_at(sweep / "0")
    epochs = last["recorder"]["epochs"] + 1
    run_here(train, *same, f"trainer.max_epochs=1,{epochs},2")
    assert written_at(sweep / "0") == before
    assert f"resuming all/1 after {last['global_step']} steps" in capsys.readouterr().out
    assert [read_metrics(sweep / member)["epochs"] for member in "012"] == [1, epochs, 2]
    assert set(statuses(sweep).values()) == {"finished"}


def test_grid_has_twelve_runs() -> None:
    """The same as `-m model.hidden=100,200 model.layers=1,2,3 optim=sgd,adagrad`."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        grid = compose("train", ["sweep=grid"], return_hydra_config=True)
        assert compose("train", ["sweep=grid"]) == compose("train")
    assert grid.hydra.mode == RunMode.MULTIRUN
    typed = [f"{key}={values}" for key, values in grid.hydra.sweeper.params.items()]
    overrides = OverridesParser.create().parse_overrides(typed)
    (members,) = BasicSweeper.split_arguments(overrides, None)
    assert members == [
        [f"model.hidden={hidden}", f"model.layers={layers}", f"optim={optim}"]
        for hidden in (100, 200)
        for layers in (1, 2, 3)
        for optim in ("sgd", "adagrad")
    ]


def test_existing_run_is_not_overwritten(
    tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is finished or stopped, its files are never overwritten."""
    settings = ("data=files", f"data.root={corpus}", *SMALL, "hydra.run.dir=run")
    run_here(train, "model.hidden=5", *settings)
    for stopped in (False, True):
        if stopped:
            Path("run", METRICS).unlink()
        before = contents(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run_here(train, "model.hidden=5", *settings)
        assert left.value.code == 2
        assert capsys.readouterr().err == (
            "error: run: already holds a run; resume=run continues it\n"
        )
        assert contents(tmp_path) == before
