"""Padding-free execution: a batch of texts of different lengths costs what its real tokens cost.

    layout = lay_out(input_ids, attention_mask)     # which places are real, and whether packing pays
    x = self.embed(layout.gather(input_ids))        # (tokens, dim), or (batch, length, dim) where it does not
    for block in self.blocks:
        x = block(x, layout)                        # linear layers and norms do not care
    return layout.scatter(x)                        # (batch, length, dim), zeros at padding

Only attention has to know where one text ends and the next begins: `attention(q, k, v, layout)` is the one place that
does. Any mask works: padding on the right, on the left, holes. Everything is differentiable.

In `modeling/layout.py` and `modeling/attention.py`, *places* stands for the leading axes of a tensor in some layout:
`(tokens,)` where it is packed, `(batch, length)` where it is not. The same model code serves both.
"""

from maquette.modeling.attention import attention, fits_varlen
from maquette.modeling.layout import (
    PACK_UP_TO,
    LaidOutOutput,
    Layout,
    State,
    is_traced,
    lay_out,
    use_packing,
)

__all__ = [
    "PACK_UP_TO",
    "LaidOutOutput",
    "Layout",
    "State",
    "attention",
    "fits_varlen",
    "is_traced",
    "lay_out",
    "use_packing",
]
