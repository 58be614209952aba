"""`resume=`: the resumed run, and what is refused when it starts."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from tests.support.commands import PROJECT, TINY, Cli, RunHere
from tests.support.corpora import write_episodes
from tests.support.runs import outcome
from trek_lm.runs.begin import locked
from trek_lm.signals import SIGNALS
from trek_lm.training.checkpointing import LastCheckpoint


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_run_is_reported(
    finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "metrics.json").read_bytes()
    capsys.readouterr()
    run_here(train, f"resume={finished}")
    assert f"{finished} is finished (2 epochs)" in capsys.readouterr().out
    assert (finished / "metrics.json").read_bytes() == before


def test_reached_limit_is_named(
    tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("trainer.max_steps=2", f"hydra.run.dir={tmp_path / 'few'}")
    run_here(train, "data=files", f"data.root={corpus}", *TINY, *few)
    for limit in ("trainer.max_epochs=9", "trainer.max_steps=1"):
        run_here(train, f"resume={tmp_path / 'few'}", limit)
        assert "; trainer.max_steps=N trains it longer" in capsys.readouterr().out


def test_locked_folder_is_refused(
    finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    for argument in (f"resume={finished}", f'hydra.run.dir="{finished}"'):
        with locked(finished.absolute()), pytest.raises(SystemExit):
            run_here(train, argument)
        assert f"{finished}: another process trains there" in capsys.readouterr().err
    assert contents(finished) == before
    run_here(train, f"resume={finished}")


def test_moved_folder_resumes(finished: Path, run_here: RunHere, tmp_path: Path) -> None:
    moved = finished.rename(tmp_path / "moved")
    run_here(train, f"resume={moved}", "trainer.max_epochs=3")
    assert json.loads((moved / "metrics.json").read_text())["epochs"] == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        pytest.param(
            "trainer.devices=2",
            "the run has 1 processes, not 2: set trainer.devices",
            marks=pytest.mark.slow,
        ),
        ("trainer.precision=3", "precision"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many: must be"),
    ],
)
def test_invalid_override_keeps_the_run(
    finished: Path,
    argument: str,
    message: str,
    run_here: RunHere,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (finished / "metrics.json").unlink()  # as if it had been stopped
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        run_here(train, f"resume={finished}", argument)
    assert message in capsys.readouterr().err
    del before[finished / "train.log"]
    assert before == {p: p.read_bytes() for p in before}
    run_here(train, f"resume={finished}")
    assert (finished / "metrics.json").exists()


def test_overrides_are_merged_and_kept(finished: Path, run_here: RunHere) -> None:
    for step in (30, 32):
        longer = ("trainer.max_epochs=9", f"trainer.max_steps={step}")
        run_here(train, f"resume={finished}", *longer)
        assert json.loads((finished / "metrics.json").read_text())["steps"] == step
    overrides = (finished / ".hydra" / "overrides.yaml").read_text()
    assert overrides.count("max_steps") == overrides.count("max_epochs") == 1


@pytest.mark.parametrize(("limit", "done"), [("epochs", "2 epochs"), ("steps", "24 steps")])
def test_limit_below_completed_steps_is_refused(
    finished: Path, limit: str, done: str, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "metrics.json").write_text("{")  # as if there were none
    with pytest.raises(SystemExit):
        run_here(train, f"resume={finished}", f"trainer.max_{limit}=1")
    assert f"trainer.max_{limit}=1: the run has done {done}" in capsys.readouterr().err
    assert (finished / "metrics.json").read_text() == "{"


def test_renamed_transcripts_are_refused(
    tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines and their order are the same, but other episodes would be held out."""
    show = shutil.copytree(corpus, tmp_path / "show")
    run_here(train, "data=files", "data.root=show", *TINY, "hydra.run.dir=run")
    for path in sorted(show.glob("?.txt")):
        path.rename(path.with_name(f"0{path.name}"))
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(SystemExit):
        run_here(train, "resume=run")
    assert "the held-out lines are not those that the run began with" in capsys.readouterr().err


