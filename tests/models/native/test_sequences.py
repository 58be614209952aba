import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trek_lm.models.cells import CELLS
from trek_lm.models.native import sequences
from trek_lm.models.native.build import library
from trek_lm.models.native.sequences import NativeGRU, NativeLSTM, _Buffer

pytestmark = pytest.mark.skipif(library("sequences") is None, reason="no C compiler here")

MODULES = [NativeLSTM, NativeGRU]
VOCAB_SIZE, HIDDEN = 11, 37


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def ids(length: int = 9, rows: int = 13) -> Tensor:
    return torch.randint(VOCAB_SIZE, (length, rows))


def outputs_of(module: nn.Module, inputs: Tensor, vectors: Tensor) -> Tensor:
    outputs: Tensor = module(inputs, vectors=vectors)[0]
    return outputs


def gradients(module: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
    run().sum().backward()
    found = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    module.zero_grad()
    return found


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.every_build
def test_nan_propagates(kind: Any, autocast: bool) -> None:
    """So diverged training shows, as with torch's layers."""
    module = kind(5, HIDDEN)
    module.weight_hh_l0.detach()[3, 5] = math.nan
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs, _ = module(torch.randn(9, 3, 5))
    assert outputs[1:].isnan().all(1).any(1).all()


@pytest.mark.parametrize("kind", MODULES)
def test_ids_match_embedded_inputs(kind: Any) -> None:
    """Outputs, state and the gradient of the vectors equal those of embedded inputs."""
    module, inputs = kind(5, HIDDEN, 2), ids()
    vectors = torch.randn(VOCAB_SIZE, 5, requires_grad=True)
    outputs, state = module(inputs, vectors=vectors)
    expected, end = module(vectors[inputs])
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state, end)
    noise = torch.randn_like(outputs)
    (found,) = torch.autograd.grad((outputs * noise).sum(), vectors)
    (wanted,) = torch.autograd.grad((expected * noise).sum(), vectors)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("wrong", [-1, VOCAB_SIZE])
def test_id_out_of_range_raises(kind: Any, wrong: int) -> None:
    inputs = ids()
    inputs[3, 4] = wrong
    with pytest.raises(IndexError):
        kind(5, HIDDEN)(inputs, vectors=torch.randn(VOCAB_SIZE, 5))


@pytest.mark.parametrize("kind", MODULES)
def test_state_of_another_shape_raises(kind: Any) -> None:
    module = kind(5, HIDDEN, 2)
    for shape in ((2, 12, HIDDEN), (1, 13, HIDDEN), (2, 13, HIDDEN + 1)):
        wrong, right = torch.zeros(shape), torch.zeros(2, 13, HIDDEN)
        states = [(wrong, right), (right, wrong)] if kind is NativeLSTM else [wrong]
        for state in states:
            with pytest.raises(RuntimeError, match="Expected hidden size"):
                module(ids(), state, vectors=torch.randn(VOCAB_SIZE, 5))


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.every_build
def test_batch_and_threads_do_not_change_a_row(kind: Any, bf16: bool) -> None:
    """Equal for the same number of threads, else up to rounding; so are the weights' gradients."""
    module, inputs = kind(5, HIDDEN, 2), ids(rows=23)
    vectors = torch.randn(VOCAB_SIZE, 5)

    def run(rows: slice, number: int) -> Tensor:
        torch.set_num_threads(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs: Tensor = module(inputs[:, rows], vectors=vectors)[0]
        return outputs

    for number in (1, 2, 3):
        whole = run(slice(None), number)
        torch.testing.assert_close(
            whole, run(slice(None), 2), rtol=2**-7 if bf16 else 1e-5, atol=1e-5
        )
        for rows in (slice(0, 1), slice(3, 8), slice(5, 21)):
            assert torch.equal(run(rows, number), whole[:, rows])
    by_threads = [gradients(module, partial(run, slice(None), n)) for n in (2, 2, 3)]
    for one, again, other in zip(*by_threads, strict=True):
        assert torch.equal(one, again)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.every_build
def test_dropout_on_outputs(kind: Any, bf16: bool) -> None:
    """A quarter is 0 and the rest is multiplied by 4 / 3; so are the gradients."""
    module, vectors = kind(5, 64), torch.randn(VOCAB_SIZE, 5)
    inputs = ids(40, 30)

    def run(p: float) -> Tensor:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs: Tensor = module(inputs, vectors=vectors, output_dropout=p)[0]
        return outputs.float()

    plain, dropped = run(0.0), run(0.25)
    mask = torch.where(dropped == 0, 0.0, 4 / 3)
    spread = 5 * math.sqrt(0.25 * 0.75)
    for dims in ((0, 1), (0, 2), (1, 2)):  # of each unit, row and step
        share = (mask == 0).float().mean(dims)
        assert float((share - 0.25).abs().max()) < spread / math.sqrt(mask.numel() / len(share))
    torch.testing.assert_close(dropped, plain * mask, rtol=2**-7 if bf16 else 1e-6, atol=1e-6)
    noise = torch.randn_like(plain)
    found = gradients(module, lambda: run(0.25) * noise)
    expected = gradients(module, lambda: run(0.0) * noise * mask)
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).norm()) <= (0.02 if bf16 else 1e-5) * float(theirs.norm())
    module.eval()
    assert torch.equal(run(0.25), plain)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.every_build
