"""Overrides as they are typed: names that have changed, and text that survives Hydra's grammar."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from trek_lm.errors import UserError

CONF = Path(__file__).resolve().parent.parent / "conf"
BASES = ("data", "model", "optim", "trainer")  # their default.yaml is inherited, not chosen

# A key or GROUP=OPTION that was renamed or retired -> what to give instead. A longer key stands
# before one that begins it.
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
    """Why a key or GROUP=OPTION is not taken, with what to give instead; None for any other."""
    for old, new in SUCCESSORS.items():
        if name == old or name.startswith(f"{old}."):
            advice = f"give {new}{name[len(old) :]}" if new else "leave it away"
            return f"{name}: no longer taken, {advice}"
    return None


def check_names(arguments: Sequence[str]) -> None:
    """Raises UserError for names that were retired, and for options that are none.

    `experiment=null` and the like Hydra would leave with a traceback; `model=default` is half a
    model.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        options = re.findall(r"\w+", value)
        for name in (key, *(f"{key}={option}" for option in options)):
            if message := refusal(name):
                raise UserError(message)
        hidden = {"default"} if key in BASES else set()
        known = {path.stem for path in (CONF / key).glob("*.yaml")} if key.isidentifier() else set()
        nothing = re.fullmatch(r"null|true|false|[\d.]+", value, re.IGNORECASE)
        if known and (nothing or hidden & set(options)):
            choices = ", ".join(sorted(known - hidden))
            raise UserError(f"{argument}: give one of {choices}, or leave it out")


def check_config(config: DictConfig) -> None:
    """Raises UserError for a renamed key that a user's own config file has set."""
    for key in SUCCESSORS:
        if "=" not in key and OmegaConf.select(config, key) is not None:
            raise UserError(str(refusal(key)))


def quote_text(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Puts the values of `keys` in quotes, so that Hydra takes them as they were typed.

    `prompt=KIRK: Well, Jim` has a colon, a comma and a space that Hydra's grammar would read as
    its own. A key that stands in `keys` as `speaker[]` may also be a list, `[KIRK,T'PAU]`, whose
    items are then quoted. What is in quotes already is left alone.
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
        raise UserError(f"{key}={value}: in a config it means no value; of a file give ./???")
    if re.fullmatch(_QUOTED, value, re.DOTALL):
        return value
    # `${` would be an interpolation; a backslash before it counts as one.
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    return QuotedString(literal, Quote.single).with_quotes()
