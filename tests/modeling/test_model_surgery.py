"""Vocabularies that grow, heads that go, ties that hold, and what a model says of itself."""

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from maquette import PretrainedConfig, PreTrainedModel, find_pruneable_heads_and_indices, prune_linear_layer


class TinyConfig(PretrainedConfig):
    model_type = "tiny-lm"
    vocab_size: int = 11
    dim: int = 8
    heads: int = 4
    biased: bool = True


class TinyPreTrainedModel(PreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "body"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.001)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)


class Attention(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.heads, self.size = config.heads, config.dim // config.heads
        self.pruned: set[int] = set()
        self.q, self.k, self.v = (nn.Linear(config.dim, config.dim) for _ in range(3))
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, self.size)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (batch, length, width)
        return self.out(mixed)

    def prune(self, heads: list[int]) -> None:
        heads, index = find_pruneable_heads_and_indices(heads, self.heads, self.size, self.pruned)
        self.q, self.k, self.v = (prune_linear_layer(layer, index) for layer in (self.q, self.k, self.v))
        self.out = prune_linear_layer(self.out, index, dim=1)
        self.heads -= len(heads)
        self.pruned |= heads


class TinyModel(TinyPreTrainedModel):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim, padding_idx=0)
        self.layer = nn.ModuleList([Attention(config)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layer:
            x = x + layer(x)
        return x

    def _prune_heads(self, heads_to_prune: Mapping[int, list[int]]) -> None:
        for number, heads in heads_to_prune.items():
            self.layer[number].prune(heads)


class TinyLM(TinyPreTrainedModel):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.body = TinyModel(config)
        self.score = nn.Linear(config.dim, config.vocab_size, bias=config.biased)

    def get_output_embeddings(self) -> nn.Module:
        return self.score

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.score(self.body(ids))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [17, 7])
def test_resizing_keeps_rows_and_ties_and_reloads(tmp_path: Path, tied: bool, size: int) -> None:
    model = TinyLM(TinyConfig(tie_word_embeddings=tied)).eval()
    nn.init.normal_(model.body.embed.weight)
    nn.init.normal_(model.score.bias)
    old_rows, old_bias = model.body.embed.weight.detach().clone(), model.score.bias.detach().clone()
    kept = min(size, 11)
    given = model.resize_token_embeddings(size)
    assert given is model.get_input_embeddings() is model.body.embed
    assert (given.num_embeddings, model.score.out_features) == (size, size)
    assert torch.equal(given.weight[:kept], old_rows[:kept])
    assert torch.equal(model.score.bias[:kept], old_bias[:kept])
    assert (model.score.weight is given.weight) is tied
    assert model.config.vocab_size == model.body.config.vocab_size == size
    assert given.weight[kept:].abs().max() < 0.01 if size > 11 else True  # as _init_weights has it, not as nn.Embedding
    assert not model.score.bias[kept:].any()
    assert model(torch.tensor([[size - 1]])).shape == (1, 1, size)
    model.save_pretrained(tmp_path)
    again = TinyLM.from_pretrained(tmp_path)
    assert torch.equal(again(torch.tensor([[1, 2]])), model(torch.tensor([[1, 2]])))
    assert (again.score.weight is again.body.embed.weight) is tied


def test_resizing_rounds_up_and_refuses_nonsense() -> None:
    model = TinyLM(TinyConfig())
    assert model.resize_token_embeddings(pad_to_multiple_of=8).num_embeddings == 16
    assert model.resize_token_embeddings(17, pad_to_multiple_of=64).num_embeddings == 64
    before = model.get_input_embeddings()
    assert model.resize_token_embeddings(64) is before
    for wrong in ({"new_num_tokens": 0}, {"new_num_tokens": -3}, {"pad_to_multiple_of": 0}, {"new_num_tokens": 2.5}):
        with pytest.raises(ValueError, match="sizes start at 1"):
            model.resize_token_embeddings(**wrong)
    assert model.get_input_embeddings() is before


def test_resizing_keeps_type_and_gradient_flag() -> None:
    model = TinyLM(TinyConfig(biased=False)).to(torch.bfloat16)
    model.body.embed.weight.requires_grad_(False)
    new = model.resize_token_embeddings(20)
    assert (new.weight.dtype, new.weight.requires_grad, new.padding_idx) == (torch.bfloat16, False, 0)


def test_pruning_equals_silencing_the_heads_and_is_remembered(tmp_path: Path) -> None:
    """The oracle: the unpruned layer with the columns of the output projection that read those heads set to zero."""
    model = TinyLM(TinyConfig()).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    reference = TinyLM(model.config).eval()
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        for head in (0, 2):
            reference.body.layer[0].out.weight[:, head * 2 : head * 2 + 2] = 0
    ids = torch.tensor([[1, 5, 3, 10]])
    model.prune_heads({0: [2]})
    model.prune_heads({0: [0, 2]})  # numbered as before any pruning, and pruned ones may be named again
    assert model.body.layer[0].q.weight.shape == (4, 8)
    torch.testing.assert_close(model(ids), reference(ids), rtol=1e-5, atol=1e-5)
    assert model.config.pruned_heads == {0: [0, 2]}
    model.save_pretrained(tmp_path)
    again = TinyLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids), model(ids))
    body = TinyModel.from_pretrained(tmp_path)
    assert body.layer[0].heads == 2


