"""Character language models of TV transcripts.

from trek_lm import CharLM
lm = CharLM.load("outputs/.../checkpoints/best.ckpt")
lm.generate(speaker="KIRK", n=5, seed=1)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trek_lm.generation.api import CharLM

__all__ = ["CharLM"]


def __getattr__(name: str) -> object:
    # Imported on first use: torch takes a second, and `python train.py --help` doesn't need it.
    if name == "CharLM":
        from trek_lm.generation.api import CharLM

        return CharLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
