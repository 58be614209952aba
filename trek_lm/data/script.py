"""The format of transcripts typed by fans: `SPEAKER: text`, regular but not clean.

Its grammar, one physical line at a time:

    Episode Number: 1                     header, until the first scene, direction or speech
    [Bridge]                              a scene
    (The ship shakes.)                    a stage direction
    SPOCK [OC]: Check the circuit.        a speech: label, perhaps a qualifier, colon, text
    and the screen.                       the same speech, wrapped

and the slips seen in the wild, all of them read for what was meant: `PIKE : Engage.`,
`VINA; The planet's`, `{Bridge]`, `BOYCE [OC}:`, `KELSO [on monitor] Bridge to`, `MITCHELL No?`,
`. SPOCK: Free, Captain?`, `(Kirk draws.) KIRK: Yeah.`, `[Field] SULU: Sorry.`, a bracket never
closed, and two speeches on one line.
"""

import re
from collections.abc import Iterator

from trek_lm.data.lines import DIRECTION, HEADER, LOG, ORPHAN, SCENE, SILENT, Line, Skip

# A word of a label: no lower-case ASCII; other alphabets are held to capitals by `_is_name`.
# Lengths are bounded, so that no line makes matching slow.
_WORD = r"[^\Wa-z_](?:[^\Wa-z_]|[.'&/#+-]){0,30}"
_NAME = rf"{_WORD}(?: (?:{_WORD}|[+&]|and)){{0,5}}"
_QUALIFIER = r"(?: *[\[({][^\])}:]*[\])}]?)?"
_OPENING = r"[.;,)\]}> ]*"  # stray signs before a label: `. SPOCK: Free, Captain?`
_LABEL = re.compile(rf"{_OPENING}({_NAME}){_QUALIFIER} *:+ *(.*)")
_KNOWN_LABEL = re.compile(
    rf"{_OPENING}([A-Za-z0-9'.-]{{1,30}}(?: [A-Z0-9'.-]{{1,30}}){{0,5}}?){_QUALIFIER} *[;@] *(.*)"
)
_BARE_LABEL = re.compile(rf"({_WORD}(?: {_WORD}){{0,5}}?){_QUALIFIER} +(?=[A-Z(.']|$)(.*)")
_LATER_LABEL = re.compile(rf"(?<=[.!?)\]]) +({_NAME}){_QUALIFIER} *: ")
_SCENE = re.compile(r"[\[{\]][^\[\]{}]*[\]}][ .;]*|[A-Z][\w' -]*[\]}]")
_DIRECTION = re.compile(r"\([^()]*\)[ .;]*")
_LEADING = re.compile(r"(?:\([^()]*\)|[\[{][^\[\]{}]*[\]}])\s*")
_UNCLOSED_BEFORE_LABEL = re.compile(rf"\([^()]*?[.!?] (?={_NAME}: )")
_BRACKET = re.compile(r"([(\[{])|[)\]}]")
_LOG_ENTRY = re.compile(r"(?:['A-Z]\w*(?:'\w+)? ){1,3}log\b|star ?date\b|to be con", re.IGNORECASE)
_NEW_EPISODE = re.compile(r"Episode Number:", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u00a0", "''\"\"-- ")


def read_script(text: str, episode: str, skip: Skip) -> Iterator[Line]:
    """Reads one transcript; `Episode Number:` starts a further episode in the same file.

    `skip(reason, line)` is told of every physical line that gives no speech, blank ones excepted.
    """
    physical = [_SPACE.sub(" ", line).strip() for line in text.translate(_STRAIGHT).splitlines()]
    starts = [index for index, line in enumerate(physical) if _NEW_EPISODE.match(line)]
    if len(starts) < 2:
        yield from _Episode(episode, skip).read(physical)
        return
    starts[0] = 0
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(physical)], strict=True)):
        yield from _Episode(f"{episode}#{number + 1}", skip).read(physical[start:end])


