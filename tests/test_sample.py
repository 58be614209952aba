"""`python sample.py` as a user types it."""

import re
from pathlib import Path

import pytest

import sample
from tests.conftest import Cli, RunHere


def test_lines_of_the_newest_run(trained: tuple[Path, str], run_cli: Cli) -> None:
    before = sorted(trained[0].rglob("*"))
    done = run_cli("sample.py", cwd=trained[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert all(re.match("(ADA|BRAN): ", line) for line in lines)
    assert sorted(trained[0].rglob("*")) == before  # a sample leaves no folder


def test_options(
    trained: tuple[Path, str],
    run_folder: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def sampled(*arguments: str) -> list[str]:
        run_here(sample, *arguments)
        return capsys.readouterr().out.splitlines()

    monkeypatch.chdir(trained[0])
    ckpt = f"ckpt={run_folder}/checkpoints/best.ckpt"
    options = (ckpt, "speaker=BRAN", "n=5", "temperature=0.5", "seed=1")
    lines = sampled(*options)
    assert len(lines) == 5
    assert all(line.startswith("BRAN: ") for line in lines)
    assert sampled(*options) == lines
    prompted = sampled("prompt=ADA: Well, I'm", "n=2", "max_chars=3")
    assert all(line.startswith("ADA: Well, I'm") for line in prompted)
    both = sampled("speaker=[ADA,BRAN]", "n=2")
    assert [line.split(":")[0] for line in both] == ["ADA", "BRAN"]
