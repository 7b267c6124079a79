"""Models that each break one promise; the conformance kit has to name the culprit."""

import os
import random
from typing import Any

import numpy as np
import torch
from sample_models import ScribeAttention, ScribeConfig, ScribeForCausalLM, ScribeModel
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone writes it

from maquette import PretrainedConfig, PreTrainedModel


class ToyConfig(PretrainedConfig):
    model_type = "toy"
    dim: int = 4


class Toy(PreTrainedModel):
    """Keeps every promise; each class below breaks one."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.line = nn.Linear(config.dim, config.dim)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        return {"x": torch.linspace(-1, 2, 3 * self.config.dim).reshape(3, -1)}

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x)}


# construction, forward ------------------------------------------------------------------------------------------------


class FailsConstruction(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        if config.dim % 2 == 0:
            raise ValueError(f"dim must be odd, not {config.dim}.")


class FailsForward(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return self.line(x.reshape(5, -1))


class ReturnsNothing(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"shape": x.shape[0]}


class ReturnsInfinity(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x) / 0}


class HasNoInputs(Toy):
    dummy_inputs = PreTrainedModel.dummy_inputs


# seed, from_config -----------------------------------------------------------------------------------------------


class DrawsFromTheSystem(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.offset = nn.Parameter(torch.from_numpy(np.random.default_rng().random(config.dim, dtype="float32")))


class HasOtherFromConfig(Toy):
    @classmethod
    def from_config(cls, config: ToyConfig, **kwargs: Any) -> Any:
        model = super().from_config(config, **kwargs)
        nn.init.zeros_(model.line.bias)
        model.config.dim = 9
        return model


# determinism -----------------------------------------------------------------------------------------------------


class Sprinkler(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x)  # in evaluation mode too


class DropsInEvaluation(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.sprinkler = Sprinkler()

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(self.sprinkler(x))}


class ChangesItsInput(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x.mul_(2))}


class CountsInEvaluation(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        self.seen += 1
        return {"logits": self.line(x)}


# batch -----------------------------------------------------------------------------------------------------------


class BatchCentre(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class MixesTheBatch(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.centre = BatchCentre()

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.centre(self.line(x))}


class SqueezesOneExample(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        y = self.line(x).squeeze()
        return {"logits": y.softmax(dim=1)}


class PoolsPadding(PreTrainedModel):
    """Averages hidden tokens too."""

    config_class = ScribeConfig

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        x = self.embed(input_ids)  # (batch, length, dim)
        return {"tokens": x, "summary": x.mean(1)}


# ties, buffers, reload -------------------------------------------------------------------------------------------


class SharesMemory(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.back = nn.Linear(config.dim, config.dim)
        self.back.weight.data = self.line.weight.data

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.back(self.line(x))}


class ForgetsToTie(ScribeForCausalLM):
    def tie_weights(self) -> None:
        pass


class UntiesWhenLoaded(ScribeForCausalLM):
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().from_pretrained(*args, **kwargs)
        model.scores.weight = nn.Parameter(model.scores.weight.detach().clone())
        return model


class SavesTiesTwice(ScribeForCausalLM):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: tensor.clone() for name, tensor in super().state_dict(*args, **kwargs).items()}


class HasRandomBuffer(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.register_buffer("noise", torch.rand(config.dim), persistent=False)

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x + self.noise)}


class KeepsPlainTensor(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.scale = torch.rand(config.dim)

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x * self.scale)}


class LeavesBiasUnsaved(Toy):
    _keys_to_ignore_on_save = ("line.bias",)


class ForgetsCodes(Toy):
    """Saves its buffer, and loads it as something else."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.register_buffer("codes", torch.rand(config.dim))

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().from_pretrained(*args, **kwargs)
        model.codes = torch.zeros_like(model.codes)
        return model.train()


class RollsDice(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.gain = 1 + random.random()

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x) * self.gain}


class WidensItsConfig(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        config.tokenizer_class = (config.tokenizer_class or "") + "Fast"


# deepcopy, pickle ------------------------------------------------------------------------------------------------


class IsItsOwnCopy(Toy):
    def __deepcopy__(self, memo: Any) -> Any:
        return self


class HoldsLambda(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.activation = lambda x: x.relu()

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.activation(self.line(x))}


class LosesItsGain(Toy):
    """Keeps out of its copies what `forward` needs."""

    gain = 2.0

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x) * self.gain}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "gain": 0.0}


