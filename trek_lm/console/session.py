"""An interactive session: type the start of a line, see continuations."""

import contextlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from trek_lm.console.render import Painter
from trek_lm.errors import UserError
from trek_lm.files import cache_folder
from trek_lm.generation.api import CharLM
from trek_lm.generation.request import Request, similar_speakers
from trek_lm.terminal import printable

# The keys of a request, except speaker and prompt, which are typed as text.
SETTINGS = ("n", "max_chars", "temperature", "top_k", "top_p", "min_p", "greedy", "seed", "force")
HELP = """\
  SPOCK                  lines of Spock
  SPOCK: The captain     continuations of this line; Enter alone: others
  /temperature 0.7       sets a value; also /{settings}; off: none
  /settings, /help       show values and commands; Ctrl-D or /quit: leave\
"""


@dataclass
class Session:
    """A session; `request` has the settings and the start that was typed last."""

    model: CharLM
    request: Request
    painter: Painter

    def answer(self, typed: str) -> Iterable[str]:
        """The output for a typed line; raises UserError if it is invalid."""
        return self._command(typed[1:]) if typed.startswith("/") else self._lines(typed)

    def _lines(self, typed: str) -> Iterator[str]:
        request = self.request
        if typed.strip():
            request = replace(request, speaker=None, prompt=self._labelled(typed))
        lines = self.model.lines(**vars(request))
        # The next lines differ; a session with the same seed repeats them all.
        self.request = replace(request, seed=(request.seed + 1) % 2**32)
        name, colon, _ = (request.prompt or "").partition(":")
        speakers = self.model.speakers
        if colon and name not in speakers and (similar := similar_speakers(name, speakers)):
            yield self.painter.heading(f"{name}: not in the corpus; similar: {', '.join(similar)}")
        for line in lines:
            yield self.painter.line(line.text)

    def _labelled(self, typed: str) -> str:
        """The text, with a known speaker's name, in any case, made a label."""
        name, _, rest = typed.partition(":")
        if name.strip().upper() not in self.model.speakers:
            return typed.lstrip()
        return f"{name.strip().upper()}: {rest.lstrip()}"

    def _command(self, command: str) -> list[str]:
        name, _, value = command.strip().partition(" ")
        if name in ("", "help"):
            return [HELP.format(settings=", /".join(SETTINGS))]
        if name not in ("settings", *SETTINGS):
            raise UserError(f"/{name}: no such command; /help lists them")
        if value and name in SETTINGS:
            self._set(name, value.strip())
        keys = SETTINGS if name == "settings" else (name,)
        shown = {key: json.dumps(getattr(self.request, key)) for key in keys}
        return [f"  {key} = {'off' if text == 'null' else text}" for key, text in shown.items()]

    def _set(self, name: str, typed: str) -> None:
        if typed.startswith(("[", "{")):  # json raises RecursionError for many brackets
            raise UserError(f"/{name}: takes one value, not several")
        value: Any = typed
        with contextlib.suppress(ValueError):
            value = json.loads("null" if typed == "off" else typed)
        if value is None and getattr(Request, name, ...) is not None:
            raise UserError(f"/{name} off: must have a value")
        self.request = replace(self.request, **{name: value})


def interact(model: CharLM, request: Request, painter: Painter) -> None:
    """Answers typed lines until the end of the input; prints an error and continues."""
    session = Session(model, request, painter)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # invalid UTF-8 becomes U+FFFD, which is refused
    with _history(model.speakers):
        while True:
            try:
                typed = input("> " if sys.stdin.isatty() else "")
                if typed.strip() in ("/quit", "/exit"):
                    return
                for line in session.answer(typed):
                    print(line)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:  # cancels the typed line, or the output
                print()
            except UserError as error:
                print(painter.heading(printable(str(error))))


@contextmanager
def _history(speakers: Iterable[str]) -> Iterator[None]:
    """Arrow keys bring back earlier input, also of earlier sessions; Tab completes speakers."""
    try:
        import readline
    except ImportError:  # some systems lack it
        yield
        return

    def complete(begun: str, number: int) -> str | None:
        found = [name for name in sorted(speakers) if name.startswith(begun.upper())]
        return f"{found[number]}: " if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims("\n")
    readline.parse_and_bind("tab: complete")
    file = cache_folder() / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with contextlib.suppress(OSError):  # the history is optional
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
