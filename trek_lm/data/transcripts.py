"""From transcript files to spoken lines, whatever their folder, encoding and format."""

import codecs
import re
from pathlib import Path

from trek_lm.data.lines import HEADER, LOG, ORPHAN, SILENT, Line, Report, count
from trek_lm.data.script import read_script
from trek_lm.errors import UserError


def read_lines(root: Path) -> tuple[list[Line], Report]:
    """Reads every `.txt` under a folder, or one file, in natural order of their names.

    Raises UserError when the path is missing, holds no transcript, or no line with a speaker.
    """
    paths = transcript_paths(root)
    report, lines = Report(), list[Line]()
    for path in paths:
        found = _read_file(path, path.stem if path == root else _episode_name(path, root), report)
        lines.extend(found)
    if not lines:
        raise UserError(
            f"{root}: no line with a speaker in {count(report.files, 'file')} "
            "(a speech looks like 'KIRK: Engage.', the speaker in capitals)"
        )
    return lines, report


def transcript_paths(root: Path) -> list[Path]:
    """The transcript files of a folder (its `.txt`, at any depth), or the one file given."""
    if not root.exists():
        raise UserError(f"{root}: no such file or folder (set data.root)")
    if root.is_file():
        if root.stat().st_size == 0:
            raise UserError(f"{root}: the file is empty")
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

    def skip(reason: str, physical: str) -> None:
        report.skipped[reason] += 1
        if reason in (HEADER, ORPHAN, LOG, SILENT) and len(examples) < 3:
            examples.append(physical[:60])

    lines = list(read_script(text, episode, skip))
    for line in lines:
        report.add(line)
    report.files += 1
    # Real transcripts have a speech every 87 bytes; one in 600 means the format is another.
    if text.strip() and (not lines or len(lines) * 600 < len(text) - 600):
        report.warnings.append(
            f"{path}: only {count(len(lines), 'line')} with a speaker in {len(text):,} characters"
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
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data or control > len(data[:65536]) // 100:
        raise UserError(f"{path}: not a text file (it holds binary data)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        report.warnings.append(f"{path}: not UTF-8, read as Latin-1")
    try:  # as Windows writes it: Latin-1 with quotes and dashes where that has control codes
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


_CONTROL_BYTES = [bytes([code]) for code in range(32) if chr(code) not in "\t\n\f\r\x1b"]
