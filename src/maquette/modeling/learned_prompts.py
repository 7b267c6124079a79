"""Prompts that peft has learnt, for `generate`: vectors before the tokens, or keys and values before theirs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from maquette.errors import ConfigurationError, InputError
from maquette.generation.cache import Cache, as_cache
from maquette.generation.prompts import Prompts

IN_CACHE = ("PREFIX_TUNING", "CARTRIDGE")  # kinds of adapters whose prompts are keys and values


class LearnedPrompts(NamedTuple):
    """What stands before the tokens of each prompt.

    Attributes:
        vectors: `(prompts, virtual tokens, dim)`, for prompt tuning and p-tuning.
        cache: the keys and values of as many rows as are continued, for prefix tuning.
        length: how many virtual tokens there are.
    """

    vectors: Tensor | None
    cache: Cache | None
    length: int

    @classmethod
    def of(cls, model: Any, prompts: Prompts, given: dict[str, Any], *, times: int) -> "LearnedPrompts | None":
        """Read what a PeftModel, in whose `generate` we are, puts before prompts; None where it is not one.

        Args:
            given: the other arguments; `task_ids` is taken out, which task's prompts each row has, `(prompts,)`.
            times: how often each prompt is continued.
        """
        prepare = vars(model).get("prepare_inputs_for_generation")  # peft puts its own there while it generates
        adapted = getattr(prepare, "__self__", None)
        if adapted is None or not adapted.active_peft_config.is_prompt_learning:
            return None
        config, rows = adapted.active_peft_config, len(prompts)
        if str(getattr(config.peft_type, "value", config.peft_type)) in IN_CACHE:
            with torch.no_grad():
                cache = as_cache(adapted.get_prompt(batch_size=rows * times))
            return cls(None, cache, config.num_virtual_tokens)
        with torch.no_grad():
            vectors: Tensor = adapted.get_prompt(batch_size=rows, task_ids=given.pop("task_ids", None))
        return cls(vectors, None, vectors.shape[1])

    def unread(self, prompts: Prompts, model: Any) -> list[Tensor]:
        """Give what is to be read of each prompt: its ids, or vectors for all of it."""
        whole = prompts.vectors or prompts.ids
        if self.vectors is None:
            return whole
        embed = model.get_input_embeddings()
        with torch.no_grad():
            rows = [row if row.is_floating_point() else embed(row) for row in whole]
            return [torch.cat([mine.to(row.dtype), row]) for mine, row in zip(self.vectors, rows, strict=True)]

    def check(self, given: Any, *, use_cache: bool | None) -> None:
        """Refuse what does not go with prompts that were learnt.

        Raises:
            InputError: the caller has a cache of his own. ConfigurationError: there is to be none.
        """
        if given is not None:
            raise InputError("past_key_values does not go with prompts that peft has learnt: leave it out.")
        if self.cache is not None and not use_cache:
            raise ConfigurationError("Prefix tuning keeps its prompts in the cache: use_cache=False leaves none.")
