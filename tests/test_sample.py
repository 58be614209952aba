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


BAD: list[tuple[list[str], str]] = [
    (["speaker=T'PAU"], "speaker=T'PAU: not in the corpus; those who speak most: ADA, BRAN"),
    (["speaker=BRAM"], "near: BRAN"),
    (["prompt=ADA: \u20ac5"], "'\u20ac' at position 6"),
    (["temperature=0"], "temperature=0: must be a number above 0"),
    (["temperature=-1"], "temperature=-1"),
    (["temperature=hot"], "temperature=hot"),
    (["n=0"], "n=0"),
    (["ckpt=missing.ckpt"], r"missing\.ckpt: no such file"),
    (["ckpt=outputs"], r"no checkpoints/best\.ckpt"),
    (["ckpt={run}/metrics.json"], r"metrics\.json: not a checkpoint"),
    (["outputs=elsewhere"], "no trained run here"),
    (["volume=11"], "Could not override 'volume'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_a_mistake_gets_one_line(
    arguments: list[str],
    message: str,
    trained: tuple[Path, str],
    run_folder: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained[0])
    with pytest.raises(SystemExit) as left:
        run_here(sample, *(a.format(run=run_folder) for a in arguments))
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.match(f"error: .*{message}", printed.err)
    assert len(printed.err.splitlines()) == 1, printed.err


def test_a_mistake_in_a_process_of_its_own(trained: tuple[Path, str], run_cli: Cli) -> None:
    done = run_cli("sample.py", "speaker=SPOCK", cwd=trained[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "error: speaker=SPOCK: not in the corpus; those who speak most: ADA, BRAN\n"
    )
