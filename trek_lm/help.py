"""`--help`, made of the comments in conf/: what is added there with a comment appears by itself."""

import re
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

from trek_lm.overrides import BASES, CONF

LEFT = 30  # columns of keys and options


class Key(NamedTuple):
    """A key of a config file, with its value as it stands there and what its comment says."""

    name: str
    value: str
    comment: str


def help_text(name: str) -> str:
    """What `python NAME.py --help` prints.

    The comments at the top of `conf/NAME.yaml`; groups with their options, each with the first
    line of its file; keys as they are where nothing is given; the comments at the file's end.
    """
    top, body, end = _parts(CONF / f"{name}.yaml")
    groups = re.findall(r"^  - (\w+): (\w+)(?: +# (.*))?$", body, re.MULTILINE)
    lines = [*top, "", "Groups, one option of each (files in conf/GROUP/)"]
    for group, _, comment in groups:
        lines += _entry(f"  {group}=", comment)
        for path in sorted((CONF / group).glob("*.yaml")):
            if path.stem != "default" or group not in BASES:
                said = next(line for line in [*_parts(path)[0], ""] if not line.startswith("@"))
                lines += _entry(f"    {path.stem}", said)
    lines += ["", "Keys, as they are where nothing is given"]
    chosen = (key for group, option, _ in groups for key in _chosen(group, option))
    for item in [*_keys(body, ""), *chosen]:
        if isinstance(item, str):
            lines += ["", item]
        elif item.comment or "${" not in item.value:  # else it hands on another key
            lines += _entry(f"  {item.name}={item.value}", item.comment)
    return "\n".join([*lines, "", *end])


def _parts(path: Path) -> tuple[list[str], str, list[str]]:
    """The comments at a file's top, what is between, and the comments at its end."""
    text = path.read_text(encoding="utf-8")
    found = re.fullmatch(r"((?:#[^\n]*\n)*)(.*?)((?:^#[^\n]*\n)*)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    top, end = (
        re.sub(r"^# ?", "", part, flags=re.MULTILINE).splitlines() for part in found.group(1, 3)
    )
    return top, found[2], end


def _chosen(group: str, option: str) -> list[Key]:
    """The keys of an option and of those that it inherits from, each once."""
    path = CONF / group / f"{option}.yaml"
    if not path.exists():  # null
        return []
    _, body, _ = _parts(path)
    inherited = re.search(r"^defaults: \[(.*)\]", body, re.MULTILINE)
    keys: dict[str, Key] = {}
    for name in inherited[1].split(", ") if inherited else ["_self_"]:
        for key in _keys(body, group) if name == "_self_" else _chosen(group, name):
            if isinstance(key, Key):
                said = key.comment or (keys[key.name].comment if key.name in keys else "")
                keys[key.name] = key._replace(comment=said)
    return list(keys.values())


def _keys(body: str, prefix: str) -> list[Key | str]:
    """A file's keys that have a value, and the comments at the start of a line between them."""
    items: list[Key | str] = []
    around: list[tuple[int, str]] = []  # indentation and name of the keys that a line stands in
    for line in body.splitlines():
        code, _, comment = (re.sub(r"(^|\s+)# ?", "\0", line, count=1)).partition("\0")
        given = re.fullmatch(r"( *)(\w+):(?: +(.*))?", code)
        if line.startswith("#"):
            items.append(comment)
        elif not code and items and isinstance(items[-1], Key):  # a comment goes on
            items[-1] = items[-1]._replace(comment=f"{items[-1].comment} {comment}".strip())
        elif given and not given[2].startswith(("_", "defaults")):
            around = [one for one in around if one[0] < len(given[1])]
            around.append((len(given[1]), given[2]))
            if given[3]:
                names = [prefix, *(name for _, name in around)]
                items.append(Key(".".join(filter(None, names)), given[3], comment))
    return items


def _entry(left: str, right: str) -> list[str]:
    """An entry on lines that fit the terminal: what it is, and beside it what is said of it."""
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120) - LEFT)
    said = textwrap.wrap(right, width)
    if not said or len(left) > LEFT - 2:
        return [left, *(" " * LEFT + line for line in said)]
    return [f"{left:{LEFT}}{said[0]}", *(" " * LEFT + line for line in said[1:])]
