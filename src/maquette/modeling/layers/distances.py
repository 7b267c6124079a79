"""What distances between tokens add to the scores of attention."""

import math

import torch
from torch import Tensor, nn

from maquette.modeling.devices import main_device
from maquette.modeling.packing import is_traced


def find_buckets(distances: Tensor, *, both_ways: bool, count: int, farthest: int) -> Tensor:
    """Sort distances into classes: small ones have one each, larger ones share (Raffel et al. 2020, section 2.1).

    Args:
        distances: from a token to what it looks at, whole numbers, negative to the left.
        both_ways: whether tokens look to the right, too; these distances have half of the classes.
        count: how many classes there are.
        farthest: from which distance on all are of one class.

    Returns:
        Whole numbers from 0 to `count - 1`, of the same shape.
    """
    first = torch.zeros_like(distances)
    if both_ways:
        count //= 2
        first = (distances > 0).long() * count
        distances = distances.abs()
    else:
        distances = (-distances).clamp(min=0)
    near = count // 2
    share = (distances.clamp(min=1).float() / near).log() / math.log(farthest / near)
    far = (near + (share * (count - near)).long()).clamp(max=count - 1)
    return first + torch.where(distances < near, distances, far)


class RelativeBias:
    """A bias for `attention` that follows from distances; made once in a forward, and handed to every layer.

    Args:
        table: `(heads, 2 · farthest + 1)`, what a distance adds, from `-farthest` to `farthest`; larger ones count as
            these.
        is_kept: keep what was worked out for the layers that follow; not where activations are recomputed.
    """

    def __init__(self, table: Tensor, *, is_kept: bool = True) -> None:
        self.table, self.is_kept = table, is_kept
        self.known: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def of_buckets(cls, layer: nn.Embedding, *, farthest: int, both_ways: bool, is_kept: bool = True) -> "RelativeBias":
        """Make one of what is learnt for each class of distances, `(classes, heads)`, as `find_buckets` sorts them."""
        device = main_device(layer) or layer.weight.device
        distances = torch.arange(-farthest, farthest + 1, device=device)
        buckets = find_buckets(distances, both_ways=both_ways, count=layer.num_embeddings, farthest=farthest)
        return cls(layer(buckets).T, is_kept=is_kept)

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Give `(rows or 1, heads, queries, keys)` for positions `(rows or 1, queries)` and `(rows or 1, keys)`."""
        if not self.is_kept or is_traced(ours):
            return self._look_up(ours, theirs)
        key = (ours.data_ptr(), ours.shape, theirs.data_ptr(), theirs.shape)
        if key not in self.known:  # with the positions, so that their memory stays theirs
            self.known[key] = (ours, theirs, self._look_up(*map(_alike, _from_start(ours, theirs))))
        return self.known[key][2]

    def _look_up(self, ours: Tensor, theirs: Tensor) -> Tensor:
        farthest = self.table.shape[1] // 2
        distances = (theirs[:, None] - ours[:, :, None]).clamp(-farthest, farthest) + farthest
        return self.table[:, distances].transpose(0, 1)


def _from_start(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Count from each row's first place, so that rows that are padded on the left are alike."""
    if len(ours) == len(theirs) > 1 and ours.shape[1]:
        ours, theirs = ours - ours[:, :1], theirs - ours[:, :1]
    return ours, theirs


def _alike(positions: Tensor) -> Tensor:
    """Give one row where all are the same."""
    return positions[:1] if bool((positions == positions[:1]).all()) else positions
