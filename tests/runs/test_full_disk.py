"""Full and read-only disks: one line, exit code 2, and an intact last checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.commands import PROJECT, Cli
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST, LAST, read_metrics

pytestmark = pytest.mark.slow


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    try:
        mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system takes root")
    yield tmp_path
    subprocess.run(["umount", tmp_path / "run"], check=False, capture_output=True)
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.fixture
def training(disk: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on that disk, after its first epoch."""
    saves = ("checkpoint.every_minutes=0", "hydra.run.dir=run")
    with subprocess.Popen(
        [
            sys.executable,
            PROJECT / "train.py",
            "model.hidden=32",
            "trainer.max_epochs=1000",
            *saves,
        ],
        cwd=disk,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        while not (disk / "run" / BEST).exists():
            time.sleep(0.1)
            assert process.poll() is None
        yield process
        process.kill()


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize("how", ["full", "unwritable"])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5])
def test_run_on_a_failing_disk_ends_and_resumes(
    how: str, seconds: float, disk: Path, training: subprocess.Popen[str], run_cli: Cli
) -> None:
    run = disk / "run"
    time.sleep(seconds)
    if how == "full":
        fill(disk)
        reason = "No space left on device"
    else:
        # A mount does not become read-only while a file is open for writing.
        training.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, training.pid, os.WSTOPPED)
        mount("--bind", run, run)
        mount("-o", "remount,bind,ro", run)
        training.send_signal(signal.SIGCONT)
        reason = "Read-only file system"
    out, err = training.communicate(timeout=60)
    assert training.returncode == 2
    assert err.startswith("error: ")
    assert err.endswith(f": {reason}\n")
    assert len(err.splitlines()) == 1, err
    assert (
        out.splitlines()[-1] == "the last checkpoint is intact; resume: python train.py resume=run"
    )
    for name in (BEST, LAST):
        CharLM.load(run / name)
    if how == "full":
        (disk / "filler").unlink()
    else:
        subprocess.run(["umount", run], check=True)
    epochs = torch.load(run / LAST, weights_only=True)["recorder"]["epochs"] + 1
    done = run_cli("train.py", "resume=run", f"trainer.max_epochs={epochs}", cwd=disk)
    assert done.returncode == 0, done.stderr
    assert read_metrics(run)["epochs"] == epochs


def test_full_disk_at_the_start(disk: Path, run_cli: Cli) -> None:
    fill(disk)
    done = run_cli("train.py", "model.hidden=32", cwd=disk)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(": No space left on device\n")
    assert len(done.stderr.splitlines()) == 1


def test_full_disk_while_sampling(disk: Path, run_folder: Path, run_cli: Cli) -> None:
    (disk / "lines.txt").write_text("mine\n")
    fill(disk)
    where = ("n=500", f"ckpt={run_folder}", "out=lines.txt", "overwrite=true")
    done = run_cli("sample.py", *where, cwd=disk)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(": No space left on device\n")
    assert (disk / "lines.txt").read_text() == "mine\n"
