"""Models whose constructors do what constructors do in the wild; a fresh process imports them from here."""

import os

import torch
from torch import nn

from maquette import PretrainedConfig, PreTrainedModel


class TrickyConfig(PretrainedConfig):
    model_type = "tricky"
    dim: int = 6
    depth: int = 3
    backbone: str = ""


class Tricky(PreTrainedModel):
    config_class = TrickyConfig

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class ItemOfFreshTensor(Tricky):
    """`.item()` while constructing: stochastic depth rates, and a scale measured on fresh weights."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.3, config.depth)]
        self.layers = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in self.rates)
        self.largest = self.layers[0].weight.abs().max().item()
        self.listed = self.layers[1].bias.tolist()
        self.as_numpy = self.layers[2].weight.detach().numpy().copy()


class ComputedBuffers(Tricky):
    """Non-persistent buffers, one from numbers and one from the weights."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.line = nn.Linear(config.dim, config.dim)
        frequencies = 1.0 / (10000 ** (torch.arange(0, config.dim, 2).float() / config.dim))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).tril(), persistent=False)
        self.register_buffer("steps", torch.tensor(7))


class RawParameters(Tricky):
    """Parameters of every make: empty then filled, zeros, random, of no gradient, of whole numbers."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.scale = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.legacy = nn.Parameter(torch.Tensor(config.dim).uniform_())
        self.empty = nn.Parameter(torch.empty(config.dim))
        nn.init.trunc_normal_(self.empty, std=0.02)
        self.frozen = nn.Parameter(torch.eye(config.dim), requires_grad=False)
        self.codes = nn.Parameter(torch.arange(5), requires_grad=False)
        self.single = nn.Parameter(torch.tensor(0.5))
        self.parts = nn.ParameterList(nn.Parameter(torch.ones(2) * i) for i in range(3))


class TimmBlocks(Tricky):
    """A network from timm, with its own initialisation."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        from torchvision_operators import declare_operators

        declare_operators()
        from timm.models.resnet import BasicBlock, ResNet

        self.model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, stem_width=8, stem_type="deep", avg_down=True)


class NestedLoad(Tricky):
    """Loads another model's weights while it is constructed, as backbones are."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.before = nn.Linear(config.dim, 2)
        self.backbone = RawParameters.from_pretrained(config.backbone or os.environ["BACKBONE"])
        self.head = nn.Linear(config.dim, 2)


class TiedByAssignment(Tricky):
    """One parameter under three names, and one module under two."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(9, config.dim)
        self.score = nn.Linear(config.dim, 9)
        self.score.weight = self.embed.weight
        self.again = self.embed.weight
        self.block = nn.Linear(config.dim, config.dim)
        self.same_block = self.block


class Parametrized(Tricky):
    """Weight norm in both of its forms, and spectral norm, whose constructor iterates."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(config.dim, 4, 3), dim=2)
        self.orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(config.dim, 4))


class LateBuffers(Tricky):
    """Buffers that are None, or not there at all, until the model has run."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.inner = nn.Linear(config.dim, 2)
        self.register_buffer("cache", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache = x.detach().clone()
        if not hasattr(self, "seen"):
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))
            self.inner.register_buffer("mean", x.mean(0))
        self.seen += 1
        return self.inner(x)


class GammaAndBeta(Tricky):
    """Parameters that are really named gamma and beta, beside a layer norm."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.dim)
        self.gamma = nn.Parameter(torch.full((config.dim,), 0.1))
        self.beta = nn.Parameter(torch.randn(config.dim))
        self.weight = nn.Parameter(torch.randn(config.dim))


class DrawsItsOwn(Tricky):
    """Random features that are not saved: drawn under a seed of its own, after layers were initialised."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.first = nn.Linear(config.dim, config.dim)
        with torch.random.fork_rng():
            torch.manual_seed(1234)
            self.second = nn.Linear(config.dim, config.dim)
            self.register_buffer("projection", torch.randn(config.dim, 4), persistent=False)
        generator = torch.Generator().manual_seed(99)
        nn.init.normal_(self.first.bias, generator=generator)
        self.register_buffer("signs", torch.rand(config.dim, generator=generator).sign(), persistent=False)
        self.register_buffer("noise", torch.rand(config.dim, generator=generator), persistent=False)
        self.third = nn.Linear(config.dim, config.dim)


