"""What shapes the distribution that is sampled from: temperature, and which tokens are left out.

Each takes scores, `(rows, vocabulary)`, and looks at one row at a time; tokens that are left out get `filter_value`.
"""

import math

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds

FIRST_LOOK = 512  # of the likeliest tokens, before all of them are sorted


class TemperatureLogitsWarper(LogitsProcessor):
    """Divides scores by `temperature`: below 1 the likely become likelier, above 1 all more alike."""

    def __init__(self, temperature: float) -> None:
        self.temperature = _within("temperature", temperature, 0, math.inf, ends=False)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give `scores / temperature`."""
        return scores / self.temperature


class _Truncation(LogitsProcessor):
    """Leaves tokens out, and keeps the likeliest `min_tokens_to_keep` whatever the rule says."""

    def __init__(self, *, filter_value: float, min_tokens_to_keep: int) -> None:
        if min_tokens_to_keep < 1:
            raise ConfigurationError(f"min_tokens_to_keep is at least 1, not {min_tokens_to_keep!r}.")
        self.filter_value, self.min_tokens_to_keep = filter_value, min_tokens_to_keep

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give the scores with `filter_value` for the tokens that are left out."""
        return scores.masked_fill(self.left_out(scores), self.filter_value)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which tokens are left out, `(rows, vocabulary)`."""
        raise NotImplementedError

    def _but_the_likeliest(self, left_out: Tensor, scores: Tensor) -> Tensor:
        return left_out.scatter(-1, scores.topk(min(self.min_tokens_to_keep, scores.shape[-1])).indices, False)


class TopKLogitsWarper(_Truncation):
    """Keeps the `top_k` likeliest tokens, and those as likely as the last of them (Fan et al. 2018, 1805.04833)."""

    def __init__(self, top_k: int, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=min_tokens_to_keep)
        if not isinstance(top_k, int) or top_k <= 0:
            raise ConfigurationError(f"top_k is a number of tokens, at least 1, not {top_k!r}.")
        self.top_k = max(top_k, min_tokens_to_keep)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which score less than the last of the `top_k`."""
        return scores < scores.topk(min(self.top_k, scores.shape[-1])).values[..., -1:]


class TopPLogitsWarper(_Truncation):
    """Keeps the fewest likeliest tokens whose probabilities add up to `top_p` (Holtzman et al. 2020, 1904.09751)."""

    def __init__(self, top_p: float, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=min_tokens_to_keep)
        self.top_p = _within("top_p", top_p, 0, 1)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which come after likelier ones that have `top_p` together."""
        probabilities = scores.softmax(-1)
        for count in (FIRST_LOOK, scores.shape[-1]):
            top, order = probabilities.topk(min(count, scores.shape[-1]))
            before = top.cumsum(-1) - top
            if len(top[0]) == scores.shape[-1] or bool((before[:, -1] >= self.top_p).all()):
                break
        keep = (before < self.top_p) & (top > 0)
        keep[:, : self.min_tokens_to_keep] = True
        return torch.ones_like(scores, dtype=torch.bool).scatter(-1, order, ~keep)


class MinPLogitsWarper(_Truncation):
    """Keeps tokens that are at least `min_p` times as probable as the likeliest (Nguyen et al. 2024, 2407.01082)."""

    def __init__(self, min_p: float, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=min_tokens_to_keep)
        self.min_p = _within("min_p", min_p, 0, 1)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which are less probable than that."""
        probabilities = scores.softmax(-1)
        return self._but_the_likeliest(probabilities < self.min_p * probabilities.amax(-1, keepdim=True), scores)


class TopHLogitsWarper(_Truncation):
    """Keeps the likeliest tokens whose terms of the entropy stay below `top_h` of it (Potraghloo 2025, 2509.02510).

    Of the 100 likeliest tokens, whose probabilities are taken relative to each other.
    """

    top_n = 100

    def __init__(self, top_h: float, filter_value: float = -math.inf) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=1)
        self.top_h = _within("top_h", top_h, 0, 1)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which come after the budget is spent."""
        top, order = scores.topk(min(self.top_n, scores.shape[-1]))
        terms = torch.special.entr(top.softmax(-1))
        keep = terms.cumsum(-1) <= self.top_h * terms.sum(-1, keepdim=True)
        keep[:, 0] = True
        return torch.ones_like(scores, dtype=torch.bool).scatter(-1, order, ~keep)


class TypicalLogitsWarper(_Truncation):
    """Keeps tokens whose surprise is nearest to the entropy, `mass` of them (Meister et al. 2022, 2202.00666)."""

    def __init__(self, mass: float = 0.9, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=min_tokens_to_keep)
        self.mass = _within("typical_p", mass, 0, 1, ends=False)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which are further from the entropy than those that have `mass` together."""
        logs = scores.log_softmax(-1)
        probabilities = logs.exp()
        entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
        distance, order = (-logs - entropy).abs().sort(-1)
        last = (probabilities.gather(-1, order).cumsum(-1) < self.mass).sum(-1, keepdim=True)
        beyond = distance > distance.gather(-1, last.clamp(max=scores.shape[-1] - 1))
        beyond[:, : self.min_tokens_to_keep] = False
        return torch.empty_like(beyond).scatter(-1, order, beyond)


class EpsilonLogitsWarper(_Truncation):
    """Keeps tokens that are at least as probable as `epsilon` (Hewitt et al. 2022, 2210.15191)."""

    def __init__(self, epsilon: float, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        super().__init__(filter_value=filter_value, min_tokens_to_keep=min_tokens_to_keep)
        self.epsilon = _within("epsilon_cutoff", epsilon, 0, 1, ends=False)

    def threshold(self, probabilities: Tensor) -> Tensor:
        """Give the least probability that is kept."""
        return probabilities.new_tensor(self.epsilon)

    def left_out(self, scores: Tensor) -> Tensor:
        """Tell which are less probable."""
        probabilities = scores.softmax(-1)
        few = min(self.min_tokens_to_keep, scores.shape[-1])
        return (probabilities < self.threshold(probabilities)) & (scores < scores.topk(few).values[..., -1:])


class EtaLogitsWarper(EpsilonLogitsWarper):
    """Keeps tokens at least as probable as the smaller of `epsilon` and `√epsilon · exp(-entropy)` (2210.15191)."""

    def threshold(self, probabilities: Tensor) -> Tensor:
        """Give the least probability that is kept, which falls with the entropy."""
        entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
        return (math.sqrt(self.epsilon) * torch.exp(-entropy)).clamp(max=self.epsilon)


def _within(name: str, value: float, low: float, high: float, *, ends: bool = True) -> float:
    """Give a number that lies in a range.

    Raises:
        ConfigurationError: it does not.
    """
    inside = low <= value <= high if ends else low < value < high
    if not inside:
        kind = "from {} to {}" if ends else "between {} and {}, without these"
        raise ConfigurationError(f"{name} is a number {kind.format(low, high)}; found {value!r}.")
    return float(value)
