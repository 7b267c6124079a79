"""Configurations of every style, among them the styles that code for the peer is written in."""

import enum
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from maquette import PretrainedConfig

Count = Annotated[int, msgspec.Meta(gt=0)]


class DistilBert(PretrainedConfig):
    model_type = "distilbert"
    aliases: ClassVar[dict[str, str]] = {"hidden_size": "dim", "num_hidden_layers": "n_layers"}
    vocab_size: Count = 30522
    max_position_embeddings: Count = 512
    sinusoidal_pos_embds: bool = False
    n_layers: Count = 6
    n_heads: Count = 12
    dim: Count = 768
    hidden_dim: Count = 3072
    dropout: float = 0.1
    attention_dropout: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0

    def validate(self) -> None:
        if self.dim % self.n_heads:
            raise ValueError(f"dim={self.dim} cannot be shared equally by n_heads={self.n_heads}.")


class DistilBertByHand(PretrainedConfig):
    model_type = "distilbert"
    attribute_map = {"hidden_size": "dim", "num_hidden_layers": "n_layers"}  # noqa: RUF012

    def __init__(
        self,
        vocab_size=30522,
        max_position_embeddings=512,
        sinusoidal_pos_embds=False,
        n_layers=6,
        n_heads=12,
        dim: Count = 768,
        hidden_dim=4 * 768,
        dropout=0.1,
        attention_dropout: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1,
        activation="gelu",
        initializer_range=0.02,
        qa_dropout=0.1,
        seq_classif_dropout=0.2,
        pad_token_id=0,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        self.sinusoidal_pos_embds = sinusoidal_pos_embds
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dim = dim
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation = activation
        self.initializer_range = initializer_range
        self.qa_dropout = qa_dropout
        self.seq_classif_dropout = seq_classif_dropout
        super().__init__(**kwargs, pad_token_id=pad_token_id)

    def validate(self):
        if self.dim % self.n_heads:
            raise ValueError(f"dim={self.dim} cannot be shared equally by n_heads={self.n_heads}.")


class Text(PretrainedConfig):
    model_type = "text"
    dim: Count = 8
    layers: tuple[int, ...] = (3, 4)
    act: Literal["relu", "gelu"] = "gelu"


class Nested(PretrainedConfig):
    model_type = "nested"
    text: Text = Text()
    towers: dict[str, Text] = {}  # noqa: RUF012
    stack: list[Text] = []  # noqa: RUF012
    any: PretrainedConfig | None = None
    heads: dict[int, list[int]] = {}  # noqa: RUF012
    either: Text | int | str = 0


class NestedByHand(PretrainedConfig):
    model_type = "nested-by-hand"

    def __init__(self, text=None, n_text=2, **kwargs):
        self.text = Text(**text) if isinstance(text, dict) else text or Text()
        self.n_text = n_text
        super().__init__(**kwargs)


class LabelsInSignature(PretrainedConfig):
    def __init__(self, num_labels=10, **kwargs):
        super().__init__(num_labels=num_labels, **kwargs)


class LabelsBefore(PretrainedConfig):
    def __init__(self, num_labels=10, **kwargs):
        self.num_labels = num_labels
        super().__init__(**kwargs)


class LabelsAfter(PretrainedConfig):
    def __init__(self, num_labels=10, **kwargs):
        super().__init__(**kwargs)
        self.num_labels = num_labels


class LabelsAnnotated(PretrainedConfig):
    num_labels: int = 10


class LabelsInherited(LabelsInSignature):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class LabelsNamed(PretrainedConfig):
    id2label = {index: f"name {index}" for index in range(10)}  # noqa: RUF012


class Pops(PretrainedConfig):
    def __init__(self, dim=8, **kwargs):
        self.dim = dim
        self.ratio = kwargs.pop("ratio", 3)
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)


class DerivesFirst(PretrainedConfig):
    def __init__(self, dim=8, heads=2, **kwargs):
        self.dim, self.heads = dim, heads
        self.head_dim = dim // heads
        super().__init__(**kwargs)


class DerivesLast(PretrainedConfig):
    def __init__(self, dim=8, heads=2, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.heads = dim, heads
        self.head_dim = self.dim // self.heads


class DerivesFromFields(PretrainedConfig):
    dim: int = 8
    heads: int = 2

    def __post_init__(self, **kwargs):
        self.head_dim = self.dim // self.heads
        super().__post_init__(**kwargs)


class PassesOn(PretrainedConfig):
    def __init__(self, dim=8, pad_token_id=1, use_cache=True, torch_dtype="float16", **kwargs):
        super().__init__(
            dim=dim, pad_token_id=pad_token_id, use_cache=use_cache, torch_dtype=torch_dtype, scale=0.5, **kwargs
        )


class HardCodes(PretrainedConfig):
    def __init__(self, dim=8, **kwargs):
        self.dim = dim
        super().__init__(is_encoder_decoder=True, max_length=5, num_labels=3, **kwargs)


class Transforms(PretrainedConfig):
    def __init__(self, sizes="3,4", rank="auto", dim: int = None, act: Any = "gelu", **kwargs):  # noqa: RUF013 - as many do
        self.sizes = [int(size) for size in sizes.split(",")] if isinstance(sizes, str) else sizes
        self.rank = 4 if rank == "auto" else rank
        self.dim = dim
        self.act = act
        super().__init__(**kwargs)


class Resnet(PretrainedConfig):
    model_type = "resnet"

    def __init__(self, block_type="bottleneck", layers: list[int] = [3, 4, 6, 3], width=64, **kwargs):  # noqa: B006
        if block_type not in ["basic", "bottleneck"]:
            raise ValueError(f"`block_type` must be 'basic' or bottleneck', got {block_type}.")
        self.block_type = block_type
        self.layers = layers
        self.width = width
        self.half = width // 2
        super().__init__(**kwargs)


class Kind(enum.Enum):
    SMALL = "small"


class Everything(PretrainedConfig):
    kind: Kind = Kind.SMALL
    path: Path = Path("a")
    limit: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    names: set[str] = set()  # noqa: RUF012
    anything: Any = None
    rate: Annotated[int | float, msgspec.Meta(ge=0)] = 1
    depth: Annotated[int | None, msgspec.Meta(gt=0)] = None


class Loses(PretrainedConfig):
    def __init__(self, dim=8, pad_token_id=3, **kwargs):
        self._hidden = dim
        super().__init__(**kwargs)


class Doubles(PretrainedConfig):
    def __init__(self, dim=8, **kwargs):
        self.dim = 2 * dim
        super().__init__(**kwargs)


class Holds(PretrainedConfig):
    def __init__(self, value=None, **kwargs):
        self.value = value
        self.popped = kwargs.pop("popped", None)
        super().__init__(**kwargs)


def reload(config: PretrainedConfig, folder: Path, **overrides: Any) -> Any:
    config.save_pretrained(folder)
    return type(config).from_pretrained(folder, **overrides)


def write(folder: Path, content: Any, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path
