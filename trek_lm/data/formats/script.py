"""The format of transcripts typed by fans: `SPEAKER: text`, regular but not clean.

Its grammar, one physical line at a time:

    Episode Number: 1                     header, until the first scene, direction or speech
    [Bridge]                              a scene
    (The ship shakes.)                    a stage direction
    SPOCK [OC]: Check the circuit.        a speech: label, perhaps a qualifier, colon, text
    and the screen.                       the same speech, wrapped

and these typing errors of real transcripts, which are read as intended: `PIKE : Engage.`,
`VINA; The planet's`, `{Bridge]`, `BOYCE [OC}:`, `KELSO [on monitor] Bridge to`, `MITCHELL No?`,
`. SPOCK: Free, Captain?`, `(Kirk draws.) KIRK: Yeah.`, `[Field] SULU: Sorry.`, a bracket never
closed, and two speeches on one line.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from trek_lm.data.lines import Line, Reading, Reason, Skip, straighten

# A word of a label has no lower-case ASCII; `is_name` checks the case of other alphabets.
# Lengths are bounded so that no line makes matching slow.
_WORD = r"(?:Ma?c|L[ae]|D[aei]|O')?[^\Wa-z_](?:[^\Wa-z_]|[.'&/#+-]){0,30}"  # also McCOY
_NAME = rf"{_WORD}(?: (?:#?{_WORD}|[+&]|and)){{0,7}}"
_ANY_WORD = r"[^\W_](?:[^\W_]|[.'&/#+-]){0,30}"
_ANY_NAME = rf"{_ANY_WORD}(?: (?:#?{_ANY_WORD}|[+&])){{0,5}}"
_QUALIFIER = r"(?: *(?:\([^()]{0,80}\)|[\[({][^\])}:]*[\])}]?))?"
_OPENING = r"[.;,)\]}> ]*"  # stray signs before a label: `. SPOCK: Free, Captain?`
_CAPITALS = r"[A-Z][A-Z'.-]{0,30}"
_SIMPLE = r"[^:;@()\[\]{}]*"  # no bracket, no second colon: needs no further parsing
_PLAIN = re.compile(rf"({_CAPITALS}(?: {_CAPITALS})?): ({_SIMPLE}\w{_SIMPLE})")
_KNOWN_LABEL = re.compile(
    rf"{_OPENING}([A-Za-z0-9'.-]{{1,30}}(?: [A-Z0-9'.-]{{1,30}}){{0,5}}?){_QUALIFIER} *[;@] *(.*)"
)
_BARE_LABEL = re.compile(rf"({_WORD}(?: {_WORD}){{0,5}}?){_QUALIFIER} +(?=[A-Z(.']|$)(.*)")
_SCENE = re.compile(r"[\[{\]][^\[\]{}]*[\]}][ .;]*|[A-Z][\w' -]*[\]}]")
_DIRECTION = re.compile(r"\([^()]*\)[ .;]*")
_LEADING = re.compile(r"(?:\([^()]*\)|[\[{][^\[\]{}]*[\]}])\s*")
_BRACKET = re.compile(r"([(\[{])|[)\]}]")
_WORD_SIGN = re.compile(r"\w")
_LOG_ENTRY = re.compile(r"(?:['A-Z]\w*(?:'\w+)? ){1,3}log\b|star ?date\b|to be con", re.IGNORECASE)
# A line's number or time, before a label.
_NUMBER = re.compile(
    r"(?:\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?|\d{1,5}[.)]|\d{3,5})[ >-]+(?=[^\W\d_][^:]{0,40}:)"
)
_LIKE_A_LABEL = re.compile(
    r"[\"#*]*[A-Z][\w.'#-]*(?: [\w.'#-]+){0,3}[\"*]* ?(?:[(\[{][^)\]}]*[)\]}])?:(?!\S)"
)
_NEW_EPISODE = re.compile(r"\n[^\S\n]*Episode Number:", re.IGNORECASE)
# Words before a colon at the start of a line that are not a speaker's name.
_HEADING = re.compile(
    r"(?:scene|act|teaser|tag|setting|location|time|cut to|fade (?:in|out)|note|title"
    r"|episode|season|(?:original )?air ?date|stardate|transcript(?:ion)?|source"
    r"|(?:written|directed|story|teleplay|transcribed)(?: by)?)(?: [\w.]+)?",
    re.IGNORECASE,
)
_SMALL_IN_CAPITALS = re.compile(r" and(?= )|\b(?:Ma?c|L[ae]|D[aei])(?=[A-Z])")
_SMALL = ("and", "of", "the", "de", "van", "von")  # lower-case words of a `mixed` name


class _Labels:
    """Recognises the labels of speakers; one for each value of `data.labels`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.headings = kind != "capitals"  # whether `Scene: ...` could be taken for a speaker
        name = _ANY_NAME if self.headings else _NAME
        after_colon = r"(?!\S)" if self.headings else ""  # 12:30 is no label
        self.at_start = re.compile(rf"{_OPENING}({name}){_QUALIFIER} *:+{after_colon} *(.*)")
        self.later = re.compile(rf"(?<=[.!?)\]]) +({name}){_QUALIFIER} *: ")
        self.after_unclosed = re.compile(rf"\([^()]*?[.!?] (?={name}: )")

    def is_name(self, label: str) -> bool:
        """Whether a label is a name: SPOCK; for `mixed` also Spock; for `any` also spock."""
        if self.kind == "capitals":
            return label.isupper() or _SMALL_IN_CAPITALS.sub("", label).isupper()
        if _HEADING.fullmatch(label) or not any(map(str.isalpha, label)):
            return False
        capitals = (word in _SMALL or not word[0].islower() for word in label.split())
        return self.kind == "any" or all(capitals)


