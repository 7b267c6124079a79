"""Any encoder of images beside any encoder of texts, which learn to agree (Zhai et al. 2022)."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maquette import AutoModel, PreTrainedModel
from maquette.errors import InputError
from maquette.modeling.composed import check_reads, sort_keywords, take_part, width_of
from maquette.modeling.interface import Interface
from maquette.modeling.two_towers import TwoTowers

from .configuration import VisionTextDualEncoderConfig


class VisionTextDualEncoderModel(TwoTowers, PreTrainedModel):
    """Both encoders, and how well each text goes with each image: cosines, times `exp(logit_scale)`.

    Class attributes:
        vision_class, text_class: what makes a part of its configuration; unless given, `AutoModel`.
    """

    config_class: ClassVar[Any] = VisionTextDualEncoderConfig
    base_model_prefix = "vision_text_dual_encoder"
    supports_gradient_checkpointing = True
    vision_class: ClassVar[Any] = None
    text_class: ClassVar[Any] = None

    def __init__(self, config: Any = None, vision_model: Any = None, text_model: Any = None) -> None:
        if config is None:
            config = self._join(vision_model, text_model)
        super().__init__(config)
        auto: Any = AutoModel
        makes = (self.vision_class or auto.from_config, self.text_class or auto.from_config)
        self.vision_model = take_part(self, "vision_model", vision_model, makes[0], field="vision_config")
        self.text_model = take_part(self, "text_model", text_model, makes[1], field="text_config")
        check_reads(self, "vision_model", self.vision_model, ("pixel_values",))
        check_reads(self, "text_model", self.text_model, ("input_ids",))
        widths = [width_of(self, f"{part} model", getattr(config, f"{part}_config")) for part in ("vision", "text")]
        self.visual_projection = nn.Linear(widths[0], config.projection_dim, bias=False)
        self.text_projection = nn.Linear(widths[1], config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))

    @classmethod
    def _join(cls, vision: Any, text: Any, **fields: Any) -> Any:
        for name, part in (("vision_model", vision), ("text_model", text)):
            if not isinstance(part, PreTrainedModel):
                raise InputError(f"{cls.__name__} needs a configuration, or both of its parts: {name} is {part!r}.")
        return cls._require_config_class()(vision_config=vision.config, text_config=text.config, **fields)

    @classmethod
    def from_vision_text_pretrained(
        cls, vision_model_name_or_path: Any = None, text_model_name_or_path: Any = None, **kwargs: Any
    ) -> Self:
        """Join two models, each from its own folder; the projections are new.

        Args:
            vision_model_name_or_path, text_model_name_or_path: what to load; of a model of both, its part is taken.
            kwargs: `vision_…` and `text_…` go to the loading of one part, `vision_model` and `text_model` are parts
                that are there already; others are fields of the configuration.

        Raises:
            InputError: a part that is not there, or does not fit; it is named.
        """
        *own, fields = sort_keywords(kwargs, "vision", "text")
        auto: Any = AutoModel
        parts = []
        for name, place, options in zip(
            ("vision", "text"), (vision_model_name_or_path, text_model_name_or_path), own, strict=True
        ):
            part = options.pop("model", None)
            if part is None and place is None:
                raise InputError(f"{cls.__name__}: no {name}_model: name its folder, or give {name}_model=….")
            if part is None:
                part = (getattr(cls, f"{name}_class") or auto).from_pretrained(place, **options)
            parts.append(getattr(part, f"{name}_model", part))
        return cls(cls._join(*parts, **fields), *parts).eval()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {**self.text_model.dummy_inputs, **self.vision_model.dummy_inputs}

    def tie_weights(self) -> None:
        self.vision_model.tie_weights()
        self.text_model.tie_weights()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Fit the vocabulary of the encoder of texts to a tokenizer."""
        return self.text_model.resize_token_embeddings(*args, **kwargs)

    def _project(self, tower: Any, embed: Any, options: dict[str, Any], *inputs: Tensor | None) -> Any:
        """Run a tower with what it takes; what it does not know may be left at its default only."""
        names = Interface.of(tower, []).names
        given = {
            name: value for name, value in options.items() if name in names or not (value is None or value is False)
        }
        first, mask = inputs[0], inputs[1] if len(inputs) > 1 else None
        output = tower(first, **({} if mask is None else {"attention_mask": mask}), **{**given, "return_dict": True})
        if output.get("pooler_output") is None:
            part = "text_model" if tower is self.text_model else "vision_model"
            raise InputError(
                f"{type(self).__name__}: {part} is a {type(tower).__name__}, which gives no pooler_output, the one "
                "vector of a row that is compared."
            )
        output["pooler_output"] = embed(output.pooler_output)
        return output if self._chosen("return_dict", options.get("return_dict")) else output.to_tuple()

    def _embed_text(self, pooled: Tensor) -> Tensor:
        return self.text_projection(pooled)

    def _embed_image(self, pooled: Tensor) -> Tensor:
        return self.visual_projection(pooled)

    def _score(self, text: Tensor, image: Tensor) -> Tensor:
        return text @ image.T * self.logit_scale.exp()

    def _contrast(self, per_text: Tensor, per_image: Tensor, labels: Tensor) -> Tensor:
        return (cross_entropy(per_text, labels) + cross_entropy(per_image, labels)) / 2
