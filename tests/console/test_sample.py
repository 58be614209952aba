"""`python sample.py` with arguments as typed by a user."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sample
from tests.support.commands import PROJECT, Cli, RunHere
from trek_lm.generation.api import CharLM

Sampled = Callable[..., list[str]]


@pytest.fixture
def sampled(
    run_folder: Path,
    run_here: RunHere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Sampled:
    """The lines that a command prints, by the tiny model unless `ckpt=` is given."""

    def run(*arguments: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        named = any(argument.startswith("ckpt=") for argument in arguments)
        run_here(sample, *([] if named else [f"ckpt={run_folder}"]), *arguments)
        return capsys.readouterr().out.splitlines()

    return run


def test_default_is_ten_lines_of_the_newest_run(trained: tuple[Path, str], run_cli: Cli) -> None:
    before = sorted(trained[0].rglob("*"))
    done = run_cli("sample.py", cwd=trained[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert all(re.match("(ADA|BRAN): ", line) for line in lines)
    assert "\033" not in done.stdout
    assert sorted(trained[0].rglob("*")) == before  # no folder is created


@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        ("speaker=T'PAU", "T'PAU: "),
        ("prompt=KIRK: I'm", "KIRK: I'm"),
        ("prompt=KIRK: Go!", "KIRK: Go!"),
        ("prompt=KIRK: Well, Jim", "KIRK: Well, Jim"),
    ],
)
def test_text_values_are_literal(sampled: Sampled, typed: str, begins: str) -> None:
    lines = sampled(typed, "force=true", "n=2", "max_chars=5")
    assert len(lines) == 2
    assert all(line.startswith(begins) for line in lines)


def test_path_values_are_literal(
    sampled: Sampled, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    ckpt = "outputs/sweeps/x/model.hidden=100 (1)/checkpoints/best.ckpt"
    (tmp_path / ckpt).parent.mkdir(parents=True)
    shutil.copy(run_folder / "checkpoints" / "best.ckpt", tmp_path / ckpt)
    assert sampled(f"ckpt={ckpt}", "out=~/x.txt", "seed=1") == []
    expected = sampled("seed=1")
    assert (tmp_path / "home" / "x.txt").read_text() == "\n".join(expected) + "\n"


def test_seed_determines_lines(sampled: Sampled) -> None:
    options = ("speaker=BRAN", "n=5", "temperature=0.5", "seed=1")
    lines = sampled(*options)
    assert len(lines) == 5
    assert all(line.startswith("BRAN: ") for line in lines)
    assert sampled(*options) == lines
    assert sampled(*options[:3]) != lines


def test_speakers_in_turn_and_a_prompt(sampled: Sampled) -> None:
    lines = sampled("speaker=[ADA,BRAN]", "prompt=I", "n=2", "max_chars=3")
    assert [line.partition("I")[0] for line in lines] == ["ADA: ", "BRAN: "]
    assert all(len(line) <= len("BRAN: I") + 3 for line in lines)


def test_filters(sampled: Sampled) -> None:
    greedy = sampled("speaker=ADA", "greedy=true", "n=1", "max_chars=40")
    assert len(greedy[0]) > len("ADA: ")
    for narrow in ("top_k=1", "top_p=0.000001", "min_p=1"):
        assert sampled("speaker=ADA", narrow, "n=1", "max_chars=40", "temperature=3") == greedy


def test_block_per_temperature(sampled: Sampled) -> None:
    lines = sampled("temperature=[0.2,1.5]", "n=2", "seed=3", "speaker=ADA")
    low = sampled("temperature=0.2", "n=2", "seed=3", "speaker=ADA")
    high = sampled("temperature=1.5", "n=2", "seed=3", "speaker=ADA")
    assert lines == ["temperature 0.2", *low, "", "temperature 1.5", *high]


def test_jsonl(sampled: Sampled, run_folder: Path) -> None:
    """The lines are the same as in plain text, and their log-probability equals their score."""
    options = ("n=4", "seed=3", "temperature=[0.5,0.9]")
    rows = [json.loads(line) for line in sampled(*options, "format=jsonl")]
    assert [row["text"] for row in rows[:4]] == sampled("n=4", "seed=3")
    assert [row["temperature"] for row in rows] == [0.5] * 4 + [0.9] * 4
    assert all(row["seed"] == 3 for row in rows)
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    for row in rows:
        start = f"{row['speaker']}: "
        bits = lm.score(row["text"]).bits[len(start) - 1 :][:500]  # where a line is cut
        assert row["log_prob"] == pytest.approx(-sum(bits) * math.log(2), abs=1e-9)
        assert row["bits_per_char"] == pytest.approx(sum(bits) / len(bits), abs=1e-9)


def test_stream_prints_the_same_text(sampled: Sampled) -> None:
    assert sampled("stream=true", "n=3", "seed=3") == sampled("n=3", "seed=3")


def test_out_file_is_not_overwritten(
    sampled: Sampled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "lines.txt"
    there.write_text("mine")
    with pytest.raises(SystemExit):
        sampled("out=lines.txt")
    assert "out=lines.txt: exists; overwrite=true replaces it" in capsys.readouterr().err
    assert there.read_text() == "mine"
    sampled("out=lines.txt", "overwrite=true", "n=2")
    assert there.read_text().count("\n") == 2
    assert list(tmp_path.iterdir()) == [there]


def test_scores(sampled: Sampled, run_folder: Path, tmp_path: Path) -> None:
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    line = "ADA: Reading 3 of watch 2, all well."
    bits = lm.score(line).bits_per_char
    assert sampled("score=true", f"prompt={line}") == [f"{bits:.3f}  {line}"]
    assert sampled("score=true", "speaker=ADA", "prompt=Reading 3 of watch 2, all well.") == [
        f"{bits:.3f}  {line}"
    ]
    both = sampled("score=true", "speaker=[ada,BRAN]", "prompt=No.")
    assert [text.split("  ")[1] for text in both[:2]] == ["ADA: No.", "BRAN: No."]
    (tmp_path / "lines.txt").write_text(f"{line}\n\nBRAN: No.\n")
    first, second, total = sampled("score_file=lines.txt")
    assert first == f"{bits:.3f}  {line}"
    assert second.endswith("  BRAN: No.")
    assert total.endswith(f"{len(line) + len('BRAN: No.')} characters in 2 lines")
    shown = sampled("score=true", "prompt=ADA: No", "show=bits")
    assert shown[1].split()[:4] == ["A", "D", "A", ":"]
    assert len(shown[2].split()) == len("ADA: No")
    (row,) = sampled("score=true", "prompt=ADA: No", "show=bits", "format=jsonl")
    assert len(json.loads(row)["bits"]) == len("ADA: No")


def test_score_file_ignores_characters_outside_the_charset(
    sampled: Sampled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.txt").write_text("ADA: \u20ac5\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr(sys.stderr, "write", said.append)
        assert sampled("score_file=lines.txt")[0].endswith("ADA: 5")
    assert "score_file: ignored, not in the model's charset: '\u20ac'" in "".join(said)


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of a POSIX system")
def test_closed_pipe_ends_quietly(run_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "sample.py"), f"ckpt={run_folder}", "n=100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of a POSIX system")
def test_ctrl_c_ends_the_line(run_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "sample.py"), f"ckpt={run_folder}"]
    command += ["stream=true", "n=100000", "seed=1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(200)
        process.send_signal(signal.SIGINT)
        rest, said = process.stdout.read(), process.stderr.read()
        assert process.wait() == 130
    assert said == b""
    assert rest.endswith(b"\n")


@pytest.mark.slow
def test_closed_stdout(run_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "sample.py"), f"ckpt={run_folder}", "n=2"]
    closed = ["sh", "-c", 'exec "$0" "$@" >&-', *command, "out=lines.txt"]
    done = subprocess.run(closed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"wrote {tmp_path}/lines.txt\n")
    assert len((tmp_path / "lines.txt").read_text().splitlines()) == 2
