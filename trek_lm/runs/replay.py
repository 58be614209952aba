"""`resume=FOLDER|latest`: repeats a run's own command line in its own folder.

The command line comes from the run's `.hydra/`, before Hydra composes a config.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from trek_lm.errors import UserError
from trek_lm.files import expanded
from trek_lm.overrides import CONF, quote_text
from trek_lm.runs.folder import (
    LAST,
    OPEN_KEYS,
    OVERRIDES,
    differences,
    read_overrides,
    read_search_path,
    read_settings,
    read_start,
)

KEY = "resume"
SEARCH_PATH = "hydra.searchpath"  # needed to find a run's own configs again
# Groups that don't affect the weights, so they may have changed in conf/ since a run began.
HARMLESS_KEYS = ("callbacks", "checkpoint", "logger", "paths")

RUN_MODE = "hydra.mode=RUN"  # a member of a sweep may set another


def replay(arguments: Sequence[str]) -> list[str]:
    """Replaces `resume=` among command-line arguments by the overrides of the run that it names.

    Other arguments follow the run's own. Raises UserError if there is nothing to resume from, for
    a key that may not change, and if `conf/` now gives the run another config.
    """
    given = [argument for argument in arguments if _key(argument) == KEY]
    others = [argument for argument in arguments if argument not in given]
    value = given[-1].partition("=")[2].strip("'\"") if given else "null"
    if value == "null":
        return others
    for argument in others:
        _check(argument)
    folder = _latest(others) if value == "latest" else _folder(value)
    own = _own_overrides(folder)
    later = [argument for argument in others if _key(argument) is not None]
    if moved := [argument for argument in later if _key(argument) == SEARCH_PATH]:
        own = [override for override in own if _key(override) != SEARCH_PATH] + moved
        later = [argument for argument in later if argument not in moved]
    _check_unchanged(folder, own)
    if any(_key(argument) == "trainer.max_steps" for argument in later):
        own = [override for override in own if _key(override) != "budget"]
    options = [argument for argument in others if _key(argument) is None]
    return [
        *_merged([_absolute(override, folder) for override in own], later),
        *quote_text([f"++{KEY}={folder}", f"hydra.run.dir={folder}"], (KEY, "hydra.run.dir")),
        RUN_MODE,
        *options,
    ]


def _check(argument: str) -> None:
    if argument in ("-m", "--multirun"):
        raise UserError("resume continues one run, also a member of a sweep; leave out -m")
    key = _key(argument)
    if key is None:
        return
    if key.split(".")[0] not in OPEN_KEYS or key.startswith(("hydra.run", "hydra.sweep")):
        raise UserError(
            f"{key}: fixed when the run began, resume takes only {', '.join(OPEN_KEYS)}; "
            "start a new run instead"
        )


def _key(argument: str) -> str | None:
    """The key that an argument sets or deletes; None for a Hydra option or its value."""
    if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
        return None
    return argument.partition("=")[0].lstrip("+~")


def _merged(own: list[str], later: list[str]) -> list[str]:
    """The run's overrides and later ones, each key once."""
    keys = {_key(argument) for argument in later}
    kept = [override for override in own if _key(override) not in keys]
    own_keys = {_key(override) for override in own}
    return kept + [
        # `++` works for keys of the config and for keys added with `+`.
        f"++{argument.lstrip('+')}"
        if (key := _key(argument)) in own_keys and "." in str(key) and argument[0] != "~"
        else argument
        for argument in later
    ]


def _folder(value: str) -> Path:
    if not value:
        raise UserError("resume= is empty: give a run's folder, or latest")
    folder = expanded(value)
    if not folder.is_dir():
        hint = "is a file, give the run's folder" if folder.exists() else "no such folder"
        raise UserError(f"resume={folder}: {hint}")
    return folder


def _latest(arguments: Sequence[str]) -> Path:
    """The folder of the run in `paths.outputs` that last wrote a checkpoint."""
    keys = ("paths", "paths.outputs", SEARCH_PATH)
    given = [argument for argument in arguments if _key(argument) in keys]
    outputs = expanded(_compose(quote_text(given, keys[1:2])).paths.outputs)
    found = max(outputs.glob(f"**/{LAST}"), key=os.path.getmtime, default=None)
    if found is None:
        raise UserError(f"resume=latest: no run in {outputs}/ to continue")
    return found.parent.parent


def _own_overrides(folder: Path) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    path = folder / OVERRIDES
    if not path.is_file():
        raise UserError(f"resume={folder}: not a run's folder (it has no .hydra/overrides.yaml)")
    if not (folder / LAST).is_file():
        raise UserError(f"resume={folder}: it has no checkpoints/last.ckpt to resume from")
    own = [override for override in read_overrides(folder) if _key(override) != KEY]
    if paths := read_search_path(folder):
        files = quote_text([f"={path}" for path in paths], ("",))
        own.append(f"{SEARCH_PATH}=[{','.join(file[1:] for file in files)}]")
    for override in own:
        try:
            OverridesParser.create().parse_override(override)
        except HydraException as error:
            raise UserError(f"{path}: {override!r} is not an override KEY=VALUE") from error
    return own


def _absolute(override: str, folder: Path) -> str:
    """The override with an absolute path, so that it means the same from any folder."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if _key(override) != "data.root":
        return override
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.value() is None:
        return override
    root = read_start(folder) / expanded(str(parsed.value()))
    return quote_text([f"data.root={root}"], ("data.root",))[0]


def _check_unchanged(folder: Path, own: list[str]) -> None:
    now = OmegaConf.to_container(_compose(own))
    before = read_settings(folder)
    changed = list(differences(before, now, (KEY, *HARMLESS_KEYS)))
    if changed:
        raise UserError(
            f"resume={folder}: conf/ has changed since the run began ({'; '.join(changed)}); "
            "resume it with the version that it began with, or start a new run"
        )


def _compose(overrides: list[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides)
