import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard import plugin_util

from tests.conftest import Cli, write_episodes
from trek_lm.runs.dashboard import as_code
from trek_lm.terminal import PrintableFormatter, printable

EVIL = "\033]0;owned\a\033[2J<script>alert(1)</script> [here](http://example.org) \u202e"


@given(st.text())
def test_nothing_is_left_that_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(unicodedata.category(c)[0] == "C" and c not in "\n\t" for c in shown)
    assert printable(shown) == shown


def test_a_log_is_printable() -> None:
    record = logging.makeLogRecord({"msg": "label %s", "args": ("\033[2J",)})
    assert PrintableFormatter().format(record) == "label \ufffd[2J"


@given(st.text())
def test_text_on_the_dashboard_is_text(text: str) -> None:
    """What TensorBoard makes of it has neither links nor elements but its own."""
    html = str(plugin_util.markdown_to_safe_html(as_code(f"{text}\n{EVIL}\n{text}")))
    inside = html.removeprefix("<pre><code>").partition("</code></pre>")[0]
    assert html.startswith("<pre><code>")
    assert "<" not in inside
    assert "href" not in html.replace(inside, "")


def test_a_transcript_that_steers_terminals(tmp_path: Path, run_cli: Cli) -> None:
    """In names of files, in labels, in lines: none of it comes out as it was."""
    show = write_episodes(tmp_path / "show\033[2J")
    orphans = "\033[31mnobody says this\n" * 40
    (show / "11\033[2J.txt").write_text(f"{orphans}ADA: Well\033[2J.\nB\033[2JRAN: \033[31mRed.\n")
    source = ("data=files", f"data.root={show}", "data.charset=all", "model.hidden=12")
    done = run_cli("train.py", *source, "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\ufffd" in done.stdout
    for arguments in (["n=20", "temperature=1.5"], ["speaker=\033[2J"], ["ckpt=\033[2J"]):
        more = run_cli("sample.py", *arguments, cwd=tmp_path)
        assert "\033" not in done.stdout + done.stderr + more.stdout + more.stderr
    more = run_cli("train.py", "data=files", "data.root=\033[2J", cwd=tmp_path)
    assert more.returncode == 2
    assert "\033" not in more.stdout + more.stderr


@pytest.mark.parametrize("text", ["plain", "caf\u00e9\n\ttab"])
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text
