# mypy: ignore-errors
"""A decoder that generates with Transformers: its cache, its mask and its loops around our attention."""

import inspect

import torch
from transformers import Cache, DynamicCache, GenerationMixin

from .maquette_base import PreTrainedModel as Base
from .maquette_generation_open_cache import OpenCache


class HeldCache(DynamicCache):
    """Keys and values, and what recurrent layers keep; rows of all of it are reordered together."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.states = {}

    def _map_states(self, change):
        self.states = {number: change(state) for number, state in self.states.items()}

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self._map_states(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_repeat_interleave(self, repeats):
        super().batch_repeat_interleave(repeats)
        self._map_states(lambda state: state.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self._map_states(lambda state: state[indices])

    def crop(self, max_length):
        if self.states:
            raise ValueError("A layer of this model keeps a state that cannot be taken back, so there are no drafts.")
        super().crop(max_length)


class Reading(OpenCache):
    """One call: new tokens after those that a cache of Transformers holds.

    Args:
        past: the cache.
        mask: 1 at real tokens, `(rows, held + new)`.
        new: how many tokens of a row are new.
    """

    def __init__(self, past, mask, new):
        positions = mask.cumsum(1) - 1
        super().__init__(positions[:, -new:].clamp(min=0), [], [], [])
        self.past, self.places = past, positions.masked_fill(mask == 0, -1)
        self.new_mask = None if bool(mask[:, -new:].all()) else mask[:, -new:].bool()

    @property
    def starts(self):
        return self.positions

    def put(self, number, k, v):
        keys, values = self.past.update(k.transpose(1, 2), v.transpose(1, 2), number)
        return keys.transpose(1, 2), values.transpose(1, 2), self.places

    def state(self, number, owner, shape, like):
        states = self.past.states
        return states[number] if number in states else like.new_zeros(len(self.positions), *shape)

    def keep_state(self, number, value):
        self.past.states[number] = value


class PreTrainedModel(Base, GenerationMixin):
    """A model that generates where its name says so."""

    @classmethod
    def can_generate(cls):
        return cls.__name__.endswith(("ForCausalLM", "LMHeadModel"))

    def __call__(self, *args, **kwargs):
        past = kwargs.get("past_key_values")
        if self.can_generate() and past is None and kwargs.get("use_cache"):
            past = HeldCache()
        if not isinstance(past, Cache):
            return super().__call__(*args, **self._known(kwargs))
        if not isinstance(past, HeldCache):
            raise TypeError(f"past_key_values is a {type(past).__name__}; this model takes a {HeldCache.__name__}.")
        ids = args[0] if args else kwargs["input_ids"]
        mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        held, new = past.get_seq_length(), ids.shape[1]
        if mask is None:
            mask = torch.ones(len(ids), held + new, dtype=torch.long, device=ids.device)
        own = {"attention_mask", "position_ids", "cache_position", "use_cache", "past_key_values", "input_ids"}
        more = self._known({name: value for name, value in kwargs.items() if name not in own})
        output = super().__call__(input_ids=ids, past_key_values=Reading(past, mask.long(), new), **more)
        output["past_key_values"] = past
        return output

    def _known(self, options):
        """Leave out what Transformers passes and the model does not take."""
        known = inspect.signature(self.forward).parameters
        passed = {"use_cache", "position_ids", "cache_position", "past_key_values", "return_dict", "logits_to_keep"}
        passed |= {"output_attentions", "output_hidden_states", "inputs_embeds"}
        return {name: value for name, value in options.items() if name in known or name not in passed}

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, **options):
        held = 0 if past_key_values is None else past_key_values.get_seq_length()
        found = {"input_ids": input_ids[:, held:], "attention_mask": attention_mask}
        return found if past_key_values is None else found | {"past_key_values": past_key_values}

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args, **kwargs):
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = HeldCache()
