"""Command-line overrides: refuses renamed names, quotes free text for Hydra's grammar."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from itertools import accumulate
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from trek_lm.errors import UserError

CONF = Path(__file__).resolve().parent.parent / "conf"
BASES = ("data", "model", "optim", "trainer")  # their default.yaml is a base, not an option

# A key or GROUP=OPTION that was renamed or removed -> its replacement. A key comes before its
# prefixes.
SUCCESSORS = {
    "data.steps": "data.sequence_length",
    "callbacks.guard": "callbacks.gradient_guard",
    "callbacks.dashboard.parts": "callbacks.dashboard.splits",
    "callbacks.last.every_minutes": "checkpoint.every_minutes",
    "callbacks.progress.refresh_every": "",
    **dict.fromkeys(("callbacks.recorder", "callbacks.best", "callbacks.last"), ""),
    "optim=adamw_best": "optim=adamw optim.lr=0.016",
    "optim=adamw_fast": "optim=adamw optim.lr=0.024",
    "optim=sgd_writeup_gru": "optim=sgd_writeup optim.lr=0.3",
    "optim=adagrad_writeup": "optim=adagrad optim.lr=0.015",
    "optim=adagrad_writeup_gru": "optim=adagrad optim.lr=0.007",
}

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""


def refusal(name: str) -> str | None:
    """The error for a renamed or removed key or GROUP=OPTION; None for any other."""
    for old, new in SUCCESSORS.items():
        if name == old or name.startswith(f"{old}."):
            advice = f"use {new}{name[len(old) :]}" if new else "leave it out"
            return f"{name}: no longer exists, {advice}"
    return None


def check_names(arguments: Sequence[str]) -> None:
    """Raises UserError for renamed names, and for values that are not an option of their group.

    Hydra would print a traceback for `experiment=null`; `model=default` is an incomplete model.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        options = re.findall(r"\w+", value)
        for name in (key, *(f"{key}={option}" for option in options)):
            if message := refusal(name):
                raise UserError(message)
        hidden = {"default"} if key in BASES else set()
        known = {path.stem for path in (CONF / key).glob("*.yaml")} if key.isidentifier() else set()
        not_a_name = re.fullmatch(r"null|true|false|[\d.]+", value, re.IGNORECASE)
        if known and (not_a_name or hidden & set(options)):
            choices = ", ".join(sorted(known - hidden))
            raise UserError(f"{argument}: give one of {choices}, or leave it out")


def check_added(arguments: Sequence[str]) -> None:
    """Raises UserError for a `+KEY=VALUE` that nothing would read; a user's conf/ may read any."""
    if any(re.search("searchpath|^--config", argument) for argument in arguments):
        return
    for argument in arguments:
        key, equals, _ = argument.lstrip("+").partition("=")
        if argument.startswith("+") and equals and re.fullmatch(r"[\w.]+", key):
            known, _ = known_keys()
            if key not in known and not _is_open(key):
                raise UserError(unknown_key(key))


def unknown_key(key: str) -> str | None:
    """The error for a key that does not exist; None if Hydra's hint to add it with + is right."""
    near = get_close_matches(key, known_keys()[0], 1, 0.85 if _is_open(key) else 0.6)
    if near:
        return f"{key}: no such key; did you mean {near[0]}?"
    return None if _is_open(key) else f"{key}: no such key; see --help"


def _is_open(key: str) -> bool:
    """Whether a class checks the key: it is below a `_target_`, or of a further callback."""
    _, open_nodes = known_keys()
    return any(node in open_nodes for node in accumulate(key.split("."), "{}.{}".format))


@cache
def known_keys() -> tuple[set[str], set[str]]:
    """All dotted keys of the files in conf/, and those below which a class checks the keys."""
    known, open_nodes = set[str](), {"hydra", "callbacks"}
    for path in CONF.glob("**/*.yaml"):
        group = path.relative_to(CONF).parts[0] if path.parent != CONF else ""
        known.add(group)
        if group in ("hydra", "experiment", "sweep", "debug"):  # their keys are not the group's
            continue
        trees = [(group, yaml.safe_load(path.read_text(encoding="utf-8")))]
        while trees:
            prefix, tree = trees.pop()
            known.add(prefix)
            if isinstance(tree, dict):
                dot = f"{prefix}." if prefix else ""
                trees += [(f"{dot}{key}", value) for key, value in tree.items()]
                open_nodes |= {prefix} if "_target_" in tree else set()
    return known - {""}, open_nodes - {""}


def check_config(config: DictConfig) -> None:
    """Raises UserError for a renamed key in a user's own config file."""
    for key in SUCCESSORS:
        if "=" not in key and OmegaConf.select(config, key) is not None:
            raise UserError(str(refusal(key)))


def quote_text(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Quotes the values of `keys`, so that Hydra takes them literally.

    Hydra's grammar would parse the colon, comma and spaces of `prompt=KIRK: Well, Jim`. A key
    listed with brackets, as `speaker[]`, may also have a list, `[KIRK,T'PAU]`, whose items are
    then quoted. Values that are already quoted stay as they are.
    """
    return [_quote(argument, keys) for argument in arguments]


def _quote(argument: str, keys: Sequence[str]) -> str:
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    listed = f"{name}[]" in keys
    if not equals or value == "null" or not (listed or name in keys):
        return argument
    if listed and (inside := re.fullmatch(r"\[(.*)\]", value, re.DOTALL)):
        items = re.findall(rf"{_QUOTED}|[^,\s][^,]*", inside[1])
        return f"{key}=[{','.join(_quoted(key, item.strip()) for item in items)}]"
    return f"{key}={_quoted(key, value)}"


def _quoted(key: str, value: str) -> str:
    if value.strip("'\"") == "???":
        wrong = "in a config ??? means a missing value; write a file of that name as ./???"
        raise UserError(f"{key}={value}: {wrong}")
    if re.fullmatch(_QUOTED, value, re.DOTALL):
        return value
    # Escapes `${`, which starts an interpolation, and doubles the backslashes before it.
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    return QuotedString(literal, Quote.single).with_quotes()
