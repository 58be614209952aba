"""Finds and decodes transcript files, and reads them as episodes."""

import codecs
import os
import re
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from trek_lm.data.cache import cached
from trek_lm.data.formats.registry import FORMATS, choose
from trek_lm.data.lines import Episode, Reading, Reason, Report
from trek_lm.errors import UserError
from trek_lm.terminal import count

LARGEST = 2**30  # bytes per file
SUFFIXES = (".txt", ".csv", ".json", ".html", ".htm")


def read_transcripts(root: Path, reading: Reading = Reading()) -> tuple[list[Episode], Report]:
    """Reads one file, or every transcript in a folder, in natural order of their names.

    Raises UserError if the path is missing or has no line with a speaker, or a file is too large.
    """
    paths = transcript_paths(root)
    for path in paths:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: more than 1 GiB: split it into several files")
    return cached(paths, root, reading, lambda: _read_all(paths, root, reading))


def transcript_paths(root: Path) -> list[Path]:
    """The transcript files in a folder, by suffix and at any depth, or the given file."""
    if not root.exists():
        raise UserError(f"{root}: no such file or folder (set data.root)")
    if root.is_file():
        if root.stat().st_size == 0:
            raise UserError(f"{root}: the file is empty")
        return [root]
    if not root.is_dir():
        raise UserError(f"{root}: neither a file nor a folder")
    # A corpus folder may contain a README or a licence; hidden files are never transcripts.
    names, visited, failed = list[str](), set[str](), list[OSError]()
    for folder, inner, files in os.walk(root, onerror=failed.append, followlinks=True):
        if (real := os.path.realpath(folder)) in visited:  # such as a link to a parent folder
            inner.clear()
            continue
        visited.add(real)
        # Links last, so that a folder that is no link keeps its name.
        shown = [(Path(folder, name).is_symlink(), name) for name in inner if name[0] != "."]
        inner[:] = [name for _, name in sorted(shown)]
        names += [
            f"{folder}/{name}"
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    if failed:
        raise UserError(
            f"{failed[0].filename}: cannot be read ({failed[0].strerror}); to skip this folder, "
            "put a dot before its name"
        )
    paths = [path for name in sorted(names, key=_natural) if (path := Path(name)).is_file()]
    if not paths:
        raise UserError(f"{root}: no transcript in this folder ({', '.join(SUFFIXES)})")
    return paths


def _natural(name: str) -> list[tuple[str, int]]:
    """A sort key that puts `2` before `10`."""
    pairs = re.findall(r"(\D*)(\d*)", name)
    return [*((text, int(number or 0)) for text, number in pairs), (name, 0)]  # 1 before 01


def _read_all(paths: list[Path], root: Path, reading: Reading) -> tuple[list[Episode], Report]:
    report = Report()
    episodes = dict[str, str]()
    for path in paths:
        name = path.stem if path == root else path.relative_to(root).with_suffix("").as_posix()
        for episode, text in _read_file(path, name, reading, report):
            unique, number = episode, 1
            while unique in episodes:  # two files with one name, such as 1.html and 1.txt
                number += 1
                unique = f"{episode} ({number})"
            episodes[unique] = text
    report.episodes = len(episodes)
    report.characters = sum(map(len, episodes.values()))
    if reading.series and not any(FORMATS[name].has_series for name in report.formats):
        raise UserError(
            f"data.series={','.join(reading.series)}: none of these files holds several series; "
            "remove data.series"
        )
    if not report.lines:
        raise UserError(
            f"{root}: no line with a speaker in {count(report.files, 'file')} (a speech looks like "
            "'KIRK: Engage.'; for 'Kirk: Engage.' add data.labels=mixed, for a book "
            "data.format=text data.batching=stream data.split=position)"
        )
    return [Episode(name, text) for name, text in episodes.items()], report


def _read_file(path: Path, name: str, reading: Reading, report: Report) -> Iterator[Episode]:
    text = _decode(path, report)
    format_name = choose(text, reading.format)
    chosen = FORMATS[format_name]
    reported: list[tuple[Reason, str]] = []
    lines = 0
    try:
        read = chosen.read(text, name, lambda *line: reported.append(line), reading)
        for episode, group in groupby(read, key=attrgetter("episode")):
            spoken = list(group)
            lines += len(spoken)
            report.speakers.update(line.speaker for line in spoken if line.speaker)
            yield Episode(episode, "".join([line.render() for line in spoken]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    unknown = [line[:40] for reason, line in reported if reason == Reason.UNKNOWN_LABEL]
    skipped = [(reason, line) for reason, line in reported if reason != Reason.UNKNOWN_LABEL]
    report.skipped.update(reason for reason, _ in skipped)
    report.lines += lines
    report.files += 1
    report.formats[format_name] += 1
    if chosen.note:
        report.notes.append(f"{path}: {chosen.note}")
    directions = (Reason.SCENE, Reason.DIRECTION)
    examples = [line[:60] for reason, line in skipped if reason not in directions][:3]
    # Real transcripts have a speech every 87 bytes; one in 600 suggests a wrong format.
    if format_name != "text" and text.strip() and (not lines or lines * 600 < len(text) - 600):
        report.warnings.append(
            f"{path}: only {count(lines, 'line')} with a speaker in {len(text):,} characters "
            f"(data.format={format_name}, data.labels={reading.labels})"
            + (f"; skipped, for example: {' | '.join(examples)}" if examples else "")
        )
    elif len(unknown) * 50 > lines:
        report.warnings.append(
            f"{path}: {count(len(unknown), 'line')} of {lines:,} may have speakers that were not "
            f"recognised, for example: {' | '.join(unknown[:3])} (see data.labels)"
        )


def _decode(path: Path, report: Report) -> str:
    """The text of a file, with newlines as its only line endings."""
    data = path.read_bytes()
    if not data.strip():
        report.warnings.append(f"{path}: the file is empty")
    head = data[:4096]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    elif b"\0" in data or sum(map(head.count, _CONTROL_BYTES)) > len(head) // 100:
        raise UserError(f"{path}: not a text file (it holds binary data)")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            report.warnings.append(f"{path}: not UTF-8, read as Windows-1252")
            text = _windows_text(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _windows_text(data: bytes) -> str:
    try:  # Latin-1, but with quotes and dashes in place of control codes
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


_CONTROL_BYTES = [bytes([code]) for code in range(32) if chr(code) not in "\t\n\f\r\x1b"]
