"""Reads checkpoints as data: a file from someone else can't run code or exhaust the memory."""

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

# The classes and functions that a checkpoint's pickle may refer to: OrderedDict, and tensors.
PLAIN = re.compile(
    r"collections OrderedDict"
    r"|torch (\w+Storage|Size|device|b?float\d+|u?int\d+|bool)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)"
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, as plain data.

    Raises UserError for a file that isn't one, or would take much more memory than its size.
    """
    if not path.is_file():
        wrong = "a folder; give a checkpoint in it" if path.is_dir() else "no such checkpoint file"
        raise UserError(f"{path}: {wrong}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            # torch.save neither compresses entries nor lets them overlap.
            if size > path.stat().st_size or any(entry.compress_type for entry in entries):
                raise UserError(f"{path}: not a checkpoint (entries are compressed or overlap)")
            if archive.testzip():  # torch.load doesn't verify the checksums
                raise UserError(f"{path}: not a checkpoint (it is damaged)")
            by_name = {entry.filename.lower(): entry for entry in entries}
            if len(by_name) < len(entries):  # torch.load might read one that wasn't checked
                raise UserError(f"{path}: not a checkpoint (two entries have the same name)")
            pickles = [archive.read(by_name[name]) for name in by_name if name.endswith("data.pkl")]
        # `weights_only` runs no foreign code either, but would allocate a bytearray of any size.
        for opcode, name, _ in chain.from_iterable(map(pickletools.genops, pickles)):
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not PLAIN.fullmatch(str(name)):
                named = name or "a computed name"
                raise UserError(f"{path}: not a checkpoint (it refers to {named})")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # arbitrary bytes, read as a pickle, can raise anything
        raise UserError(f"{path}: not a checkpoint (it cannot be read)") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint of trek-lm")
    return checkpoint


def model_of(spec: dict[str, Any], weights: dict[str, Tensor], path: Path) -> RecurrentLM:
    """The model with that architecture and these weights.

    Raises UserError, before it allocates memory, if they don't fit together.
    """
    try:
        with torch.device("meta"):
            outline = RecurrentLM(**spec).state_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not all(tensor.is_floating_point() for tensor in weights.values()):
        raise UserError(f"{path}: its weights are not real numbers")
    shapes = {name: tensor.shape for name, tensor in outline.items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise UserError(f"{path}: its weights do not fit the model that it describes")
    # An expanded tensor has a small storage, but the model would allocate its full size.
    if sum(tensor.nbytes for tensor in weights.values()) > path.stat().st_size:
        raise UserError(f"{path}: its weights are larger than the file")
    model = RecurrentLM(**spec)
    model.load_state_dict(weights)
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise UserError(f"{path}: this model diverged in training: weights not finite")
    return model