LABELS = {kind: _Labels(kind) for kind in ("capitals", "mixed", "any")}


def read_script(
    text: str, episode: str, skip: Skip, reading: Reading = Reading()
) -> Iterator[Line]:
    """Reads one transcript; a further `Episode Number:` starts another episode.

    Calls `skip(reason, line)` for every physical line that is not part of a speech, except blank
    ones, and for lines that may be another speaker's speech.
    """
    text = straighten(text)
    # The added newline makes each match's position that of its line's start in `text`.
    marks = [mark.start() for mark in _NEW_EPISODE.finditer(f"\n{text}")]
    for number, (start, end) in enumerate(pairwise([0, *marks[1:], len(text)]), start=1):
        name = f"{episode}#{number}" if len(marks) > 1 else episode
        physical = [" ".join(line.split()) for line in text[start:end].split("\n")]
        physical = [_NUMBER.sub("", line) if line[:1].isdigit() else line for line in physical]
        yield from _Episode(name, skip, LABELS[reading.labels]).read(physical)


class _Episode:
    """Reads the physical lines of one episode; its state is the open speech."""

    def __init__(self, name: str, skip: Skip, labels: _Labels) -> None:
        self.name = name
        self.skip = skip
        self.labels = labels
        self.known: set[str] = set()  # labels seen with a colon; only these may lack one
        self.speaker: str | None = None  # None: no speech is open
        self.spoken: list[str] = []
        self.label_line = ""
        self.is_plain = False  # whether `spoken` has no directions to remove
        self.lines: list[Line] = []
        self.in_header = True
        self.in_direction = False  # a bracket from an earlier line is open

    def read(self, physical: list[str]) -> list[Line]:
        found = [_PLAIN.fullmatch(line) or self.labels.at_start.match(line) for line in physical]
        labels = [match if match and self.labels.is_name(match[1]) else None for match in found]
        self.known = {match[1].upper() for match in labels if match}
        for line, label in zip(physical, labels, strict=True):
            # A fast path: `_read_physical` would find the same.
            if label and label.re is _PLAIN and not self.in_direction:
                self._close()
                self.speaker, self.spoken, self.is_plain = label[1], [label[2]], True
            else:
                self._read_physical(line)
        self._close()
        return self.lines

    def _read_physical(self, line: str) -> None:
        if not line:
            if any(self.spoken):  # else the label has its own line: the speech follows
                self._close()
            return
        if (kind := self._unspoken(line)) is not None:
            self._close()
            self.skip(kind, line)
            return
        rest = line
        while match := _LEADING.match(rest):
            rest = rest[match.end() :]
        if match := self.labels.after_unclosed.match(rest):
            rest = rest[match.end() :]
        label = self._label(rest)
        if label is not None:
            for speaker, text in self._speeches(*label):
                self._close()
                self.speaker, self.spoken, self.is_plain = speaker, [text], False
                self.label_line = line
        elif self.in_header:
            self.skip(Reason.HEADER, line)
        elif self.speaker is None or _LOG_ENTRY.match(rest):
            self.skip(Reason.LOG if _LOG_ENTRY.match(rest) else Reason.ORPHAN, line)
            self._close()
        else:
            if _LIKE_A_LABEL.match(rest):
                self.skip(Reason.UNKNOWN_LABEL, line)
            self.spoken.append(rest)
            self.is_plain = False

    def _unspoken(self, line: str) -> Reason | None:
        """The kind of a line that is only a scene or a direction, else None."""
        if self.in_direction and self._label(line) is None:
            self.in_direction = ")" not in line
            return Reason.DIRECTION
        heading = self.labels.headings and self.labels.at_start.match(line)
        opens = line.startswith("(") and not self.labels.after_unclosed.match(line)
        # Closed on a later line, or never: a lost line is better than a spoken direction.
        self.in_direction = opens and ")" not in line
        if _SCENE.fullmatch(line) or (heading and _HEADING.fullmatch(heading[1])):
            return Reason.SCENE
        closes = _LEADING.sub("", line).partition("(")[0].rstrip(" .;").endswith(")")
        if (
            self.in_direction
            or _DIRECTION.fullmatch(line)
            or not line.strip(" .;)]}")
            or (closes and self._label(line) is None)  # the opening bracket is missing
            or (opens and not spoken(line))  # nested directions
        ):
            return Reason.DIRECTION
        return None

    def _label(self, line: str) -> tuple[str, str] | None:
        """The speaker and the text if a line starts a speech, else None."""
        if (match := self.labels.at_start.match(line)) and self.labels.is_name(match[1]):
            return match[1].upper(), match[2]
        for pattern in (_KNOWN_LABEL, _BARE_LABEL):
            if (match := pattern.match(line)) and match[1].upper() in self.known:
                return match[1].upper(), match[2]
        return None

    def _speeches(self, speaker: str, text: str) -> Iterator[tuple[str, str]]:
        """Splits `Engage. SULU: Aye, sir.` if the later label is a speaker of the episode."""
        start = 0
        for match in self.labels.later.finditer(text):
            if match[1].upper() in self.known:
                yield speaker, text[start : match.start()]
                speaker, start = match[1].upper(), match.end()
        yield speaker, text[start:]

    def _close(self) -> None:
        if self.speaker is not None:
            text = self.spoken[0] if self.is_plain else spoken(" ".join(self.spoken))
            if text:
                self.lines.append(Line(self.speaker, text, self.name))
            else:
                self.skip(Reason.SILENT, self.label_line)
        self.speaker, self.spoken, self.in_header = None, [], False


def spoken(text: str) -> str:
    """The text of a speech without directions, including nested, mismatched and open ones."""
    if _BRACKET.search(text):
        kept, start, depth = [], 0, 0
        for bracket in _BRACKET.finditer(text):
            if depth == 0:
                kept.append(text[start : bracket.start()])
            depth = depth + 1 if bracket[1] else max(0, depth - 1)
            start = bracket.end()
        if depth == 0:  # else a bracket was never closed: the rest is a direction
            kept.append(text[start:])
        text = " ".join(" ".join(kept).split())
    text = text.strip()
    return text if _WORD_SIGN.search(text) else ""
