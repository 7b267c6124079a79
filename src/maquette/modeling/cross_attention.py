"""Attention to what an encoder made of another text, image or sound, with a cache or without one.

    source = look_at(layout, states, states_layout)              # once in a forward of the decoder
    x = x + self.out(cross_attention(q, self.project, source))    # in every layer

`project` turns states into keys and values. With a cache it is called once for each prompt: later forwards need no
states, `look_at(layout)`, for the cache has what each layer made of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maquette.generation.cache import Cache
from maquette.modeling.attention import attention
from maquette.modeling.layout import Layout

Project = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(eq=False)
class Source:
    """What a decoder looks at beside its own text. Made by `look_at`.

    Attributes:
        own: the decoder's layout.
        keys: the layout of what it looks at.
        states: of the encoder, `(places, dim)` in `keys`; None where the cache has keys and values.
        weights: where attention weights are kept, those of each call of `cross_attention` so far.
    """

    own: Layout
    keys: Layout
    states: Tensor | None
    calls: int = 0

    @property
    def weights(self) -> list[Tensor] | None:
        """The weights of each call so far, `(batch, heads, queries, keys)`, where they are kept."""
        return self.keys.weights

    def keep(self, number: int, keys: Tensor, values: Tensor) -> None:
        """Put what a layer made of the states into the cache."""
        assert self.own.cache is not None
        rows = self.keys.unbind(keys), self.keys.unbind(values)
        self.own.cache.sources.keep(number, self.own.cache.first_slot, *rows)


def knows_source(cache: Cache | None, rows: int) -> bool:
    """Tell whether a cache has what so many rows look at, so that no encoder need run."""
    return isinstance(cache, Cache) and cache.sources.known(cache.first_slot, rows)


def look_at(layout: Layout, states: Tensor | None = None, keys: Layout | None = None) -> Source:
    """Let a decoder's tokens look at an encoder's states; what the cache knows already is not taken again.

    Args:
        layout: of the decoder's tokens.
        states: `(places, dim)`; not needed where the layout's cache has read them.
        keys: the layout of the states, as many rows as the decoder has.

    Raises:
        ValueError: no states, and none in the cache; or another number of rows.
    """
    cache, rows = layout.cache, layout.shape[0]
    weights: list[Tensor] | None = None if layout.weights is None else []
    if cache is not None and knows_source(cache, rows):
        return Source(layout, replace(_held(layout, cache), weights=weights), None)
    if states is None or keys is None:
        raise ValueError(
            "The decoder has nothing to look at: give the encoder's input (input_ids), or encoder_outputs, with the "
            "first tokens of each row; later ones need none where past_key_values is handed on."
        )
    if keys.shape[0] != rows:
        raise ValueError(f"The encoder read {keys.shape[0]} rows, and the decoder has {rows}: give one for each.")
    if cache is not None:
        cache.sources.begin(cache.first_slot, keys.counts)
    return Source(layout, replace(keys, weights=weights, explicit=layout.explicit), states)


def cross_attention(
    q: Tensor, project: Project, source: Source, *, dropout: float = 0.0, scale: float | None = None
) -> Tensor:
    """Let every token of a decoder attend to all that its row looks at (Vaswani et al. 2017, section 3.2.3).

    Args:
        q: `(places, heads, width)` in the decoder's layout.
        project: turns the states `(places, dim)` into keys and values `(places, heads, width)`.
        source: as `look_at` gave it.
        dropout: the share of attention weights to drop; pass 0 unless training.
        scale: of the products, `width ** -0.5` unless given.

    Returns:
        `(places, heads, width)` in the decoder's layout; zeros for rows that look at nothing.
    """
    number, source.calls = source.calls, source.calls + 1
    own, cache = source.own, source.own.cache
    if source.states is not None:
        k, v = project(source.states)
        if cache is not None:
            source.keep(number, k, v)
        return attention(q, k, v, own, keys=source.keys, dropout=dropout, scale=scale)
    assert cache is not None
    shared = own.once("shared", lambda: cache.sources.find(cache.first_slot, own.shape[0]))
    longest = source.keys.shape[1]
    k, v = (tensor[shared.places, :longest] for tensor in cache.sources.layers[number])
    times = len(q if not own.is_packed else own.counts) // source.keys.shape[0]
    rows = (own.to_rows(q) if own.is_packed else q).unflatten(0, (-1, times)).flatten(1, 2)
    queries = Layout((rows.shape[0], rows.shape[1]))
    attended = attention(rows, k, v, queries, keys=source.keys, dropout=dropout, scale=scale)
    attended = attended.unflatten(1, (times, -1)).flatten(0, 1)
    return own.from_rows(attended) if own.is_packed else attended


def _held(layout: Layout, cache: Cache) -> Layout:
    """Give the layout of what the cache has for the rows; where weights are kept, once for each row."""
    shared = cache.sources.find(cache.first_slot, layout.shape[0])
    if layout.explicit and shared.times > 1:
        index = torch.arange(layout.shape[0]) // shared.times + shared.places.start  # type: ignore[union-attr]
        shared = shared._replace(
            places=index, times=1, lengths=[n for n in shared.lengths for _ in range(shared.times)]
        )
    layout.known["shared"] = shared
    longest = max(shared.lengths)
    mask = None
    if min(shared.lengths) < longest:
        device = cache.sources.layers[0][0].device if cache.sources.layers else None
        mask = torch.arange(longest, device=device) < torch.tensor(shared.lengths, device=device)[:, None]
    return Layout((len(shared.lengths), longest), mask, explicit=layout.explicit)
