"""`--help`, built from the comments in conf/: a new option or key appears automatically."""

import re
from collections.abc import Iterator

from trek_lm.overrides import BASES, CONF


def help_text(name: str) -> str:
    """The text that `python NAME.py --help` prints.

    It has the comments at the top of `conf/NAME.yaml`, each group's options with the first comment
    of their files, all keys with their default values and comments, and the comments at the end.
    """
    top, body, end = _sections((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = re.findall(r"^  - (\w+): (\w+)(?: +# (.*))?$", body, re.MULTILINE)
    lines = [*top, "", "Groups: choose one option of each with GROUP=OPTION (files in conf/GROUP/)"]
    for group, _, comment in groups:
        lines += [f"  {group:22}{comment}", *_options(group)]
    lines += ["", "Keys and their defaults: set with KEY=VALUE, a nested one with KEY.KEY=VALUE"]
    lines += _keys(body[body.index("\n\n", body.index("defaults:")) :], "  ")
    for group, option, _ in groups:
        for text in _files(group, option):
            lines += _keys(text, f"  {group}.")
    return "\n".join([*lines, "", *end])


def _sections(text: str) -> tuple[list[str], str, list[str]]:
    """The comments at the top of a file, its body, and the comments at its end."""
    found = re.fullmatch(r"((?:#[^\n]*\n)*)(.*?)((?:^#[^\n]*\n)*)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    top, end = (
        re.sub(r"^# ?", "", block, flags=re.MULTILINE).splitlines() for block in found.group(1, 3)
    )
    return top, found[2], end


def _options(group: str) -> Iterator[str]:
    """A line for each option that can be chosen in a group: its name and its first comment."""
    for path in sorted((CONF / group).glob("*.yaml")):
        if path.stem != "default" or group not in BASES:
            comments = _sections(path.read_text(encoding="utf-8"))[0]
            yield f"    {path.stem:20}" + next(line for line in comments if line[0] != "@")


def _files(group: str, option: str) -> Iterator[str]:
    """The text of the files that an option inherits from, then of its own file."""
    if (path := CONF / group / f"{option}.yaml").exists():  # the option null has no file
        text = path.read_text(encoding="utf-8")
        if inherited := re.search(r"^defaults: \[(.*?)(?:, _self_)?\]", text, re.MULTILINE):
            for other in inherited[1].split(", "):
                yield from _files(group, other)
        yield text


def _keys(text: str, prefix: str) -> list[str]:
    """The lines of a file's keys, without those that only Hydra reads."""
    lines = [line for line in _sections(text)[1].splitlines() if line]
    shown = [line for line in lines if not re.match(r"[ -]*(_\w+_|defaults|source|plugins):", line)]
    return [prefix + line if line[0].isalpha() else f"  {line}" for line in shown]
