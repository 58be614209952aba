"""From transcript files to spoken lines: `Line(speaker, text, episode)`.

Transcripts typed by fans are regular but not clean. The grammar, one physical line at a time:

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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trek_lm.errors import UserError


class Line(NamedTuple):
    """One speech: who, what, and in which episode."""

    speaker: str  # as labelled, qualifiers dropped: "SPOCK", "T'PAU", "ALICE AND KIRK"
    text: str  # what is spoken, on one line, without directions
    episode: str  # unique in the corpus: the file's name, numbered if the file holds several


@dataclass
class Report:
    """What reading a corpus found, for people to check."""

    files: int = 0
    lines: int = 0
    characters: int = 0  # of `SPEAKER: text` and its newline, before any charset
    episodes: set[str] = field(default_factory=set)
    speakers: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> physical lines
    warnings: list[str] = field(default_factory=list)

    def add(self, line: Line) -> None:
        self.lines += 1
        self.characters += len(line.speaker) + len(line.text) + 3
        self.episodes.add(line.episode)
        self.speakers[line.speaker] += 1

    def __str__(self) -> str:
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common())
        return (
            f"{_count(self.files, 'file')}, {_count(len(self.episodes), 'episode')}, "
            f"{_count(self.lines, 'line')}, {_count(self.characters, 'character')}, "
            f"{_count(len(self.speakers), 'speaker')}; skipped: {skipped or 'nothing'}"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# What a reader gives for each physical line that is not part of a speech.
HEADER = "header"
SCENE = "scene"
DIRECTION = "stage direction"
LOG = "log entry without a speaker"
ORPHAN = "text without a speaker"
SILENT = "label with nothing spoken"

Skip = Callable[[str, str], None]  # (reason, physical line)


def read_lines(root: Path) -> tuple[list[Line], Report]:
    """Reads every `.txt` under a folder, or one file, in natural order of their names.

    Raises UserError when the path is missing, holds no transcript, or no line with a speaker.
    """
    paths = transcript_paths(root)
    report, lines = Report(), list[Line]()
    for path in paths:
        found = _read_file(path, path.stem if path == root else _episode_name(path, root), report)
        lines.extend(found)
    if report.characters == 0 and len(paths) == 1 and report.warnings:
        raise UserError(report.warnings[0])
    if not lines:
        raise UserError(
            f"{root}: no line with a speaker in {_count(report.files, 'file')} "
            "(a speech looks like 'KIRK: Engage.', the speaker in capitals)"
        )
    return lines, report


def transcript_paths(root: Path) -> list[Path]:
    """The transcript files of a folder (its `.txt`, at any depth), or the one file given."""
    if not root.exists():
        raise UserError(f"{root}: no such file or folder (set data.root)")
    if root.is_file():
        return [root]
    # A corpus folder may hold a README or a licence; hidden files are never transcripts.
    paths = [
        path
        for path in root.rglob("*.txt")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not paths:
        raise UserError(f"{root}: no .txt transcript in this folder")
    return sorted(paths, key=lambda path: _natural(path.relative_to(root).as_posix()))


def _natural(name: str) -> list[tuple[str, int]]:
    """A sort key that puts `2` before `10`, whatever order the file system lists them in."""
    pairs = re.findall(r"(\D*)(\d*)", name)
    return [*((text, int(number or 0)) for text, number in pairs), (name, 0)]  # 1 before 01


def _episode_name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _read_file(path: Path, episode: str, report: Report) -> list[Line]:
    text = _decode(path, report)
    examples: list[str] = []
    readable = {ORPHAN, LOG, SILENT}

    def skip(reason: str, physical: str) -> None:
        report.skipped[reason] += 1
        if reason in readable and len(examples) < 3:
            examples.append(physical[:60])

    lines = list(read_transcript(text, episode, skip))
    for line in lines:
        report.add(line)
    report.files += 1
    # Real transcripts have a speech every 87 bytes; one in 600 means the format is another.
    if len(text) > 1200 and len(lines) * 600 < len(text):
        report.warnings.append(
            f"{path}: only {_count(len(lines), 'line')} with a speaker in {len(text):,} characters"
            + (f"; skipped, for example: {' | '.join(examples)}" if examples else "")
        )
    return lines


def _decode(path: Path, report: Report) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.strip():
        report.warnings.append(f"{path}: the file is empty")
    control = sum(map(data[:65536].count, _CONTROL_BYTES))
    if b"\0" in data or control > len(data[:65536]) // 100:
        raise UserError(f"{path}: not a text file (it holds binary data)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        report.warnings.append(f"{path}: not UTF-8, read as Latin-1")
        return data.decode("latin-1")


_CONTROL_BYTES = [bytes([code]) for code in range(32) if chr(code) not in "\t\n\f\r\x1b"]

# A word of a label: no lower-case ASCII; other alphabets are held to capitals by `_is_name`.
_WORD = r"[^\Wa-z_](?:[^\Wa-z_]|[.'&/#+-])*"
_NAME = rf"{_WORD}(?: (?:{_WORD}|[+&]|and))*"
_QUALIFIER = r"(?: *[\[({][^\])}:]*[\])}]?)?"
_OPENING = r"[.;,)\]}> ]*"  # stray signs before a label: `. SPOCK: Free, Captain?`
_LABEL = re.compile(rf"{_OPENING}({_NAME}){_QUALIFIER} *:+ *(.*)")
_KNOWN_LABEL = re.compile(
    rf"{_OPENING}([A-Za-z0-9'.-]+(?: [A-Z0-9'.-]+)*?){_QUALIFIER} *[;@] *(.*)"
)
_BARE_LABEL = re.compile(rf"({_WORD}(?: {_WORD})*?){_QUALIFIER} +(?=[A-Z(.']|$)(.*)")
_LATER_LABEL = re.compile(rf"(?<=[.!?)\]]) +({_NAME}){_QUALIFIER} *: ")
_SCENE = re.compile(r"[\[{\]][^\[\]{}]*[\]}][ .;]*|[A-Z][\w' -]*[\]}]")
_DIRECTION = re.compile(r"\([^()]*\)[ .;]*")
_LEADING = re.compile(r"(?:\([^()]*\)|[\[{][^\[\]{}]*[\]}])\s*")
_UNCLOSED_BEFORE_LABEL = re.compile(rf"\([^()]*?[.!?] (?={_NAME}: )")
_BRACKETED = re.compile(r"[(\[{][^()\[\]{}]*[)\]}]")
_LOG_ENTRY = re.compile(r"(?:[A-Z][\w']* ?){1,3}'?s? log\b|star ?date\b|to be con", re.IGNORECASE)
_NEW_EPISODE = re.compile(r"Episode Number:", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u00a0", "''\"\"-- ")


def read_transcript(text: str, episode: str, skip: Skip) -> Iterator[Line]:
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
        if rest != line and self._label(rest) is None and self.speaker is None:
            rest = line  # a direction, then text of nobody's
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
    while (shorter := _BRACKETED.sub(" ", text)) != text:
        text = shorter
    text = re.split(r"[(\[{]", text, maxsplit=1)[0]  # never closed: the rest is direction
    text = _SPACE.sub(" ", re.sub(r"[)\]}]", " ", text)).strip()
    return text if re.search(r"\w", text) else ""
