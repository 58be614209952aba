"""What sample.py is asked for: lines, scores or a session, on the terminal or in a file."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, ListConfig

from trek_lm.errors import UserError
from trek_lm.files import write_text
from trek_lm.generation import CharLM
from trek_lm.interactive import interact
from trek_lm.printing import Painter, as_json, is_colourful, score_as_json, summary
from trek_lm.request import Request, check_text

REQUEST_KEYS = (
    *("speaker", "prompt", "n", "max_chars", "temperature", "top_k", "top_p", "min_p"),
    *("greedy", "seed", "force"),
)


def write(model: CharLM, config: DictConfig) -> None:
    """Prints lines, a block for each temperature."""
    _check(config)
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


def score(model: CharLM, config: DictConfig) -> None:
    """Prints the bits per character of the prompt, or of each line of a file."""
    _check(config)
    texts = _texts(model, config)
    scores = model.scores(texts)
    with _output(config) as file:
        painter = Painter(model.speakers, colourful=is_colourful(file))
        for each in scores:
            if config.format == "jsonl":
                print(score_as_json(each, show_bits=config.show == "bits"), file=file)
                continue
            print(f"{each.bits_per_char:.3f}  {painter.line(each.text)}", file=file)
            if config.show == "bits":
                print(painter.bits(each), end="\n\n", file=file)
        if config.format == "text" and len(scores) > 1:
            print(painter.heading(summary(scores)), file=file)


def converse(model: CharLM, config: DictConfig) -> None:
    """A session on the terminal."""
    _check(config)
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
    if config.stream and (config.format != "text" or config.out is not None):
        raise UserError("stream=true shows text as it comes: leave format and out away")


def _texts(model: CharLM, config: DictConfig) -> list[str]:
    """What is to be scored, without empty lines."""
    if config.score_file is None:
        if config.prompt is None:
            raise UserError("score=true needs the text: prompt=TEXT, or score_file=FILE")
        check_text("prompt", config.prompt, model.charset)
        return [config.prompt if config.speaker is None else f"{config.speaker}: {config.prompt}"]
    path = Path(config.score_file).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
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
    path = Path(config.out).expanduser()
    if path.exists() and not config.overwrite:
        raise UserError(f"out={path}: there already; overwrite=true replaces it")
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"out={path}: {wrong}")
    text = io.StringIO()
    yield text
    write_text(path, text.getvalue())
    print(f"wrote {path}", file=sys.stderr)
