"""Checkpoints read as what they may be: files from others, which are data and never code."""

import pickletools
import re
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trek_lm.errors import UserError
from trek_lm.models.char_lm import RecurrentLM

# What a checkpoint may name: a kind of dict, and tensors that lie in the file.
PLAIN = re.compile(
    r"collections OrderedDict"
    r"|torch (\w+Storage|Size|device|b?float\d+|u?int\d+|bool)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)"
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, as data, once what would take much more memory is ruled out.

    Raises UserError for a file that isn't one.
    """
    if not path.is_file():
        wrong = "a folder, not a checkpoint in it" if path.is_dir() else "no such checkpoint file"
        raise UserError(f"{path}: {wrong}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            # torch writes neither packed entries nor two in the same place.
            if size > path.stat().st_size or any(entry.compress_type for entry in entries):
                raise UserError(f"{path}: not a checkpoint (it would unpack to more than it is)")
            if archive.testzip():  # torch itself would load what has changed since it was written
                raise UserError(f"{path}: not a checkpoint (it is damaged)")
            by_name = {entry.filename.lower(): entry for entry in entries}
            if len(by_name) < len(entries):  # torch may read another one than is checked
                raise UserError(f"{path}: not a checkpoint (it holds a name twice)")
            pickles = [archive.read(by_name[name]) for name in by_name if name.endswith("data.pkl")]
        # `weights_only` calls no code of others either, but would make a bytearray of any size.
        for opcode, name, _ in chain.from_iterable(map(pickletools.genops, pickles)):
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not PLAIN.fullmatch(str(name)):
                named = name or "what it computes"
                raise UserError(f"{path}: not a checkpoint (it names {named})")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # foreign bytes, read as a pickle, raise whatever they hit on
        raise UserError(f"{path}: not a checkpoint (it cannot be read as one)") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint of trek-lm")
    return checkpoint


def model_of(spec: dict[str, Any], weights: dict[str, Tensor], path: Path) -> RecurrentLM:
    """The model of that architecture with these weights.

    Raises UserError, before any memory is taken, where they don't belong together.
    """
    try:
        with torch.device("meta"):
            outline = RecurrentLM(**spec).state_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not all(tensor.is_floating_point() for tensor in weights.values()):
        raise UserError(f"{path}: its weights are no real numbers")
    shapes = {name: tensor.shape for name, tensor in outline.items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise UserError(f"{path}: its weights are not those of the model that it describes")
    # A small storage can be shown as a large tensor: the model would take what is shown.
    if sum(tensor.nbytes for tensor in weights.values()) > path.stat().st_size:
        raise UserError(f"{path}: its weights are more than the file holds")
    model = RecurrentLM(**spec)
    model.load_state_dict(weights)
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise UserError(f"{path}: this model diverged in training: weights not finite")
    return model
