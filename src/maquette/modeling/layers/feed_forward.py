"""Feed-forward networks with a gate."""

from torch import Tensor, nn

from maquette.modeling.activations import ACT2FN


class GatedFeedForward(nn.Module):
    """Works on each token by itself: `down(activation(gate(x)) * up(x))` (Shazeer 2020, equation 5)."""

    def __init__(self, width: int, inner: int, *, activation: str = "silu", bias: bool = False) -> None:
        """Make the three layers, named as checkpoints name them.

        Args:
            width: of a token's state.
            inner: width between the layers.
            activation: of the gate, a name in `ACT2FN`: "silu" makes it SwiGLU, "gelu" GEGLU.
            bias: of all three layers.
        """
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.activation = ACT2FN[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(…, width)` to `(…, width)`."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
