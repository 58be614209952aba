"""The two JSON files of the Star Trek scripts on Kaggle, each with several series.

all_scripts_raw.json    {series: {episode: text}}, the text of a fan site
all_series_lines.json   {series: {episode: {character: [lines]}}}, without the order of speeches
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from trek_lm.data.formats.script import read_script, spoken
from trek_lm.data.lines import Line, Reading, Reason, Skip, straighten
from trek_lm.errors import UserError

NO_ORDER = "this format lacks the order of speeches: each character's lines are together"

_TO_FIRST_EPISODE = r'\s*\{(?:\s*"[^"]*"\s*:\s*\{\s*\}\s*,)*\s*"[^"]*"\s*:\s*\{\s*"[^"]*"\s*:\s*'
# How each file starts: `{"TOS": {"episode 0": "`, and `{"TOS": {"episode 0": {`.
RAW = re.compile(_TO_FIRST_EPISODE + '"')
LINES = re.compile(_TO_FIRST_EPISODE + r"\{")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a UTF-16 pair


def read_raw(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads `{series: {episode: text}}`; an episode is named `SERIES/EPISODE`.

    Raises UserError for JSON of another form, and for a series that the file lacks.
    """
    for name, script in _episodes(text, reading, str):
        yield from read_script(script, name, skip, reading)


def read_lines(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads `{series: {episode: {character: [lines]}}}`, one character after the other.

    Raises UserError for JSON of another form, and for a series that the file lacks.
    """
    for name, characters in _episodes(text, reading, dict):
        for character, lines in characters.items():
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise UserError(f"{name}, {character}: must be a list of lines")
            label = " ".join(straighten(character).split())
            speaker = spoken(label).upper()  # without the qualifier of `SPOCK [OC]`
            for line in lines:
                speech = spoken(" ".join(straighten(line).split()))
                if speaker and speech:
                    yield Line(speaker, speech, name)
                else:
                    skip(Reason.SILENT if speaker else Reason.ORPHAN, f"{character}: {line}")


def _episodes(text: str, reading: Reading, kind: type) -> Iterator[tuple[str, Any]]:
    """Yields name and content of each episode of the selected series."""
    try:
        content = json.loads(text)
        if _SURROGATE.search(text):  # one without its pair can't be encoded as UTF-8
            whole = json.dumps(content, ensure_ascii=False).encode("utf-16", "surrogatepass")
            content = json.loads(whole.decode("utf-16", "replace"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError('not the form {"SERIES": {"EPISODE": ...}}')
    for series in dict.fromkeys(reading.series or content):
        if series not in content:
            raise UserError(
                f"data.series={series} is not in this file; it has {', '.join(content)}"
            )
        for episode, entry in content[series].items():
            if not isinstance(entry, kind):
                raise UserError(f"{series}, {episode}: not the form of this data.format")
            yield f"{series}/{episode}", entry