def test_dropout_between_layers(kind: Any) -> None:
    """The gradient is the loss's slope with the same units dropped; other seeds drop others."""
    module, vectors, inputs = kind(5, HIDDEN, 3, dropout=0.4), torch.randn(VOCAB_SIZE, 5), ids()
    weights = torch.randn(9, 13, HIDDEN)

    def run(seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        outputs: Tensor = module(inputs, vectors=vectors)[0]
        return outputs * weights

    assert torch.equal(run(), run())
    assert not torch.equal(run(), run(2))
    found = gradients(module, run)
    directions = [torch.randn_like(p) for p in module.parameters()]
    slope = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
    losses = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            for p, d in zip(module.parameters(), directions, strict=True):
                p += step * d
            losses.append(float(run().double().sum()))
            for p, d in zip(module.parameters(), directions, strict=True):
                p -= step * d
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize("kind", MODULES)
def test_tape_is_kept_for_later_and_repeated_backward_passes(kind: Any) -> None:
    """Two passes at the same time, each with two backward passes."""
    module, vectors = kind(5, HIDDEN, 2), torch.randn(VOCAB_SIZE, 5)
    first, second = ids(), ids(15, 4)
    alone = [gradients(module, partial(outputs_of, module, x, vectors)) for x in (first, second)]
    losses = [module(x, vectors=vectors)[0].sum() for x in (first, second)]
    for loss, expected in zip(losses, alone, strict=True):
        for _ in range(2):
            found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
            assert all(torch.equal(ours, g) for ours, g in zip(found, expected, strict=True))


def test_buffers_return_to_the_pool() -> None:
    module, vectors = NativeLSTM(5, HIDDEN, 2), torch.randn(VOCAB_SIZE, 5)
    _Buffer.free.clear()
    for steps in (9, 20, 3):
        gradients(module, partial(outputs_of, module, ids(steps), vectors))
        with torch.inference_mode():
            module(ids(steps), vectors=vectors)
    assert {purpose: len(free) for purpose, free in _Buffer.free.items()} == {
        "tape": 1,
        "forward": 1,
        "backward": 1,
    }


def test_second_derivative_raises() -> None:
    inputs = torch.randn(4, 2, 5, requires_grad=True)
    outputs, _ = NativeGRU(5, HIDDEN)(inputs)
    with pytest.raises(RuntimeError, match="native engine has no second derivative"):
        torch.autograd.grad(outputs.sum(), inputs, create_graph=True)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("why", ["dtype", "arguments", "no library"])
def test_falls_back_to_torch(cell: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"bidirectional": why == "arguments"}
    there, here = (CELLS[cell][engine](5, HIDDEN, 2, **options) for engine in ("torch", "native"))
    here.load_state_dict(there.state_dict())
    vectors = torch.randn(VOCAB_SIZE, 5)
    if why == "dtype":
        here, there, vectors = here.double(), there.double(), vectors.double()
    if why == "no library":
        monkeypatch.setattr(sequences, "library", lambda name: None)
    inputs = ids()
    outputs, state = here(inputs, vectors=vectors)
    expected, end = there(vectors[inputs])
    assert torch.equal(outputs, expected)
    torch.testing.assert_close(state, end, rtol=0, atol=0)
