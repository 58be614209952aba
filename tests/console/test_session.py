import io
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
import torch

from tests.support.commands import PROJECT
from trek_lm.console.render import Painter
from trek_lm.console.session import SETTINGS, Session, interact
from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation.api import CharLM
from trek_lm.generation.request import Request
from trek_lm.models.char_lm import RecurrentLM


@pytest.fixture
def session() -> Session:
    torch.manual_seed(0)
    charset = Charset.writeup()
    model = CharLM(RecurrentLM(len(charset), hidden=8), charset, {"KIRK": 3, "SPOCK": 1})
    request = Request(n=3, seed=1, max_chars=20)
    return Session(model, request, Painter(model.speakers, colourful=False))


def test_continuations_of_a_typed_start(session: Session) -> None:
    lines = list(session.answer("SPOCK: The captain"))
    assert len(lines) == 3
    assert all(line.startswith("SPOCK: The captain") for line in lines)
    again = list(session.answer(""))  # Enter alone: others from the same start
    assert all(line.startswith("SPOCK: The captain") for line in again)
    assert again != lines


def test_name_in_any_case_becomes_a_label(session: Session) -> None:
    assert all(line.startswith("KIRK: ") for line in session.answer("kirk"))
    assert all(line.startswith("KIRK: Go") for line in session.answer("Kirk:Go"))
    assert all(line.startswith("Stardate") for line in session.answer("Stardate"))


def test_speaker_option_applies_until_another_is_typed(session: Session) -> None:
    session.request = replace(session.request, speaker="KIRK")
    assert all(line.startswith("KIRK: ") for line in session.answer(""))
    assert all(line.startswith("SPOCK: The") for line in session.answer("SPOCK: The"))


def test_unknown_label_shows_similar_speakers(session: Session) -> None:
    said, *lines = session.answer("SPOK: The")
    assert said == "SPOK: not in the corpus; similar: SPOCK"
    assert all(line.startswith("SPOK: The") for line in lines)


def test_empty_start_draws_speakers(session: Session) -> None:
    assert all(line.startswith(("KIRK: ", "SPOCK: ")) for line in session.answer(""))


def test_settings(session: Session) -> None:
    assert session.answer("/temperature 0.7") == ["  temperature = 0.7"]
    session.answer("/top_k 5")
    session.answer("/greedy true")
    assert session.request.top_k == 5
    assert session.request.greedy is True
    session.answer("/top_k off")
    assert session.answer("/top_k") == ["  top_k = off"]
    assert session.request.temperature == 0.7
    shown = "\n".join(session.answer("/settings"))
    assert all(f"  {name} = " in shown for name in SETTINGS)
    assert all(f"/{name}" in "".join(session.answer("/help")) for name in SETTINGS)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("/temprature 1", "/temprature: no such command"),
        ("/temperature 0", "temperature=0: must be greater than 0"),
        ("/temperature off", "/temperature off"),
        ("/n lots", "n=lots"),
        ("/n [3]", "/n: takes one value"),
        pytest.param("/n " + "[" * 200_000, "/n: takes one value", id="many brackets"),
        ("\u20ac", "prompt: '\u20ac' at position 1"),
    ],
)
def test_invalid_input_is_refused(session: Session, typed: str, message: str) -> None:
    before = session.request
    with pytest.raises(UserError, match=message):
        list(session.answer(typed))
    assert session.request == before


@pytest.fixture
def answers(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[[TextIO], str]:
    """The output of a session for typed input."""

    def shown(typed: TextIO) -> str:
        monkeypatch.setenv("TREK_LM_CACHE", str(tmp_path))
        monkeypatch.setattr("sys.stdin", typed)
        interact(session.model, session.request, session.painter)
        return capsys.readouterr().out

    return shown


def test_session_continues_after_invalid_input(answers: Callable[[TextIO], str]) -> None:
    shown = answers(io.StringIO("/n 1\n\u20ac\nspock\n"))
    assert "n = 1" in shown
    assert "is not a character" in shown
    assert "SPOCK: " in shown.split("is not a character")[1]


def test_session_continues_after_invalid_utf8(answers: Callable[[TextIO], str]) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"/n 1\nKIRK: \xff\nspock\n"), encoding="utf-8")
    _, shown = answers(typed).split("prompt: '\ufffd' at position 7 is not a character")
    assert "SPOCK: " in shown


def test_session_in_a_terminal(run_folder: Path, tmp_path: Path) -> None:
    """Tab completes, Ctrl-C cancels, Up recalls input of the last session, Ctrl-D ends."""
    command = [sys.executable, str(PROJECT / "sample.py"), f"ckpt={run_folder}"]
    command += ["interactive=true", "seed=1", "max_chars=20"]
    environment = os.environ | {"TREK_LM_CACHE": str(tmp_path), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)

    def session(*typed: bytes) -> str:
        process, terminal = pty.fork()
        if not process:
            os.execve(command[0], command, environment)
        try:
            shown = _read_until(terminal, b"> ")
            for text in typed:
                line, interrupt, _ = text.partition(b"\3")
                os.write(terminal, line)
                if interrupt:  # after the echo, so that readline waits for a key
                    shown += _read_until(terminal, line)
                    time.sleep(0.2)
                    os.write(terminal, interrupt)
                shown += _read_until(terminal, b"> ")
            os.write(terminal, b"\4")
            _read_until(terminal, b"\n")
        except AssertionError:
            os.kill(process, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(process, 0)
            os.close(terminal)
        assert os.waitstatus_to_exitcode(status) == 0
        return shown.decode()

    (tmp_path / "history").write_text("/temperature 0.7\n")
    shown = session(b"br\tHold\n", b"half a lin\3", b"\033[A\033[A\n")
    assert shown.count("BRAN:\033[22m Hold") == 3  # coloured, the label bold
    assert shown.count("temperature = 0.7") == 1
    assert "BRAN: Hold" in (tmp_path / "history").read_text()


def _read_until(terminal: int, end: bytes) -> bytes:
    text, deadline = b"", time.monotonic() + 120
    while not text.endswith(end):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, text
        text += os.read(terminal, 1024)
    return text