def test_resume_from_another_folder(
    tmp_path: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative data.root refers to the folder where the run began."""
    write_episodes(tmp_path / "it's a show")
    run_here(train, "data=files", "data.root=it's a show", *TINY, "hydra.run.dir=run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for epochs in (3, 4):
        run_here(train, "resume=../run", f"trainer.max_epochs={epochs}")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 4


def test_changed_corpus_is_refused(
    tmp_path: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    show = write_episodes(tmp_path / "show")
    run_here(train, "data=files", "data.root=show", *TINY, "hydra.run.dir=run")
    before = {path.name for path in Path("run").rglob("*")}
    (show / "1.txt").write_text("ADA: Something else.\n")
    with pytest.raises(SystemExit):
        run_here(train, "resume=run", "trainer.max_epochs=3")
    assert "is not the corpus that the run began with" in capsys.readouterr().err
    assert before == {path.name for path in Path("run").rglob("*")}


def test_user_configs_are_found_again(
    tmp_path: Path, corpus: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder, and after a move; and with a root of null, as scripts may give it."""
    own = tmp_path / "my, conf"
    (own / "model").mkdir(parents=True)
    (own / "model/mine.yaml").write_text("defaults: [lstm]\nhidden: 7\n")
    few = ("trainer.max_steps=2", "callbacks.dashboard.lines=0", "hydra.run.dir=run")
    run_here(train, "hydra.searchpath=['my, conf']", "model=mine", "data.root=null", *few)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for steps in (3, 4):
        run_here(train, "resume=../run", f"trainer.max_steps={steps}")
    own.rename(tmp_path / "moved")
    path = f"hydra.searchpath=[file://{tmp_path}/moved]"
    run_here(train, "resume=../run", path, "trainer.max_steps=5")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["steps"] == 5


def test_last_checkpoint_is_best_without_validation(
    tmp_path: Path, corpus: Path, run_here: RunHere
) -> None:
    """Also if the run was killed just before best.ckpt was written."""
    run = tmp_path / "run"
    data = ("data=files", f"data.root={corpus}", *TINY, f"hydra.run.dir={run}")
    run_here(train, *data, "+trainer.limit_val_batches=0")
    expected = json.loads((run / "metrics.json").read_text())["test/loss"]
    for name in ("metrics.json", "checkpoints/best.ckpt"):
        (run / name).unlink()
    run_here(train, f"resume={run}")
    assert json.loads((run / "metrics.json").read_text())["test/loss"] == expected
    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()


def test_limit_inside_a_started_epoch_is_refused(
    tmp_path: Path,
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Otherwise the epoch would never be validated."""
    run = tmp_path / "run"
    with monkeypatch.context() as killed:  # in the last step of the second epoch's twelve
        killed.setattr(LastCheckpoint, "on_train_epoch_end", lambda *_: None)
        data = ("data=files", f"data.root={corpus}", *TINY, f"hydra.run.dir={run}")
        run_here(train, *data, "checkpoint.every_minutes=0")
    (run / "metrics.json").unlink()
    for limit, done in (("steps=23", "23 steps"), ("epochs=1", "1 epoch")):
        with pytest.raises(SystemExit):
            run_here(train, f"resume={run}", f"trainer.max_{limit}")
        assert f"the run has done {done} and stopped within an epoch" in capsys.readouterr().err
    run_here(train, f"resume={run}", "trainer.max_steps=24")
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["steps"], metrics["epochs"]) == (24, 2)


@pytest.mark.slow
@pytest.mark.parametrize("sent", SIGNALS)
def test_stopped_run_prints_the_resume_command(
    sent: signal.Signals, tmp_path: Path, corpus: Path
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, str(PROJECT / "train.py"), "data=files", f"data.root={corpus}"),
            *("model.hidden=12", "trainer.max_epochs=100000", "hydra.run.dir=run"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(sent)
    out, err = process.communicate()
    hint = f"stopped by {sent.name}; resume: python train.py resume=run"
    assert out.splitlines()[-1] == hint
    assert process.returncode == 128 + sent
    assert "Traceback" not in err


def test_finished_run_is_trained_longer_twice(
    finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in (3, 4):
        time.sleep(1.1)  # TensorBoard orders its files by the second in which each was made
        run_here(train, f"resume={finished}", f"trainer.max_epochs={epochs}")
        assert f"epoch {epochs}/{epochs}" in capsys.readouterr().out
    assert json.loads((finished / "metrics.json").read_text())["epochs"] == 4
    log = (finished / "train.log").read_text()
    assert [line for line in ("epoch 2/2", "epoch 3/3", "epoch 4/4") if log.count(line) != 1] == []
    curves = outcome(finished)["curves"]
    steps = [step for step, _ in curves["val/loss"]]
    assert len(steps) == 4
    assert steps == sorted(set(steps)) == [step for step, _ in curves["train/acc"]]
    assert [step for step, _ in curves["test/loss"]] == [steps[-1] + 1]  # of the longest training


@pytest.mark.usefixtures("finished")
def test_resume_latest_in_a_new_process(tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("train.py", "resume=latest", "model.hidden=5", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.hidden: fixed when the run began")


def test_run_of_a_sweep_resumes_alone(tmp_path: Path, corpus: Path, run_here: RunHere) -> None:
    """Also if `sweep=` made it a sweep."""
    small = ("model.hidden=5", "model.layers=1", "trainer.max_epochs=1", "data.batch_size=16")
    run_here(
        *(train, "sweep=writeup_search", "experiment=writeup", "data=files"),
        *(f"data.root={corpus}", "optim.lr=0.1,0.2", *small, "hydra.sweep.dir=all"),
    )
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.json")}
    run_here(train, "resume=all/1", "trainer.max_epochs=2")
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.json")} == before
    epochs = [json.loads(Path(f"all/{n}/metrics.json").read_text())["epochs"] for n in (0, 1)]
    assert epochs == [1, 2]
