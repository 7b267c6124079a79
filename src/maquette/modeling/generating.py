"""`generate`: what a model with scores of a vocabulary does with a prompt."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from maquette.generation import SETTINGS_FILE
from maquette.hub.sources import Source
from maquette.storage.transaction import Transaction

if TYPE_CHECKING:
    from maquette.generation.configuration import GenerationConfig

# What generates is imported when it is asked for: most models are loaded for something else.
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM", "ForSpeechSeq2Seq")


class GenerationMixin:
    """`generate` for a `PreTrainedModel` whose `forward` gives logits `(batch, length, vocabulary)`."""

    config: Any
    device: Any
    forward: Callable[..., Any]

    def train(self, mode: bool = True) -> Any:
        """Switch training on or off, as torch does; on, what generating has left in memory is given back."""
        if mode and (loaded := sys.modules.get("maquette.modeling.few_row_products")) is not None:
            loaded.forget_copies(self)
        return super().train(mode)  # type: ignore[misc]

    @property
    def generation_config(self) -> "GenerationConfig":
        """What counts where a call of `generate` says nothing: from `generation_config.json`, or the configuration."""
        from maquette.generation.configuration import GenerationConfig

        if "_generation_config" not in self.__dict__:
            self.__dict__["_generation_config"] = GenerationConfig.from_model_config(self.config)
        found: GenerationConfig = self.__dict__["_generation_config"]
        return found

    @generation_config.setter
    def generation_config(self, value: "GenerationConfig") -> None:
        from maquette.generation.configuration import GenerationConfig

        if not isinstance(value, GenerationConfig):
            raise TypeError(f"generation_config is a {type(value).__name__}; it has to be a maquette.GenerationConfig.")
        self.__dict__["_generation_config"] = value

    def _read_beside(self, source: Source) -> None:
        if source.find(SETTINGS_FILE) is not None:
            from maquette.generation.configuration import GenerationConfig

            self.generation_config = GenerationConfig.from_source(source, {})

    def _write_beside(self, transaction: Transaction) -> None:
        if "_generation_config" not in self.__dict__:
            return
        from maquette.generation.configuration import GenerationConfig

        if self.generation_config != GenerationConfig():
            transaction.write(SETTINGS_FILE, self.generation_config.to_json_string())

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the class says by its name, or by a `generate` of its own, that it continues texts."""
        own = next(base for base in cls.__mro__ if "generate" in vars(base))
        return own is not GenerationMixin or any(ending in cls.__name__ for ending in GENERATES)

    def generate(
        self,
        inputs: Tensor | Sequence[Any] | None = None,
        generation_config: "GenerationConfig | None" = None,
        logits_processor: Sequence[Any] | None = None,
        stopping_criteria: Sequence[Any] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        *,
        tokenizer: Any = None,
        progress_bar: bool | None = None,
        custom_generate: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continue prompts, all of them in one call.

        A row's result does not depend on the others: padding on either side is left out, finished rows make room for
        waiting ones, and sampled rows have random numbers of their own.

        Args:
            inputs: ids `(batch, length)`, or rows of any lengths; `input_ids` is the same.
            generation_config: settings for this call; what it leaves open is as in `self.generation_config`.
            logits_processor: functions `f(input_ids, scores) -> scores` of your own.
            stopping_criteria: functions `f(input_ids, scores) -> bool for each row` of your own.
            prefix_allowed_tokens_fn: `f(number of the prompt, ids) -> ids that may follow`.
            synced_gpus: accepted, and without effect.
            assistant_model: a smaller model of the same vocabulary, which drafts tokens; the result stays the same.
            streamer: gets prompts and tokens as they come (`put`, `end`); for one prompt.
            tokenizer: needed for `stop_strings`; its end token counts, too.
            progress_bar: show one; unless given, on long work in a terminal.
            custom_generate: a function that continues the prompts, `f(model, input_ids, logits_processor,
                stopping_criteria, generation_config, **model_kwargs)`, with rows padded on the left; what it gives is
                given back. Arguments that it names go to it.
            kwargs: settings, as in `GenerationConfig`; and what `forward` takes: `attention_mask` `(batch, length)`,
                `inputs_embeds` `(batch, length, dim)`, `past_key_values` (a `Cache` with the beginning of each
                prompt), and others with one entry for each prompt.

        Returns:
            Ids `(batch · num_return_sequences, length)`: each prompt as it came, rows of a list padded on the left,
            then the new tokens, padded on the right. With `return_dict_in_generate`, a `GenerateOutput`.

        Raises:
            InputError: a prompt that cannot be read. ConfigurationError: settings that contradict each other.
        """
        from maquette.modeling.generation_calls import generate

        return generate(
            self,
            inputs,
            generation_config,
            kwargs,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
            assistant_model=assistant_model,
            streamer=streamer,
            tokenizer=tokenizer,
            progress_bar=progress_bar,
            custom_generate=custom_generate,
        )

    def stream(self, inputs: Any = None, *, tokenizer: Any, skip_prompt: bool = True, **kwargs: Any) -> Iterator[Any]:
        """Continue prompts, and give texts as they come: `for row, text in model.stream(…)`.

        Texts of all rows come in turns, in whole characters; put together, those of a row are what `decode` makes of
        its tokens. Special tokens are left out.

        Args:
            inputs: as in `generate`.
            tokenizer: decodes.
            skip_prompt: False gives each prompt first.
            kwargs: as in `generate`.
        """
        from maquette.modeling.generation_calls import stream

        return stream(self, inputs, kwargs, tokenizer=tokenizer, skip_prompt=skip_prompt)
