"""The two JSON files of the Star Trek scripts on Kaggle, several series in one file.

all_scripts_raw.json    {series: {episode: text}}, the text as a fan's page has it
all_series_lines.json   {series: {episode: {character: [lines]}}}, in no order
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from trek_lm.data.formats.script import read_script, spoken
from trek_lm.data.lines import Line, Reading, Reason, Skip, straighten
from trek_lm.errors import UserError

NO_ORDER = "who speaks after whom is not in this format: each character's lines are together"

_TO_FIRST_EPISODE = r'\s*\{(?:\s*"[^"]*"\s*:\s*\{\s*\}\s*,)*\s*"[^"]*"\s*:\s*\{\s*"[^"]*"\s*:\s*'
# How a text of each starts: `{"TOS": {"episode 0": "`, and `{"TOS": {"episode 0": {`.
RAW = re.compile(_TO_FIRST_EPISODE + '"')
LINES = re.compile(_TO_FIRST_EPISODE + r"\{")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character beyond the first 65,536


def read_raw(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads `{series: {episode: text}}`; an episode is named `SERIES/EPISODE`.

    Raises UserError for other JSON, and for a series that isn't in it.
    """
    for name, script in _episodes(text, reading, str):
        yield from read_script(script, name, skip, reading)


def read_lines(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads `{series: {episode: {character: [lines]}}}`, one character after the other.

    Raises UserError for other JSON, and for a series that isn't in it.
    """
    for name, characters in _episodes(text, reading, dict):
        for character, lines in characters.items():
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise UserError(f"{name}, {character}: a list of lines is expected")
            name_on_a_line = " ".join(straighten(character).split())
            speaker = spoken(name_on_a_line).upper()  # `SPOCK [OC]` is SPOCK
            for line in lines:
                speech = spoken(" ".join(straighten(line).split()))
                if speaker and speech:
                    yield Line(speaker, speech, name)
                else:
                    skip(Reason.SILENT if speaker else Reason.ORPHAN, f"{character}: {line}")


def _episodes(text: str, reading: Reading, kind: type) -> Iterator[tuple[str, Any]]:
    """Name and content of each episode of the series asked for."""
    try:
        content = json.loads(text)
        if _HALF.search(text):  # perhaps without its other half, which no file can be written with
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
                raise UserError(f"{series}, {episode}: not the form that data.format asks for")
            yield f"{series}/{episode}", entry
