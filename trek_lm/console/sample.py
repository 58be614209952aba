"""What sample.py is asked for: lines, scores or a session, on the terminal or in a file."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Literal, TextIO

from omegaconf import DictConfig, OmegaConf

from trek_lm.console.render import PAINTERS, Painter, is_colourful, summary
from trek_lm.console.session import interact
from trek_lm.errors import UserError
from trek_lm.files import expanded, read_bounded, write_text
from trek_lm.generation.api import CharLM
from trek_lm.generation.request import Request
from trek_lm.runs.find_model import load_model
from trek_lm.settings import settings

LARGEST = 2**26  # bytes of lines to score
UNSET = (None, False, "text")  # values of keys that ask for nothing


@settings()
class Options:
    """What is done with a model, and where it goes."""

    stream: bool = False
    format: Literal["text", "jsonl"] = "text"
    out: str | None = None
    overwrite: bool = False
    interactive: bool = False
    score: bool = False
    score_file: str | None = None
    show: Literal["bits"] | None = None

    @property
    def scores(self) -> bool:
        """Whether text is scored, not written."""
        return self.score or self.score_file is not None


def answer(config: DictConfig) -> None:
    """Does what is asked for; raises UserError for what makes no sense before anything is done."""
    given: Any = OmegaConf.to_container(config)
    options = Options(**{field.name: given[field.name] for field in fields(Options)})
    _check(options, given)
    requests = _requests(options, given)
    model = load_model(config.ckpt, config.outputs)
    with _output(options) as file:
        painter = PAINTERS[options.format](model.speakers, colourful=is_colourful(file))
        if options.interactive:
            interact(model, requests[0], painter)
            return
        pieces = (_scored if options.scores else _written)(model, requests, options, painter)
        inside = False
        try:
            for piece in pieces:
                inside = not piece.endswith("\n")
                print(piece, end="", flush=options.stream, file=file)
        except KeyboardInterrupt:
            if inside:
                print("\033[0m" if painter.colourful else "", file=file)
            raise


def _written(
    model: CharLM, requests: Sequence[Request], options: Options, painter: Painter
) -> Iterator[str]:
    """Lines as they come, a block for each request."""
    for number, request in enumerate(requests):
        if len(requests) > 1 and (heading := painter.heading(f"temperature {request.temperature}")):
            yield "\n" * (number > 0) + heading + "\n"
        if options.stream:
            yield from painter.stream(model.stream(**vars(request)))
        else:
            yield from (f"{painter.generated(line)}\n" for line in model.lines(**vars(request)))


def _scored(
    model: CharLM, requests: Sequence[Request], options: Options, painter: Painter
) -> Iterator[str]:
    """The bits per character of the prompt, or of each line of a file."""
    scores = model.scores(_texts(model, requests[0], options))
    for score in scores:
        yield painter.scored(score, show_bits=options.show == "bits") + "\n"
    if len(scores) > 1 and (heading := painter.heading(summary(scores))):
        yield heading + "\n"


def _requests(options: Options, given: Mapping[str, Any]) -> list[Request]:
    """What is asked of the model, once for each temperature."""
    # Null is what a request takes by itself.
    asked = {key: given[key] for key in vars(Request()) if given[key] is not None}
    if options.scores:
        speaker = given["speaker"]
        asked |= {"temperature": 1.0, "n": len(speaker) if isinstance(speaker, list) else 1}
    if options.interactive:
        asked.setdefault("n", 3)
    elif isinstance(temperatures := asked.get("temperature"), list):
        if not temperatures:
            raise UserError("temperature=[] is empty: give a number, or several")
        first = Request(**asked | {"temperature": temperatures[0]})
        return [replace(first, temperature=each) for each in temperatures]
    return [Request(**asked)]


def _check(options: Options, given: Mapping[str, Any]) -> None:
    """Raises UserError for options that rule each other out, and where `out` can't be written."""
    others = [key for key in vars(options) if key not in ("interactive", "overwrite")]
    for is_so, what, ruled_out in (
        (options.stream, "stream=true shows text as it comes", ["format", "out"]),
        (options.interactive, "interactive=true is a session", others),
        (options.scores, "a score writes nothing", ["stream"]),
        (options.score_file is not None, "score_file= has the lines", ["speaker", "prompt"]),
        (not options.scores, "only a score has it", ["show"]),
    ):
        if is_so and (found := [key for key in ruled_out if given[key] not in UNSET]):
            raise UserError(f"{what}: leave {' and '.join(found)} away")
    if options.out is None:
        return
    path = expanded(options.out)
    if path.exists() and not path.is_file():
        raise UserError(f"out={path}: is there, and no file")
    if path.exists() and not options.overwrite:
        raise UserError(f"out={path}: there already; overwrite=true replaces it")
    if not path.parent.is_dir():
        raise UserError(f"out={path}: there is no folder {path.parent}")


def _texts(model: CharLM, request: Request, options: Options) -> list[str]:
    """What is to be scored, without empty lines."""
    if options.score_file is None:
        if request.prompt is None:
            raise UserError("score=true needs the text: prompt=TEXT, or score_file=FILE")
        return request.starts(model.charset, model.speakers)
    path = expanded(options.score_file)
    try:
        text = read_bounded(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"score_file={path}: {reason}") from error
    if missing := model.charset.missing(text):
        left_out = "".join(sorted({symbol for _, symbol in missing}))
        print(f"not characters of this model: {left_out!r}", file=sys.stderr)
    texts = text.splitlines() if model.speakers else [text]
    texts = [line for line in texts if model.charset.normalise(line).strip()]
    if not texts:
        raise UserError(f"score_file={path}: nothing in it to score")
    return texts


@contextmanager
def _output(options: Options) -> Iterator[TextIO]:
    """Where the text goes: the terminal, or a file that is there when all of it is."""
    if options.out is None:
        yield sys.stdout
        return
    path = expanded(options.out).resolve()
    text = io.StringIO()
    yield text
    write_text(path, text.getvalue())
    print(f"wrote {path}", file=sys.stderr)
