"""A run in several processes: the same weights, one folder, no process left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import train
from tests.support.commands import PROJECT, Cli, RunHere
from tests.support.corpora import write_episodes
from trek_lm.runs.folder import read_metrics

DDP = ("trainer=ddp", "trainer.accelerator=cpu")


def children(pid: int) -> list[int]:
    """The running descendants of a process, the deepest last."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:  # it has exited
            continue
        if state != "Z":
            found.setdefault(int(parent), []).append(int(path.parent.name))
    below = found.get(pid, [])
    return below + [deeper for child in below for deeper in children(child)]


def ranks_of(pid: int) -> list[int]:
    """The processes of a run's ranks, in order."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children(pid)}
    return sorted(child for child, command in commands.items() if b"spawn_main" in command)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of two processes in the folder `run`, in its first epochs."""
    show = write_episodes(tmp_path / "show", episodes=30, lines=30)
    arguments = ("data=files", f"data.root={show}", "model.hidden=12", "hydra.run.dir=run")
    with subprocess.Popen(
        [sys.executable, PROJECT / "train.py", *arguments, *DDP, "trainer.max_epochs=10000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists():
            time.sleep(0.1)
            assert process.poll() is None
        yield process
        for pid in (process.pid, *children(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "batching", ["lines", pytest.param("lines,stream", marks=pytest.mark.slow)]
)
def test_two_processes_end_with_the_weights_of_one(
    batching: str,
    tmp_path: Path,
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each member of a sweep; the two ranks share a batch of 7 as 4 and 3."""
    monkeypatch.chdir(tmp_path)
    members = batching.split(",")
    ngrams = ("model.ngrams=3", "model.ngram_rows=64", "model.matches=[2,5]")
    arguments = (
        *("-m", f"data.batching={batching}", "data.split=episode", "data.sequence_length=20"),
        *("model.hidden=12", "model.dropout=0", "data.batch_size=7", "optim.lr=0.003", *ngrams),
        *("data=files", f"data.root={corpus}", "trainer.max_epochs=1"),
        "trainer.precision=64-true",
    )
    run_here(train, *arguments, "hydra.sweep.dir=one")
    capfd.readouterr()
    run_here(train, *arguments, *DDP, "hydra.sweep.dir=two")
    assert capfd.readouterr().out.count("epoch 1/1") == len(members)
    for member in map(str, range(len(members))):
        one, two = (tmp_path / name / member for name in ("one", "two"))
        states = [
            torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for run in (one, two)
        ]
        for key, weights in states[0].items():
            torch.testing.assert_close(states[1][key], weights, rtol=0, atol=1e-6)
        metrics = [read_metrics(run) for run in (one, two)]
        for key, value in metrics[0].items():
            if isinstance(value, float) and "second" not in key:
                assert metrics[1][key] == pytest.approx(value, rel=1e-5), key
        files = [{path.name for path in run.iterdir() if path.is_file()} for run in (one, two)]
        assert files[0] == files[1] == {"metrics.json", "samples.txt", "train.log", ".lock"}


@pytest.mark.slow
def test_budget_gives_every_rank_the_same_number_of_steps(
    tmp_path: Path, corpus: Path, run_cli: Cli
) -> None:
    small = ("data=files", f"data.root={corpus}", "model.hidden=12", "data.batch_size=7")
    done = run_cli("train.py", *DDP, *small, "budget=1s", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("budget: 1s of training is") == 1
    metrics = read_metrics(tmp_path / "run")
    assert metrics["steps"] == metrics["max_steps"] > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model.hidden=0",), "model.hidden=0: must be greater"),
        pytest.param(
            ("data=files", "data.root=show"),
            "show: no transcript in this folder",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("+trainer.val_check_interval=9999",),
            "`val_check_interval` (9999) must be",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["settings", "data", "lightning"],
)
def test_error_in_the_ranks_is_printed_once(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "show").mkdir()
    with pytest.raises(SystemExit) as left:
        run_here(train, *DDP, *arguments)
    assert left.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.slow
def test_full_error_shows_the_traceback_of_the_rank(
    tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = run_cli("train.py", *DDP, "model.hidden=0", cwd=tmp_path)
    assert "in checked_init" in done.stderr
    assert "trek_lm.errors.UserError: model.hidden=0: must be" in done.stderr.splitlines()[-1]


def test_several_nodes_need_torchrun_or_srun(
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        run_here(train, *DDP, "trainer.num_nodes=2")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: trainer.num_nodes=2: start the same command on each node")


def test_torchrun_needs_one_run_folder(
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Otherwise each rank would choose a folder and write half a run into it."""
    monkeypatch.chdir(tmp_path)
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        run_here(train, *DDP)
    assert capsys.readouterr().err == (
        "error: under torchrun or srun set hydra.run.dir=FOLDER, one for all ranks\n"
    )


@pytest.mark.slow
def test_dead_rank_ends_the_run_which_resumes_later(
    tmp_path: Path, training: subprocess.Popen[str], run_cli: Cli
) -> None:
    ranks = ranks_of(training.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 2
    assert err.splitlines()[-1] == "error: rank 1 of 2 died (SIGKILL)"
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert not (tmp_path / "run" / "metrics.json").exists()
    epochs = out.count("val loss") + 2
    done = run_cli("train.py", "resume=run", f"trainer.max_epochs={epochs}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_metrics(tmp_path / "run")["epochs"] == epochs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGINT, 130),
        (signal.SIGUSR1, 138),
        (signal.SIGKILL, -9),
    ],
)
def test_stopped_run_leaves_no_process(
    training: subprocess.Popen[str], sent: signal.Signals, code: int
) -> None:
    ranks = ranks_of(training.pid)
    training.send_signal(sent)
    out, _ = training.communicate(timeout=60)
    assert training.returncode == code
    if sent != signal.SIGKILL:
        assert re.search(r"\nstopped by SIG\w+; resume: python train.py resume=run\n$", out), out
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)