def test_models_without_a_way_to_prune_say_how() -> None:
    class Plain(PreTrainedModel):
        config_class = TinyConfig

    with pytest.raises(NotImplementedError, match="_prune_heads"):
        Plain(TinyConfig()).prune_heads({0: [1]})
    with pytest.raises(NotImplementedError, match="get_input_embeddings"):
        Plain(TinyConfig()).resize_token_embeddings(5)


def test_what_a_model_says_of_itself() -> None:
    model = TinyLM(TinyConfig())
    distinct = {id(p): p for p in model.parameters()}.values()
    assert model.num_parameters() == sum(p.numel() for p in distinct) == 88 + 4 * 72 + 11
    model.score.bias.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == 88 + 4 * 72
    assert model.num_parameters(exclude_embeddings=True) == 4 * 72 + 11
    assert model.get_memory_footprint() == 4 * model.num_parameters()
    assert model.base_model is model.body
    assert model.body.base_model is model.body
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    assert model.to(torch.float16).dtype == torch.float16
    model.add_model_tags("one")
    model.add_model_tags(["one", "two"])
    assert model.model_tags == ["one", "two"]


def test_ties_by_configuration_need_no_post_init() -> None:
    assert TinyLM(TinyConfig()).score.weight is not None
    model = TinyLM(TinyConfig())
    assert model.score.weight is model.body.embed.weight
    assert TinyLM(TinyConfig(tie_word_embeddings=False)).score.weight is not model.body.embed.weight


def test_initialisation_runs_once_for_every_module() -> None:
    seen: list[nn.Module] = []

    class Counting(TinyPreTrainedModel):
        def _init_weights(self, module: nn.Module) -> None:
            seen.append(module)

    class Inner(Counting):
        def __init__(self, config: TinyConfig) -> None:
            super().__init__(config)
            self.line = nn.Linear(2, 2)

    class Outer(Counting):
        def __init__(self, config: TinyConfig) -> None:
            super().__init__(config)
            self.body = Inner(config)
            self.head = nn.Linear(2, 2)
            self.post_init()  # code written for the peer calls it

    model = Outer(TinyConfig())
    assert sorted(map(id, seen)) == sorted(id(module) for module in model.modules())


class Checkpointed(TinyModel):
    supports_gradient_checkpointing = True

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = False

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layer:
            x = x + (self._gradient_checkpointing_func(layer, x) if self.gradient_checkpointing else layer(x))
        return x


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = Checkpointed(TinyConfig())
    ids = torch.tensor([[1, 2, 3]])
    model(ids).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model(ids).square().sum().backward()
    assert all(torch.equal(p.grad, expected[name]) for name, p in model.named_parameters())
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    bare = TinyModel(TinyConfig())
    del bare.layer
    with pytest.raises(ValueError, match="has no blocks in a list of layers, and no module with an attribute"):
        bare.gradient_checkpointing_enable()


class AddedBlock(nn.Module):
    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.norm, self.inner = norm(8), nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 8))

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return x + scale * self.inner(self.norm(x))


class Unmarked(PreTrainedModel):
    """Has blocks, and nothing that speaks of recomputing."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(AddedBlock(norm) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, scale=0.5)
        return x


def run_counting(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Give a loss, and how many numbers wait for the backward pass."""
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        torch.manual_seed(0)
        loss = model(x).square().sum()
    return loss, sum(sizes)


def test_blocks_are_recomputed_without_the_models_help() -> None:
    model, x, gradients, kept = Unmarked(TinyConfig()).train(), torch.randn(4, 8), [], []
    for recomputing in (False, True, False):
        (model.gradient_checkpointing_enable if recomputing else lambda: None)()
        assert model.is_gradient_checkpointing == recomputing and isinstance(model.blocks[0], AddedBlock)
        loss, numbers = run_counting(model, x)
        model.zero_grad()
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        kept.append(numbers)
        twin = copy.deepcopy(model)
        if recomputing:
            with torch.no_grad():
                twin.blocks[0].inner[3].bias.fill_(1.0)
            assert not torch.equal(twin.eval()(x), model.eval()(x))  # it runs weights of its own
            model.train().gradient_checkpointing_disable()
    assert type(model.blocks[0]) is AddedBlock
    for one, other in zip(gradients[0], gradients[1], strict=True):
        assert torch.equal(one, other)
    assert kept[1] < kept[0] / 2 and kept[2] == kept[0]
    with pytest.raises(ValueError, match="running statistics would count every batch twice"):
        Unmarked(TinyConfig(), nn.BatchNorm1d).gradient_checkpointing_enable()


