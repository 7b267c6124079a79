"""LLaVA (Liu et al. 2023): a decoder reads texts in which projected features of images take the places of tokens.

A combination of your own derives from `LlavaForConditionalGeneration` or `LlavaModel`, and may say what its parts are
(`vision_class`, `text_class`) and what is taken of the tower (`get_image_features`).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette import ACT2FN, AutoModel, BaseModelOutputWithPast, CausalLMOutputWithPast, PreTrainedModel
from maquette.errors import InputError
from maquette.modeling.composed import check_reads, rest_pooler, take_part, width_of
from maquette.modeling.decoders import CausalLMHead
from maquette.modeling.interface import Interface
from maquette.modeling.packing import Layout, is_traced

from .configuration import LlavaConfig

Opt = Tensor | None
RENAMED = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("language_model.", "model.language_model."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)  # what published checkpoints call them


class LlavaModelOutputWithPast(BaseModelOutputWithPast):
    """States of the decoder, and the images' projected features, `(images, features, width)`."""

    image_hidden_states: Any = None
    layout: Layout | None = None


class LlavaCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Scores of the next token, and the images' projected features, `(images, features, width)`."""

    image_hidden_states: Any = None


class LlavaMultiModalProjector(nn.Module):
    """Brings a tower's states to the width of the decoder's."""

    def __init__(self, config: LlavaConfig, inner: int, outer: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inner, outer, bias=config.multimodal_projector_bias)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(outer, outer, bias=config.multimodal_projector_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(x)))


class LlavaPreTrainedModel(PreTrainedModel):
    """What the models share."""

    base_model: Any
    config_class: ClassVar[Any] = LlavaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"rotary_emb\.inv_freq$", r"embeddings\.position_ids$")

    @property
    def dummy_inputs(self) -> Any:
        """Two texts with an image each."""
        images, config = self.base_model.vision_tower.dummy_inputs, self.config
        images = {name: pixels.to(self.device) for name, pixels in images.items()}
        count = self.base_model.get_image_features(**images).shape[1]
        ids = torch.arange(2 * (2 * count + 2)).view(2, -1) % (config.image_token_index or config.vocab_size)
        ids[:, 1 : count + 1] = config.image_token_index
        return {"input_ids": ids, **images}