class CopiedLayers(Tricky):
    """torch's own transformer, which makes one layer and deep-copies it."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        layer = nn.TransformerEncoderLayer(config.dim, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)


class LooksAtItsWeights(Tricky):
    """Keeps views of its parameters, in a list and as a buffer: they must see what was loaded."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.table = nn.Embedding(8, config.dim, padding_idx=2)
        self.rows = [self.table.weight.data[3]]
        self.register_buffer("first_rows", self.table.weight.data[:2], persistent=False)
        self.plain = torch.empty(3).fill_(2.5)


class Renames(nn.Linear):
    """A module that translates the names of its older versions."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.register_load_state_dict_pre_hook(self.translate)

    @staticmethod
    def translate(module: nn.Module, state: dict, prefix: str, *rest: object) -> None:
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel")


class OwnInitialisation(Tricky):
    """`_init_weights` without a call of post_init, a lazy layer, and a hook that renames."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.line = nn.Linear(config.dim, config.dim)
        self.renames = Renames(config.dim, 2)
        self.lazy = nn.LazyLinear(3)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear) and not isinstance(module, nn.LazyLinear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.constant_(module.bias, 0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lazy(self.line(x))


class WritesToMemory(Tricky):
    """Reaches into memory in ways that no dispatcher sees, and into many tensors, or mirrored ones, at once."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        torch.manual_seed(7)
        self.line = nn.Linear(config.dim, config.dim)
        self.line.bias.data.apply_(abs)
        self.sizes = self.line.bias.detach().clone()
        self.halves, self.threes = torch.empty(3).fill_(0.5), torch.empty(3).fill_(3.0)
        self.threes.map_(self.halves, lambda own, other: own - other)
        kept, as_array = torch.empty(4), []
        as_array.append(kept.numpy())
        kept.fill_(2.0)
        as_array[0] *= 3
        self.register_buffer("kept", kept, persistent=False)
        self.pair = nn.ParameterList(nn.Parameter(torch.empty(2).fill_(1.0)) for _ in range(2))
        with torch.no_grad():
            torch._foreach_mul_(list(self.pair), 3.0)
        self.complex = torch.empty(2, dtype=torch.complex64).fill_(1 + 1j)
        self.complex.conj().imag.fill_(2.0)


class PartsOfOne(Tricky):
    """Parameters that are parts of one memory, of which another part is no parameter."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        whole = torch.empty(4, config.dim).fill_(0.5)
        self.first, self.second = nn.Parameter(whole[:1]), nn.Parameter(whole[1:3])
        self.register_buffer("rest", whole[3:], persistent=False)
        self.left, self.right = (nn.Parameter(part) for part in torch.empty(2, 3).fill_(0.25))


class OneMemory(Tricky):
    """Parameters that are two, over the same memory: tied all the same, and saved once."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.line, self.other, self.third = (nn.Linear(config.dim, config.dim) for _ in range(3))
        self.other.weight.data = self.line.weight.data
        self.third.load_state_dict(self.line.state_dict(), assign=True)


KINDS = [
    ItemOfFreshTensor,
    ComputedBuffers,
    RawParameters,
    TimmBlocks,
    NestedLoad,
    TiedByAssignment,
    Parametrized,
    LateBuffers,
    GammaAndBeta,
    DrawsItsOwn,
    CopiedLayers,
    LooksAtItsWeights,
    OwnInitialisation,
    WritesToMemory,
    PartsOfOne,
    OneMemory,
]


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Everything a model holds, saved or not, under every name it has."""
    found = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    found |= {f"plain {name}": value for name, value in vars(model).items() if isinstance(value, torch.Tensor)}
    found |= {f"row {i}": row for i, row in enumerate(getattr(model, "rows", ()))}
    return {name: value.detach().clone() for name, value in found.items()}