def test_a_model_is_made_from_a_configuration() -> None:
    with pytest.raises(TypeError, match=r"TinyModel\.from_pretrained"):
        TinyModel("bert-base-uncased")

    class NoConfig(PreTrainedModel):
        pass

    with pytest.raises(TypeError, match="config_class"):
        NoConfig.from_pretrained(Path(__file__).parent)


def test_from_config_gives_what_the_constructor_gives() -> None:
    torch.manual_seed(2)
    expected = TinyLM(TinyConfig())
    torch.manual_seed(2)
    found = TinyLM.from_config(TinyConfig())
    assert all(torch.equal(p, q) for p, q in zip(expected.parameters(), found.parameters(), strict=True))
    assert TinyLM.from_config(TinyConfig(), dtype="bfloat16").dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, torch.device("cpu"), None, {"body": "cpu", "score": "cpu"}])
def test_one_device(tmp_path: Path, device_map) -> None:
    TinyLM(TinyConfig()).save_pretrained(tmp_path)
    assert TinyLM.from_pretrained(tmp_path, device_map=device_map).device == torch.device("cpu")


class WordsConfig(PretrainedConfig):
    model_type = "words-surgery"
    vocab_size: int = 7
    dim: int = 7  # as many as words: only names tell a bias of words from other vectors


class Decoder(nn.Module):
    """As BERT has it: the output layer's bias is also a parameter of the head; or, in older ones, only that."""

    def __init__(self, config: WordsConfig, *, has_own_bias: bool) -> None:
        super().__init__()
        self.norm_scale = nn.Parameter(torch.ones(config.dim))
        self.decoder = nn.Linear(config.dim, config.vocab_size, bias=has_own_bias)
        self.bias = nn.Parameter(torch.arange(float(config.vocab_size)))
        if has_own_bias:
            self.decoder.bias = self.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.decoder(x * self.norm_scale)
        return scores if self.decoder.bias is not None else scores + self.bias


@pytest.mark.parametrize("size", [5, 10])
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("has_own_bias", [False, True])
def test_a_bias_of_the_vocabulary_follows_a_resize(tmp_path, has_own_bias: bool, is_tied: bool, size: int) -> None:
    class Words(PreTrainedModel):
        config_class = WordsConfig

        def __init__(self, config: WordsConfig) -> None:
            super().__init__(config)
            self.table = nn.Embedding(config.vocab_size, config.dim)
            self.other = nn.Linear(config.dim, config.vocab_size, bias=False)  # tied by hand to the table
            self.other.weight = self.table.weight
            self.head = Decoder(config, has_own_bias=has_own_bias)

        def get_input_embeddings(self) -> nn.Module:
            return self.table

        def get_output_embeddings(self) -> nn.Module:
            return self.head.decoder

        def set_output_embeddings(self, value: nn.Module) -> None:
            self.head.decoder = value

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(ids))

    model = Words(WordsConfig(tie_word_embeddings=is_tied)).eval()
    ids, kept = torch.arange(5)[None], min(size, 7)
    before = model(ids)
    model.head.bias.requires_grad_(False)
    model.resize_token_embeddings(size)
    scores = model(ids)
    assert scores.shape == (1, 5, size)
    assert torch.allclose(scores[..., :kept], before[..., :kept], atol=1e-6)
    assert model.head.bias.shape == (size,)
    assert not model.head.bias.requires_grad
    assert model.head.norm_scale.shape == (7,)
    assert model.other.weight is model.table.weight
    assert (model.head.decoder.weight is model.table.weight) == is_tied
    assert (model.head.decoder.bias is model.head.bias) == has_own_bias
    model.save_pretrained(tmp_path)
    assert torch.equal(Words.from_pretrained(tmp_path)(ids), scores)


def test_a_resize_that_no_configuration_could_remember_changes_nothing() -> None:
    class NoSize(PretrainedConfig):
        model_type = "no-size"

    class Words(PreTrainedModel):
        config_class = NoSize

        def __init__(self, config: NoSize) -> None:
            super().__init__(config)
            self.table = nn.Embedding(7, 3)

        def get_input_embeddings(self) -> nn.Module:
            return self.table

    model = Words(NoSize())
    with pytest.raises(ValueError, match="no field vocab_size"):
        model.resize_token_embeddings(9)
    assert model.table.weight.shape == (7, 3)