# half precision --------------------------------------------------------------------------------------------------


class MakesFloat32(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x) @ torch.eye(self.config.dim)}


class OverflowsInHalf(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        limit = torch.tensor(torch.finfo(torch.float32).max).to(x.dtype)
        return {"logits": self.line(x) + (limit - limit)}


class LoadsAsFloat32(Toy):
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().from_pretrained(*args, **kwargs)
        model.line.bias.data = model.line.bias.data.float()
        model.forward = lambda x: {"logits": Toy.forward(model.float(), x.float()).pop("logits")}
        return model


# resizing, pruning -----------------------------------------------------------------------------------------------


class HidesItsScores(ScribeForCausalLM):
    def get_output_embeddings(self) -> None:
        return None


class ShufflesRows(ScribeForCausalLM):
    def resize_token_embeddings(self, new_num_tokens: int | None = None, **kwargs: Any) -> nn.Module:
        new = super().resize_token_embeddings(new_num_tokens, **kwargs)
        new.weight.data = new.weight.data.flip(0)
        return new


class PrunesWrongColumns(ScribeAttention):
    def prune_heads(self, heads: Any) -> None:
        out = self.out_lin.weight.data.clone()
        super().prune_heads(heads)
        self.out_lin.weight.data = out[:, : self.out_lin.in_features]


class PrunesWrongly(ScribeModel):
    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.layer[0].attention = PrunesWrongColumns(config)


class PrunesNothing(ScribeModel):
    def _prune_heads(self, heads_to_prune: Any) -> None:
        pass


class RedrawsWhenPruned(ScribeModel):
    def _prune_heads(self, heads_to_prune: Any) -> None:
        super()._prune_heads(heads_to_prune)
        nn.init.normal_(self.layer[0].attention.q_lin.weight)
        nn.init.zeros_(self.layer[1].widen.weight)


# loss, gradients, checkpointing ----------------------------------------------------------------------------------


class Classifier(Toy):
    """Keeps the contract of labels and loss; the ones below do not."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        logits = self.line(x)
        return {"logits": logits} if labels is None else self.with_loss(logits, labels)

    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class LosesPerExample(Classifier):
    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": F.cross_entropy(logits, labels, reduction="none"), "logits": logits}


class NamesLossOtherwise(Classifier):
    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"cost": F.cross_entropy(logits, labels), "scores": logits}


class ReturnsPair(Classifier):
    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return F.cross_entropy(logits, labels), logits


class DetachesLoss(Classifier):
    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": F.cross_entropy(logits.detach(), labels), "logits": logits}


class LosesInfinity(Classifier):
    def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": F.cross_entropy(logits, labels) / 0, "logits": logits}


class HasSpareLayer(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.spare = nn.Linear(2, 2, bias=False)
        self.before = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(self.before(x).detach())}


class TakesRootOfZero(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": (self.line(x) * 0).sqrt()}


class IgnoresCheckpointing(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = False


class ClaimsCheckpointing(Toy):
    supports_gradient_checkpointing = True


class DoublesRecomputed(IgnoresCheckpointing):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.first = nn.Linear(config.dim, config.dim)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.first(x)
        if self.gradient_checkpointing and self.training:
            return {"logits": self._gradient_checkpointing_func(self.line, 2 * x)}
        return {"logits": self.line(x)}


# compile, export -------------------------------------------------------------------------------------------------


class DiffersCompiled(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(x) * (2 if torch.compiler.is_compiling() else 1)}


class BranchesOnValues(Toy):
    def forward(self, x: torch.Tensor) -> Any:
        y = self.line(x)
        if y.sum() > 0:
            y = -y
        return {"logits": y}


# fresh process ---------------------------------------------------------------------------------------------------


class KnowsItsProcess(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.register_buffer("process", torch.tensor(float(os.getpid())), persistent=False)


class MovedAway(Toy):
    """Found under this name only where someone puts it."""


MovedAway.__qualname__ = "nowhere_to_be_found"


# Several at once -------------------------------------------------------------------------------------------------


class SeveralThings(HasRandomBuffer):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.spare = nn.Linear(2, 2, bias=False)
        self.rule = lambda x: x

    def forward(self, x: torch.Tensor) -> Any:
        y = self.rule(self.line(x + self.noise.to(x.dtype)))
        return {"logits": -y if y.sum() > 0 else y}
