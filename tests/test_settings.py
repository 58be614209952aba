"""Settings: which values are accepted, and the errors for others."""

from dataclasses import FrozenInstanceError, asdict, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from trek_lm.errors import UserError
from trek_lm.settings import Seed, settings


@settings("model.")
class Sizes:
    hidden: Annotated[int, Field(ge=1, le=9)] = 3
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    cell: Literal["lstm", "gru"] = "lstm"
    lengths: list[int] = Field(default_factory=list)
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.hidden == 4:
            raise UserError("four is not allowed")


def test_valid_values_are_accepted() -> None:
    sizes = Sizes(hidden=9, rate=1, lengths=[1, 2])
    assert asdict(sizes) == {
        **{"hidden": 9, "rate": 1.0, "cell": "lstm"},
        **{"lengths": [1, 2], "seed": 0},
    }
    assert replace(sizes, cell="gru").cell == "gru"
    with pytest.raises(FrozenInstanceError):
        sizes.hidden = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": 0}, "model.hidden=0: must be greater than or equal to 1"),
        ({"hidden": True}, "model.hidden=True: must be a valid integer"),
        ({"hidden": 1.5}, "model.hidden=1.5: must be a valid integer"),
        ({"rate": float("nan")}, "model.rate=nan: must be a finite number"),
        ({"rate": "fast"}, "model.rate=fast: must be a valid number"),
        ({"cell": "rnn"}, "model.cell=rnn: must be 'lstm' or 'gru'"),
        ({"lengths": [1, "x"]}, "model.lengths=[1, 'x']: must be a valid integer"),
        ({"seed": 2**32}, "model.seed=4294967296: must be less than 4294967296"),
        ({"hiden": 1}, "model.hiden=1: Unexpected keyword argument"),
        ({"hidden": 4}, "four is not allowed"),
    ],
    ids=str,
)
def test_invalid_value_raises_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Sizes(**given)
    assert str(error.value) == message
    with pytest.raises(UserError):
        replace(Sizes(), **given)