class _Episode:
    """Reads the physical lines of one episode; its state is the speech still open."""

    def __init__(self, name: str, skip: Skip) -> None:
        self.name = name
        self.skip = skip
        self.known: set[str] = set()  # labels seen with a colon: only these are read without one
        self.speaker: str | None = None  # None: no speech is open
        self.spoken: list[str] = []
        self.in_header = True
        self.in_direction = False  # a bracket opened on an earlier line is still open

    def read(self, physical: list[str]) -> Iterator[Line]:
        self.known = {
            m[1].upper() for line in physical if (m := _LABEL.match(line)) and _is_name(m[1])
        }
        for line in physical:
            yield from self._read_physical(line)
        yield from self._close()

    def _read_physical(self, line: str) -> Iterator[Line]:
        if not line:
            yield from self._close()
            return
        if (kind := self._unspoken(line)) is not None:
            if kind in (SCENE, DIRECTION):
                self.in_header = False
                yield from self._close()
            self.skip(kind, line)
            return
        rest = line
        while match := _LEADING.match(rest):
            rest = rest[match.end() :]
        if match := _UNCLOSED_BEFORE_LABEL.match(rest):
            rest = rest[match.end() :]
        label = self._label(rest)
        if label is not None:
            self.in_header = False
            for speaker, text in self._speeches(*label):
                yield from self._close()
                self._open(speaker, text, line)
        elif self.in_header:
            self.skip(HEADER, line)
        elif self.speaker is None or _LOG_ENTRY.match(rest):
            self.skip(LOG if _LOG_ENTRY.match(rest) else ORPHAN, line)
            yield from self._close()
        else:
            self.spoken.append(rest)

    def _unspoken(self, line: str) -> str | None:
        """The kind of a line that is wholly a scene or a direction, else None."""
        closes = _LEADING.sub("", line).partition("(")[0].rstrip(" .;").endswith(")")
        if self.in_direction and self._label(line) is None:
            self.in_direction = ")" not in line
            return DIRECTION
        self.in_direction = False
        if _SCENE.fullmatch(line):
            return SCENE
        if _DIRECTION.fullmatch(line) or line.strip(" .;)]}") == "":
            return DIRECTION
        if line.startswith("(") and ")" not in line and not _UNCLOSED_BEFORE_LABEL.match(line):
            # Closed further down, or never: one line of text too few beats one too many.
            self.in_direction = True
            return DIRECTION
        if closes and self._label(line) is None:
            return DIRECTION  # its end only: the opening bracket is missing
        if line.startswith("(") and not _spoken(line) and not _UNCLOSED_BEFORE_LABEL.match(line):
            return DIRECTION  # directions within a direction
        return None

    def _label(self, line: str) -> tuple[str, str] | None:
        """The speaker and the text of a line that starts a speech, else None."""
        if (match := _LABEL.match(line)) and _is_name(match[1]):
            return match[1].upper(), match[2]
        for pattern in (_KNOWN_LABEL, _BARE_LABEL):
            if (match := pattern.match(line)) and match[1].upper() in self.known:
                return match[1].upper(), match[2]
        return None

    def _speeches(self, speaker: str, text: str) -> Iterator[tuple[str, str]]:
        """Splits `Engage. SULU: Aye, sir.` where the later label is a speaker of the episode."""
        start = 0
        for match in _LATER_LABEL.finditer(text):
            if match[1].upper() in self.known:
                yield speaker, text[start : match.start()]
                speaker, start = match[1].upper(), match.end()
        yield speaker, text[start:]

    def _open(self, speaker: str, text: str, line: str) -> None:
        self.speaker, self.spoken = speaker, [text]
        if not _spoken(text):
            self.skip(SILENT, line)

    def _close(self) -> Iterator[Line]:
        text = _spoken(" ".join(self.spoken))
        if self.speaker is not None and text:
            yield Line(self.speaker, text, self.name)
        self.speaker, self.spoken = None, []


def _is_name(label: str) -> bool:
    return label.replace(" and ", " ").isupper()


def _spoken(text: str) -> str:
    """What is left of a speech without its directions: nested, mismatched and unclosed ones."""
    kept, start, depth = [], 0, 0
    for bracket in _BRACKET.finditer(text):
        if depth == 0:
            kept.append(text[start : bracket.start()])
        depth = depth + 1 if bracket[1] else max(0, depth - 1)
        start = bracket.end()
    if depth == 0:  # else one was never closed: the rest is direction
        kept.append(text[start:])
    spoken = _SPACE.sub(" ", " ".join(kept)).strip()
    return spoken if re.search(r"\w", spoken) else ""
