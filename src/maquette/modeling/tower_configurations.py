"""Configurations of models that compare texts with images: one for each tower, and one that holds both."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette.configuration import PretrainedConfig
from maquette.errors import ConfigurationError
from maquette.modeling.patches import PatchGridMixin

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
PARTS = {"text_config": "text_model", "vision_config": "vision_model"}  # and how their model types end


class TowerConfig(PretrainedConfig):
    """What the configurations of both kinds of towers share. A folder of both towers is read for the one alone.

    Class attributes:
        part: the name under which a configuration of both holds this one.
    """

    part: ClassVar[str] = ""

    hidden_size: Count = 768
    intermediate_size: Count = 3072
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    hidden_act: str = "gelu"
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-5
    attention_dropout: Share = 0.0

    @classmethod
    def _read(cls, content: dict[str, Any], overrides: dict[str, Any], place: str, return_unused: bool) -> Any:
        if isinstance(whole := content.get(cls.part), dict):
            kept = ("_name_or_path", "projection_dim")  # where both are compared, the whole has the say
            content = {**whole, **{name: content[name] for name in kept if name in content}}
        check_part(cls.part, content.get("model_type"), place, cls.__name__)
        return super()._read(content, overrides, place, return_unused)

    def validate(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} cannot be shared equally by "
                f"num_attention_heads={self.num_attention_heads}."
            )
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')


class TextTowerConfig(TowerConfig):
    """What a tower that reads texts can be."""

    part = "text_config"

    vocab_size: Count = 49408
    max_position_embeddings: Count = 77


class ImageTowerConfig(PatchGridMixin, TowerConfig):
    """What a tower that looks at images can be."""

    part = "vision_config"

    num_channels: Count = 3
    image_size: Count | tuple[Count, Count] = 224
    patch_size: Count | tuple[Count, Count] = 16

    def validate(self) -> None:
        super().validate()
        if not all(self.grid):
            raise ValueError(f"image_size={self.image_size} is less than one patch of patch_size={self.patch_size}.")


class TwoTowerConfig(PretrainedConfig):
    """Holds the configurations of both towers, as `text_config` and `vision_config`.

    Files of 2021 say what differs from the defaults once more, as `text_config_dict` and `vision_config_dict`; that is
    what counts there. An `attn_implementation` of the whole is that of towers that name none.
    """

    text_config: Any
    vision_config: Any

    def __post_init__(self, **kwargs: Any) -> None:
        for name in PARTS:
            part = getattr(self, name)
            part = {} if part is None else part
            if isinstance(part, dict):
                part = {**part, **(kwargs.get(f"{name}_dict") or {})}
                check_part(name, part.get("model_type"), "", type(self).__name__)
                if part.get("attn_implementation") is None and self.attn_implementation is not None:
                    part["attn_implementation"] = self.attn_implementation
            elif part.attn_implementation is None:
                part.attn_implementation = self.attn_implementation
            setattr(self, name, part)
        super().__post_init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        """The entries of the vocabulary of texts."""
        return int(self.text_config.vocab_size)

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value


def check_part(name: str, model_type: Any, place: str, wanted: str) -> None:
    """Refuse the configuration of the other tower.

    Raises:
        ConfigurationError: naming both.
    """
    other = next(end for part, end in PARTS.items() if part != name)
    if isinstance(model_type, str) and model_type.endswith(other):
        start = f"{place}: " if place else ""
        raise ConfigurationError(
            f"{start}{wanted} needs the tower of {name!r}, and this is the configuration of a {model_type!r}. Take "
            "that tower's own classes, or a folder that holds both."
        )
