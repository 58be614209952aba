"""What sample.py is asked for: lines, scores or a session, on the terminal or in a file."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, ListConfig

from trek_lm.console.render import Painter, as_json, is_colourful, score_as_json, summary
from trek_lm.console.session import interact
from trek_lm.errors import UserError, check_flag
from trek_lm.files import expanded, read_bounded, write_text
from trek_lm.generation.api import CharLM
from trek_lm.generation.request import Request
from trek_lm.runs.find_model import load_model

REQUEST_KEYS = tuple(field.name for field in fields(Request))
SCORE_KEYS = ("score", "score_file", "show")
OUTPUT_KEYS = ("stream", "format", "out")
LARGEST = 2**26  # bytes of lines to score
UNSET = (None, False, "text")  # values of these keys that ask for nothing


def answer(config: DictConfig) -> None:
    """Does what is asked for; raises UserError for what makes no sense before anything is done."""
    _check(config)
    model = load_model(config.ckpt, config.outputs)
    if config.interactive:
        _converse(model, config)
    elif _is_score(config):
        _score(model, config)
    else:
        _write(model, config)


def _write(model: CharLM, config: DictConfig) -> None:
    """Prints lines, a block for each temperature."""
    temperatures = config.temperature
    if not isinstance(temperatures, ListConfig):
        temperatures = [temperatures]
    if not temperatures:
        raise UserError("temperature=[] is empty: give a number, or several")
    requests = [_request(config, temperature=temperatures[0])]
    requests += [replace(requests[0], temperature=each) for each in temperatures[1:]]
    with _output(config) as file:
        painter = Painter(model.speakers, colourful=is_colourful(file))
        for number, request in enumerate(requests):
            if len(requests) > 1 and config.format == "text":
                gap = "\n" if number else ""
                print(gap + painter.heading(f"temperature {request.temperature}"), file=file)
            if config.stream:
                _stream(model, request, painter, file)
                continue
            for line in model.lines(**vars(request)):
                shown = as_json(line) if config.format == "jsonl" else painter.line(line.text)
                print(shown, file=file)


def _score(model: CharLM, config: DictConfig) -> None:
    """Prints the bits per character of the prompt, or of each line of a file."""
    texts = _texts(model, config)
    scores = model.scores(texts)
    with _output(config) as file:
        painter = Painter(model.speakers, colourful=is_colourful(file))
        for each in scores:
            if config.format == "jsonl":
                print(score_as_json(each, show_bits=config.show == "bits"), file=file)
                continue
            line = painter.line(each.text) if model.speakers else f"{len(each.text):,} characters"
            print(f"{each.bits_per_char:.3f}  {line}", file=file)
            if config.show == "bits":
                print(painter.bits(each), end="\n\n", file=file)
        if config.format == "text" and len(scores) > 1:
            print(painter.heading(summary(scores)), file=file)


def _converse(model: CharLM, config: DictConfig) -> None:
    """A session on the terminal."""
    painter = Painter(model.speakers, colourful=is_colourful(sys.stdout))
    interact(model, _request(config, n=config.n or 3), painter)


def _request(config: DictConfig, **changed: Any) -> Request:
    options = {key: config[key] for key in REQUEST_KEYS} | changed
    # Null is what a request takes by itself.
    return Request(**{key: value for key, value in options.items() if value is not None})


def _check(config: DictConfig) -> None:
    for key, choices in (("format", ("text", "jsonl")), ("show", (None, "bits"))):
        if config[key] not in choices:
            raise UserError(f"{key}={config[key]}: choose {' or '.join(filter(None, choices))}")
    for key in ("greedy", "force", "stream", "overwrite", "interactive", "score"):
        check_flag(key, config[key])
    scores = _is_score(config)
    for is_so, what, others in (
        (config.stream, "stream=true shows text as it comes", ("format", "out")),
        (config.interactive, "interactive=true is a session", (*SCORE_KEYS, *OUTPUT_KEYS)),
        (scores, "a score writes nothing", ("stream",)),
        (config.score_file is not None, "score_file= has the lines", ("speaker", "prompt")),
        (not scores, "only a score has it", ("show",)),
    ):
        if is_so and (given := [key for key in others if config[key] not in UNSET]):
            raise UserError(f"{what}: leave {' and '.join(given)} away")
    if config.out is not None:
        _check_out(expanded(config.out), config.overwrite)


def _is_score(config: DictConfig) -> bool:
    return config.score or config.score_file is not None


def _check_out(path: Path, overwrite: bool) -> None:
    """Raises UserError unless there can be such a file, and nothing would be lost by it."""
    if path.exists() and not path.is_file():
        raise UserError(f"out={path}: is there, and no file")
    if path.exists() and not overwrite:
        raise UserError(f"out={path}: there already; overwrite=true replaces it")
    if not path.parent.is_dir():
        raise UserError(f"out={path}: there is no folder {path.parent}")


def _texts(model: CharLM, config: DictConfig) -> list[str]:
    """What is to be scored, without empty lines."""
    if config.score_file is None:
        if config.prompt is None:
            raise UserError("score=true needs the text: prompt=TEXT, or score_file=FILE")
        several = len(config.speaker) if isinstance(config.speaker, ListConfig) else 1
        return _request(config, temperature=1.0, n=several).starts(model.charset, model.speakers)
    path = expanded(config.score_file)
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


def _stream(model: CharLM, request: Request, painter: Painter, file: TextIO) -> None:
    inside = False
    try:
        for piece in painter.stream(model.stream(**vars(request))):
            inside = not piece.endswith("\n")
            print(piece, end="", flush=True, file=file)
    except KeyboardInterrupt:
        if inside:
            print("\033[0m" if painter.colourful else "", file=file)
        raise


@contextmanager
def _output(config: DictConfig) -> Iterator[TextIO]:
    """Where the text goes: the terminal, or a file that is there when all of it is."""
    if config.out is None:
        yield sys.stdout
        return
    path = expanded(config.out).resolve()
    text = io.StringIO()
    yield text
    write_text(path, text.getvalue())
    print(f"wrote {path}", file=sys.stderr)
