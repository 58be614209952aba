"""Sweeps with Hydra's launchers, on one machine."""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.support.commands import Cli
from trek_lm.runs.folder import read_metrics

pytestmark = pytest.mark.slow

SWEEP = ("train.py", "-m", "model.hidden=5,7", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")

# Simulates Slurm's job arrays on this machine: keeps the submitted file and runs its tasks one
# after the other when the submitting command has returned.
SBATCH = """
import os, pathlib, re, shutil, subprocess, sys
script = pathlib.Path(sys.argv[-1])
shutil.copy(script, "submitted.sh")
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script.read_text()).groups())
if os.fork() == 0:
    os.setsid()
    for name in ("stdin", "stdout", "stderr"):
        os.dup2(os.open(os.devnull, os.O_RDWR), getattr(sys, name).fileno())
    for task in range(first, last + 1):
        task_is = {"SLURM_ARRAY_JOB_ID": "4242", "SLURM_ARRAY_TASK_ID": str(task)}
        one = {"SLURM_JOB_ID": str(4242 + task), "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
        alone = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
        where = {"SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost"}
        subprocess.run(["bash", script], env={**os.environ, **task_is, **one, **alone, **where})
else:
    print("Submitted batch job 4242")
"""
SRUN = """
import os, sys
command = sys.argv[next(n for n, word in enumerate(sys.argv) if "bin/python" in word):]
os.execv(command[0], command)
"""
SACCT = "print('JobID|State|NodeList')"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands that submitit calls."""
    if shutil.which("sbatch"):
        pytest.skip("there is a Slurm here, and this test would submit to it")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (programs / name).write_text(f"#!{sys.executable}\n{text}")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


def check(folder: Path) -> None:
    """Checks for two finished runs and the leaderboard."""
    assert [read_metrics(folder / member)["status"] for member in "01"] == ["finished"] * 2
    assert (folder / "leaderboard.md").read_text().count("| finished |") == 2


def test_joblib_launcher(tmp_path: Path, corpus: Path, run_cli: Cli) -> None:
    source = ("data=files", f"data.root={corpus}", "hydra/launcher=joblib")
    done = run_cli(*SWEEP, *source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "sweep")
    # The runs share the terminal, so each line has the number of its run.
    scores = sorted(line for line in done.stdout.splitlines() if "test accuracy" in line)
    assert [line[:4] for line in scores] == ["#0: ", "#1: "]


def test_submitit_local_launcher(tmp_path: Path, corpus: Path, run_cli: Cli) -> None:
    source = ("data=files", f"data.root={corpus}", "hydra/launcher=submitit_local")
    done = run_cli(*SWEEP, *source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "sweep")


@pytest.mark.usefixtures("slurm")
def test_submitit_slurm_launcher(tmp_path: Path, corpus: Path, run_cli: Cli) -> None:
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu")
    asked = ("hydra.launcher.gpus_per_node=1", "hydra.launcher.timeout_min=90")
    done = run_cli(*(*SWEEP, "data=files", f"data.root={corpus}", *launcher, *asked), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "sweep")
    submitted = (tmp_path / "submitted.sh").read_text()
    for line in ("array=0-1%2", "partition=gpu", "gpus-per-node=1", "time=90", "nodes=1"):
        assert f"#SBATCH --{line}\n" in submitted
    assert submitted.rstrip().splitlines()[-1].startswith("srun ")


def test_ray_launcher(tmp_path: Path, corpus: Path, run_cli: Cli) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    source = ("data=files", f"data.root={corpus}", "hydra/launcher=ray")
    done = run_cli(*SWEEP, *source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "sweep")
