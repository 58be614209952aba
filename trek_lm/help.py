"""`--help`, made of the files in conf/: what is added there with a comment appears by itself."""

import re
from collections.abc import Iterator

from trek_lm.overrides import BASES, CONF


def help_text(name: str) -> str:
    """What `python NAME.py --help` prints.

    The comments at the top of `conf/NAME.yaml`; groups with their options, each with the first
    comment of its file; keys with the values and comments of their files; the comments at the end.
    """
    top, body, end = _parts((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = re.findall(r"^  - (\w+): (\w+)(?: +# (.*))?$", body, re.MULTILINE)
    lines = [*top, "", "Groups, one option of each: GROUP=OPTION (files in conf/GROUP/)"]
    for group, _, comment in groups:
        lines += [f"  {group:22}{comment}", *_options(group)]
    lines += ["", "Keys, as they are where nothing is given: KEY=VALUE, KEY.KEY=VALUE of one below"]
    lines += _keys(body[body.index("\n\n", body.index("defaults:")) :], "  ")
    for group, option, _ in groups:
        for text in _files(group, option):
            lines += _keys(text, f"  {group}.")
    return "\n".join([*lines, "", *end])


def _parts(text: str) -> tuple[list[str], str, list[str]]:
    """The comments at a file's top, what is between, and the comments at its end."""
    found = re.fullmatch(r"((?:#[^\n]*\n)*)(.*?)((?:^#[^\n]*\n)*)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    top, end = (
        re.sub(r"^# ?", "", part, flags=re.MULTILINE).splitlines() for part in found.group(1, 3)
    )
    return top, found[2], end


def _options(group: str) -> Iterator[str]:
    """The options of a group that can be chosen, and what each is."""
    for path in sorted((CONF / group).glob("*.yaml")):
        if path.stem != "default" or group not in BASES:
            comments = _parts(path.read_text(encoding="utf-8"))[0]
            yield f"    {path.stem:20}" + next(line for line in comments if line[0] != "@")


def _files(group: str, option: str) -> Iterator[str]:
    """The files that an option inherits from, and its own."""
    if (path := CONF / group / f"{option}.yaml").exists():  # null is none
        text = path.read_text(encoding="utf-8")
        if inherited := re.search(r"^defaults: \[(.*?)(?:, _self_)?\]", text, re.MULTILINE):
            for other in inherited[1].split(", "):
                yield from _files(group, other)
        yield text


def _keys(text: str, prefix: str) -> list[str]:
    """A file's keys as they stand in it, but for those that are Hydra's."""
    lines = [line for line in _parts(text)[1].splitlines() if line]
    shown = [line for line in lines if not re.match(r"[ -]*(_\w+_|defaults|source|plugins):", line)]
    return [prefix + line if line[0].isalpha() else f"  {line}" for line in shown]
