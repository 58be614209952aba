"""Settings as dataclasses; pydantic checks the bounds declared beside each field.

@settings("model.")
class ModelSettings:
    hidden: Annotated[int, Field(ge=1)] = 256

`ModelSettings(hidden=0)` raises UserError: "model.hidden=0: must be greater than or equal to 1".
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from trek_lm.errors import UserError

T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that every random generator accepts


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(prefix: str = "") -> Callable[[type[T]], type[T]]:
    """Makes a frozen, keyword-only dataclass that raises UserError for a value out of bounds.

    `prefix` precedes the field's name in the error, so that the error names the config's key.
    Types are strict: neither true nor 1.5 is an int.
    """

    def decorate(cls: type[T]) -> type[T]:
        config = ConfigDict(strict=True, extra="forbid")
        made: Any = dataclass(cls, frozen=True, kw_only=True, config=config)
        init = made.__init__

        @functools.wraps(init)
        def checked_init(self: Any, **values: Any) -> None:
            try:
                init(self, **values)
            except ValidationError as error:
                raise UserError(_one_line(prefix, values, error)) from error

        made.__init__ = checked_init
        return made  # type: ignore[no-any-return]

    return decorate


def _one_line(prefix: str, values: dict[str, Any], error: ValidationError) -> str:
    """The message for the first invalid field; a union has a problem for each of its types."""
    problems = error.errors(include_url=False)
    field = str(problems[0]["loc"][0])
    messages = dict.fromkeys(problem["msg"] for problem in problems if problem["loc"][0] == field)
    # Pydantic begins with "Input should be", the errors of our validators with "Value error".
    bounds = [message.removeprefix("Input should be ") for message in messages]
    what = " or ".join(bounds).removeprefix("Value error, ")
    return f"{prefix}{field}={values.get(field)}: {'must be ' * (bounds != list(messages))}{what}"
