"""Writing with a model: type the start of a line, see how it might go on."""

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
from trek_lm.generation.request import Request, near_speakers
from trek_lm.terminal import printable

# Of a request, all but speaker and prompt, which are what one types.
SETTINGS = ("n", "max_chars", "temperature", "top_k", "top_p", "min_p", "greedy", "seed", "force")
HELP = """\
  SPOCK                  how a line of Spock's might go
  SPOCK: The captain     how this one might go on; Enter alone: other ways
  /temperature 0.7       so too /{settings}; off: without it
  /settings, /help       Ctrl-D or /quit: leave\
"""


@dataclass
class Session:
    """What has been set, and what was typed last: both stand in the request."""

    model: CharLM
    request: Request
    painter: Painter

    def answer(self, typed: str) -> Iterable[str]:
        """What there is to say to a typed line; raises UserError for what it can't read."""
        return self._command(typed[1:]) if typed.startswith("/") else self._lines(typed)

    def _lines(self, typed: str) -> Iterator[str]:
        request = self.request
        if typed.strip():
            request = replace(request, speaker=None, prompt=self._labelled(typed))
        lines = self.model.lines(**vars(request))
        # The next ones are other ones, yet the same again in a session with the same seed.
        self.request = replace(request, seed=(request.seed + 1) % 2**32)
        name, colon, _ = (request.prompt or "").partition(":")
        speakers = self.model.speakers
        if colon and name not in speakers and (near := near_speakers(name, speakers)):
            yield self.painter.heading(f"{name}: not in the corpus; near: {', '.join(near)}")
        for line in lines:
            yield self.painter.line(line.text)

    def _labelled(self, typed: str) -> str:
        """A known speaker's name, in any case, becomes the label of a line."""
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
        if typed.startswith(("[", "{")):  # of many brackets json makes a RecursionError
            raise UserError(f"/{name}: takes one value, not several")
        value: Any = typed
        with contextlib.suppress(ValueError):
            value = json.loads("null" if typed == "off" else typed)
        if value is None and getattr(Request, name, ...) is not None:
            raise UserError(f"/{name} off: it needs a value")
        self.request = replace(self.request, **{name: value})


def interact(model: CharLM, request: Request, painter: Painter) -> None:
    """Reads lines until the end of the input; one that can't be read is answered in a line."""
    session = Session(model, request, painter)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what isn't UTF-8 is no character of the model
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
            except KeyboardInterrupt:  # leaves the line, or the lines being written
                print()
            except UserError as error:
                print(painter.heading(printable(str(error))))


@contextmanager
def _history(speakers: Iterable[str]) -> Iterator[None]:
    """Arrow keys through what was typed before, and Tab through speakers."""
    try:
        import readline
    except ImportError:  # not on every system
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
        with contextlib.suppress(OSError):  # a history that can't be kept is no reason to fail
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
