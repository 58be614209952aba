import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard import plugin_util

import sample
import train
from tests.support.commands import RunHere
from tests.support.corpora import write_episodes
from trek_lm.runs.dashboard import as_code
from trek_lm.terminal import PrintableFormatter, printable

EVIL = "\033]0;owned\a\033[2J<script>alert(1)</script> [here](http://example.org) \u202e"


@given(st.text())
def test_control_characters_are_replaced(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(unicodedata.category(c)[0] == "C" and c not in "\n\t" for c in shown)
    assert printable(shown) == shown


def test_log_lines_are_printable() -> None:
    record = logging.makeLogRecord({"msg": "label %s", "args": ("\033[2J",)})
    assert PrintableFormatter().format(record) == "label \ufffd[2J"


@given(st.text())
def test_dashboard_text_is_escaped(text: str) -> None:
    """TensorBoard's HTML of it has no links and no elements from the text."""
    html = str(plugin_util.markdown_to_safe_html(as_code(f"{text}\n{EVIL}\n{text}")))
    inside = html.removeprefix("<pre><code>").partition("</code></pre>")[0]
    assert html.startswith("<pre><code>")
    assert "<" not in inside
    assert "href" not in html.replace(inside, "")


def test_control_characters_of_transcripts_are_not_printed(
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither those of file names nor those of speakers, lines and arguments."""
    monkeypatch.chdir(tmp_path)
    show = write_episodes(tmp_path / "show\033[2J")
    orphans = "\033[31mnobody says this\n" * 40
    (show / "11\033[2J.txt").write_text(f"{orphans}ADA: Well\033[2J.\nB\033[2JRAN: \033[31mRed.\n")
    source = ("data=files", f"data.root={show}", "data.charset=all", "model.hidden=12")
    run_here(train, *source, "trainer.max_epochs=1")
    run_here(sample, "n=20", "temperature=1.5")
    for script, arguments in (
        (sample, ["speaker=\033[2J"]),
        (sample, ["ckpt=\033[2J"]),
        (train, ["data=files", "data.root=\033[2J"]),
    ):
        with pytest.raises(SystemExit):
            run_here(script, *arguments)
    printed = capsys.readouterr()
    assert "\ufffd" in printed.out
    assert printed.err.count("\ufffd") == 3
    assert "\033" not in printed.out + printed.err


@pytest.mark.parametrize("text", ["plain", "caf\u00e9\n\ttab"])
def test_printable_text_is_unchanged(text: str) -> None:
    assert printable(text) == text
