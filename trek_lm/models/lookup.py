"""Recurrent layers as a model calls them: ids in, with the look-up before and dropout behind."""

from torch import Tensor, nn
from torch.nn import functional

from trek_lm.models.state import LayersState


class WithLookup(nn.Module):
    """Put before a class with `torch.nn.LSTM`'s interface, it can look its inputs up itself."""

    def forward(
        self,
        inputs: Tensor,
        state: LayersState | None = None,
        *,
        vectors: Tensor | None = None,
        output_dropout: float = 0.0,
    ) -> tuple[Tensor, LayersState]:
        """Outputs `(T, B, H)` and the state after the last step, for inputs `(T, B, E)`.

        With `vectors` `(V, E)` the inputs are ids `(T, B)` of some of them. In training
        `output_dropout` acts on the outputs, as torch's layers do it between layers.
        """
        if vectors is not None:
            inputs = functional.embedding(inputs, vectors)
        outputs, state = super().forward(inputs, state)
        return functional.dropout(outputs, output_dropout, self.training), state


def with_lookup(layers: type[nn.Module]) -> type[nn.Module]:
    """The same layers with the same parameters, called as `WithLookup` is."""
    if issubclass(layers, WithLookup):
        return layers
    # pickle finds a class by its name only, and this one has none.
    reduce = {"__reduce__": lambda self: (_new, (layers,), self.__getstate__())}
    return type(layers.__name__, (WithLookup, layers), reduce)


def _new(layers: type[nn.Module]) -> nn.Module:
    made = with_lookup(layers)
    return made.__new__(made)
