"""Settings as dataclasses: the bounds of a value stand beside its field, and pydantic checks them.

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

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator takes


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(prefix: str = "") -> Callable[[type[T]], type[T]]:
    """A frozen dataclass of keywords that raises UserError for a value out of its bounds.

    `prefix` stands before a field's name in the error, so that it names the key of the config.
    Types are strict: true is no number, and 1.5 no whole one.
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
    """What is wrong with the first field at fault; of `int | None` each type has its own say."""
    problems = error.errors(include_url=False)
    field = str(problems[0]["loc"][0])
    wrong = dict.fromkeys(problem["msg"] for problem in problems if problem["loc"][0] == field)
    # Pydantic's own messages, and those of our validators.
    bounds = [message.removeprefix("Input should be ") for message in wrong]
    what = " or ".join(bounds).removeprefix("Value error, ")
    return f"{prefix}{field}={values.get(field)}: {'must be ' * (bounds != list(wrong))}{what}"
