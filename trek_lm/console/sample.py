"""Runs sample.py: lines, scores or a session, on the terminal or in a file."""

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

LARGEST = 2**26  # bytes of a score_file
UNSET = (None, False, "text")  # values of keys that are not used


@settings()
class Options:
    """What to do with a model, and where the output goes."""

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
        """Whether text is scored instead of generated."""
        return self.score or self.score_file is not None


def answer(config: DictConfig) -> None:
    """Runs what the config asks for; checks options before it does anything else."""
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
        pieces = (_scored if options.scores else _generated)(model, requests, options, painter)
        in_line = False
        try:
            for piece in pieces:
                in_line = not piece.endswith("\n")
                print(piece, end="", flush=options.stream, file=file)
        except KeyboardInterrupt:
            if in_line:
                print("\033[0m" if painter.colourful else "", file=file)
            raise


def _generated(
    model: CharLM, requests: Sequence[Request], options: Options, painter: Painter
) -> Iterator[str]:
    """Yields generated lines, a block per request."""
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
    """Yields the bits per character of the prompt, or of each line of a file."""
    scores = model.scores(_texts(model, requests[0], options))
    for score in scores:
        yield painter.scored(score, show_bits=options.show == "bits") + "\n"
    if len(scores) > 1 and (heading := painter.heading(summary(scores))):
        yield heading + "\n"


def _requests(options: Options, given: Mapping[str, Any]) -> list[Request]:
    """One request per temperature."""
    # For null, Request has its own default.
    asked = {key: given[key] for key in vars(Request()) if given[key] is not None}
    if options.scores:
        speaker = given["speaker"]
        asked |= {"temperature": 1.0, "n": len(speaker) if isinstance(speaker, list) else 1}
    if options.interactive:
        asked.setdefault("n", 3)
    elif isinstance(temperatures := asked.get("temperature"), list):
        if not temperatures:
            raise UserError("temperature=[] is empty; give one or more numbers")
        first = Request(**asked | {"temperature": temperatures[0]})
        return [replace(first, temperature=each) for each in temperatures]
    return [Request(**asked)]


def _check(options: Options, given: Mapping[str, Any]) -> None:
    """Raises UserError for options that exclude each other, and if `out` can't be written."""
    others = [key for key in vars(options) if key not in ("interactive", "overwrite")]
    for applies, what, excluded in (
        (options.stream, "stream=true prints plain text as it is drawn", ["format", "out"]),
        (options.interactive, "interactive=true has its own output", others),
        (options.scores, "score=true and score_file= generate nothing", ["stream"]),
        (options.score_file is not None, "score_file= has the text", ["speaker", "prompt"]),
        (not options.scores, "show= is only for score=true and score_file=", ["show"]),
    ):
        if applies and (found := [key for key in excluded if given[key] not in UNSET]):
            raise UserError(f"{what}; remove {' and '.join(found)}")
    if options.out is None:
        return
    path = expanded(options.out)
    if path.exists() and not path.is_file():
        raise UserError(f"out={path}: exists and is not a file; choose another")
    if path.exists() and not options.overwrite:
        raise UserError(f"out={path}: exists; overwrite=true replaces it")
    if not path.parent.is_dir():
        raise UserError(f"out={path}: no such folder {path.parent}; create it")


def _texts(model: CharLM, request: Request, options: Options) -> list[str]:
    """The texts to score, without empty lines."""
    if options.score_file is None:
        if request.prompt is None:
            raise UserError("score=true needs prompt=TEXT; for a file use score_file=FILE")
        return request.starts(model.charset, model.speakers)
    path = expanded(options.score_file)
    try:
        text = read_bounded(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"score_file={path}: {reason}") from error
    if missing := model.charset.missing(text):
        ignored = "".join(sorted({character for _, character in missing}))
        print(f"score_file: ignored, not in the model's charset: {ignored!r}", file=sys.stderr)
    texts = text.splitlines() if model.speakers else [text]
    texts = [line for line in texts if model.charset.normalise(line).strip()]
    if not texts:
        raise UserError(f"score_file={path}: has no text to score")
    return texts


@contextmanager
def _output(options: Options) -> Iterator[TextIO]:
    """The terminal, or a file that is written when all of the text is ready."""
    if options.out is None:
        yield sys.stdout
        return
    path = expanded(options.out).resolve()
    text = io.StringIO()
    yield text
    write_text(path, text.getvalue())
    print(f"wrote {path}", file=sys.stderr)