class LlavaModel(LlavaPreTrainedModel):
    """Turns texts with images into states, one vector per token, each of which knows what came before it.

    Class attributes:
        vision_class, text_class: what makes a part of its configuration; unless given, `AutoModel`.
    """

    vision_class: ClassVar[Any] = None
    text_class: ClassVar[Any] = None

    def __init__(self, config: Any, vision_tower: Any = None, language_model: Any = None) -> None:
        super().__init__(config)
        auto: Any = AutoModel.from_config  # type: ignore[attr-defined]
        makes = (self.vision_class or auto, self.text_class or auto)
        self.vision_tower = take_part(self, "vision_tower", vision_tower, makes[0], field="vision_config")
        self.language_model = take_part(self, "language_model", language_model, makes[1], field="text_config")
        check_reads(self, "vision_tower", self.vision_tower, ("pixel_values",))
        check_reads(self, "language_model", self.language_model, ("input_ids",))
        rest_pooler(self.vision_tower)
        layers = config.vision_feature_layer
        inner = width_of(self, "vision_tower", config.vision_config) * (len(layers) if isinstance(layers, list) else 1)
        outer = width_of(self, "language_model", config.text_config)
        self.multi_modal_projector = LlavaMultiModalProjector(config, inner, outer)

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.language_model.set_input_embeddings(value)

    def tie_weights(self) -> None:
        self.vision_tower.tie_weights()
        self.language_model.tie_weights()

    def select_features(self, pixel_values: Tensor, **options: Any) -> Tensor:
        """Run the tower, and take of its states what the configuration says: `(images, features, width)`."""
        layers = self.config.vision_feature_layer
        wanted = {} if layers is None else {"output_hidden_states": True}
        output = self.vision_tower(pixel_values, return_dict=True, **wanted, **options)
        if layers is None:
            chosen = [output.last_hidden_state]
        else:
            chosen = [output.hidden_states[layer] for layer in (layers if isinstance(layers, list) else [layers])]
        first = 1 if self.config.vision_feature_select_strategy == "default" else 0
        return torch.cat([states[:, first:] for states in chosen], dim=-1)

    def get_image_features(self, pixel_values: Tensor, **options: Any) -> Tensor:
        """Give what takes the places of image tokens, `(images, features, width of the decoder)`."""
        states = self.select_features(pixel_values, **options)
        return self.multi_modal_projector(states.to(self.multi_modal_projector.linear_1.weight.dtype))

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        pixel_values: Opt = None,
        inputs_embeds: Opt = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, width)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`; each image has as many image tokens, `config.image_token_index`, as features.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row.
            pixel_values: `(images, channels, height, width)`, in the order of their tokens; or for each row,
                `(batch, most images, …)`, of which those count that the row has tokens for.
            inputs_embeds: `(batch, length, width)` in place of ids, features of images among them.
            past_key_values, use_cache, output_attentions, output_hidden_states, return_dict, as_laid_out: as the
                decoder takes them.

        Raises:
            ValueError: images without tokens, tokens without images, or another number of the one than of the other.
        """
        features = None
        if inputs_embeds is None and input_ids is not None and not input_ids.is_floating_point():
            begun = past_key_values is not None and getattr(past_key_values, "is_begun", True)
            inputs_embeds, features = self._embed(input_ids, pixel_values, may_lack=begun)
            input_ids = None
        elif pixel_values is not None:
            raise ValueError("pixel_values came with inputs_embeds: images go where input_ids have image tokens.")
        given = {"past_key_values": past_key_values, "use_cache": use_cache, "output_attentions": output_attentions}
        given |= {"output_hidden_states": output_hidden_states, "attention_mask": attention_mask}
        given |= {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        names = Interface.of(self.language_model, []).names
        wanted = {name: True for name in ("return_dict", "as_laid_out") if name in names}
        output = self.language_model(**{n: v for n, v in given.items() if v is not None}, **wanted)
        layout = output.get("layout") or Layout(tuple(output.last_hidden_state.shape[:2]))
        result = LlavaModelOutputWithPast(
            last_hidden_state=output.last_hidden_state if as_laid_out else layout.scatter(output.last_hidden_state),
            past_key_values=output.get("past_key_values"),
            hidden_states=output.get("hidden_states"),
            attentions=output.get("attentions"),
            image_hidden_states=features,
            layout=layout if as_laid_out else None,
        )
        return result if self._chosen("return_dict", return_dict) else result.to_tuple()

    def _embed(self, ids: Tensor, images: Opt, *, may_lack: bool) -> tuple[Tensor, Opt]:
        """Give vectors of tokens, with images' features in their places, and these features."""
        embed, places = self.get_input_embeddings(), ids == self.config.image_token_index  # (batch, length)
        if images is None or (may_lack and not is_traced(ids) and not bool(places.any())):  # read before
            if not may_lack and not is_traced(ids) and bool(places.any()):
                raise ValueError(f"input_ids have {int(places.sum())} image tokens, and there are no pixel_values.")
            return embed(ids), None
        if images.ndim == 5:
            per_image = self.get_image_features(images[:1, 0]).shape[1]
            images = torch.cat(
                [row[: int(count)] for row, count in zip(images, places.sum(1) // per_image, strict=True)]
            )
        features = self.get_image_features(images)  # (images, features, width)
        if not is_traced(ids) and int(places.sum()) != features.shape[0] * features.shape[1]:
            raise ValueError(
                f"input_ids have {int(places.sum())} image tokens, and {len(images)} images make "
                f"{features.shape[0] * features.shape[1]} features: a processor puts in as many tokens as there are "
                "features (LlavaProcessor), and prompts with images are read in one piece."
            )
        x = embed(ids.masked_fill(places, 0))
        return x.masked_scatter(places[..., None], features.to(x.dtype)), features


class LlavaForConditionalGeneration(CausalLMHead, LlavaPreTrainedModel):
    """Scores the vocabulary for every next token of texts with images."""

    base_class: ClassVar[Any] = LlavaModel
    _tied_weights_keys: ClassVar[Any] = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: Any, vision_tower: Any = None, language_model: Any = None) -> None:
        super().__init__(config)
        self.model = self.base_class(config, vision_tower, language_model)
        width = width_of(self, "language_model", config.text_config)
        self.lm_head = nn.Linear(width, config.text_config.vocab_size, bias=False)

    @classmethod
    def _read_weights(cls, model: Any, checkpoint: Any) -> dict[str, Tensor]:
        return {_rename(name): value for name, value in super()._read_weights(model, checkpoint).items()}

    def tie_weights(self) -> None:
        self.model.tie_weights()
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.get_input_embeddings().weight

    def get_image_features(self, pixel_values: Tensor, **options: Any) -> Tensor:
        """Give what takes the places of image tokens, `(images, features, width of the decoder)`."""
        return self.model.get_image_features(pixel_values, **options)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        kept = {n: output.get(n) for n in ("past_key_values", "hidden_states", "attentions", "image_hidden_states")}
        result = LlavaCausalLMOutputWithPast(loss, logits, **kept)
        return result if self._chosen("return_dict", options.get("return_dict")) else result.to_tuple()

    def generate(self, inputs: Any = None, *args: Any, pixel_values: Opt = None, **kwargs: Any) -> Any:
        """Continue texts with images, as `generate` does; images are in the order of their tokens.

        Raises:
            InputError: another number of images than the texts have tokens for.
        """
        ids = kwargs.get("input_ids") if inputs is None else inputs
        if pixel_values is not None:
            is_shared = ids is not None and pixel_values.ndim == 4
            kwargs["pixel_values"] = self._share_images(ids, pixel_values) if is_shared else pixel_values
        own: Any = super().generate
        return own(inputs, *args, **kwargs)

    def _share_images(self, ids: Any, images: Tensor) -> Tensor:
        """Give each row its own images, `(batch, most images, …)`, zeros behind them, unless each has one."""
        token = self.config.image_token_index
        places = [int((torch.as_tensor(row) == token).sum()) for row in ids]
        per_image = sum(places) // max(len(images), 1)
        if not per_image or any(count % per_image for count in places) or sum(places) != per_image * len(images):
            raise InputError(f"The texts have {places} image tokens, which {len(images)} images cannot share equally.")
        if {*places} == {per_image}:
            return images
        split = images.split([count // per_image for count in places])
        return nn.utils.rnn.pad_sequence(list(split), batch_first=True)


def _rename(name: str) -> str:
    return next((there + name[len(here) :] for here, there in RENAMED if name.startswith(here)), name)
