"""Pre-training without labels: codebooks, a contrast, and the model that learns by them (Baevski et al. 2020)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, gumbel_softmax, one_hot

from maquette.modeling.outputs import Wav2Vec2ForPreTrainingOutput as Wav2Vec2ForPreTrainingOutput

from .configuration import Wav2Vec2Config
from .frames import refuse_adapter
from .modeling import Opt, Wav2Vec2Model, Wav2Vec2PreTrainedModel

# Quantiser -------------------------------------------------------------------------------------------------------


class GumbelVectorQuantizer(nn.Module):
    """Puts one entry of each of several codebooks in the place of a feature (Jang et al. 2016; section 2 of the paper).

    While training, entries are drawn, at `temperature`; otherwise the best one is taken.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.groups, self.entries = config.num_codevector_groups, config.num_codevectors_per_group
        width = config.codevector_dim // self.groups
        self.codevectors = nn.Parameter(torch.empty(1, self.groups * self.entries, width))
        self.weight_proj = nn.Linear(config.conv_dim[-1], self.groups * self.entries)
        self.temperature = 2.0

    def forward(self, features: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise `(places, channels)`.

        Args:
            features: what the convolutions heard.
            counted: `(places,)`, True where a feature counts for the perplexity.

        Returns:
            `(places, codevector_dim)`, the perplexity summed over the codebooks, and the entries chosen,
            `(places, groups)`.
        """
        scores = self.weight_proj(features).unflatten(-1, (self.groups, self.entries))
        if self.training:
            chosen = gumbel_softmax(scores.float(), tau=self.temperature, hard=True).type_as(scores)
            shares = scores.float().softmax(-1)
        else:
            chosen = one_hot(scores.argmax(-1), self.entries).type_as(scores)
            shares = chosen.float()
        books = self.codevectors.view(self.groups, self.entries, -1)
        vectors = torch.einsum("...ge,gew->...gw", chosen, books).flatten(-2)
        weights = counted[..., None, None].type_as(shares)
        places = tuple(range(counted.ndim))
        mean = (shares * weights).sum(places) / weights.sum().clamp(min=1)  # (groups, entries)
        perplexity = (-torch.xlogy(mean, mean).sum(-1)).exp().sum()
        return vectors, perplexity, chosen.argmax(-1)


# Loss ------------------------------------------------------------------------------------------------------------


def compute_contrastive_loss(
    states: Tensor, targets: Tensor, entries: Tensor, mask: Tensor, *, negatives: Tensor, temperature: float
) -> Tensor:
    """Give the loss of recognising masked frames among others, summed over them (equation 3).

    Args:
        states: `(batch, frames, width)`, what the model makes of the masked clip.
        targets: `(batch, frames, width)`, quantised features of the clip as it was.
        entries: `(batch, frames, groups)`, which codevectors these are: an equal one is no negative.
        mask: `(batch, frames)`, True where masked.
        negatives: `(batch, frames, count)`, places in the flattened batch, as of `sample_negative_indices`.
        temperature: of the similarities.
    """
    chosen = negatives.long()[mask]  # (masked, count)
    candidates = torch.cat([targets[mask][:, None], targets.flatten(0, 1)[chosen]], dim=1)  # (masked, 1 + count, width)
    scores = cosine_similarity(states[mask][:, None].float(), candidates.float(), dim=-1) / temperature
    equal = (entries.flatten(0, 1)[chosen] == entries[mask][:, None]).all(-1)
    scores = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(equal, float("-inf"))], dim=1)
    return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device), reduction="sum")


# The model -----------------------------------------------------------------------------------------------------------


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel):
    """Learns from sounds alone: to recognise, among others, what was hidden from it."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        refuse_adapter(self)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout_features = nn.Dropout(config.feat_quantizer_dropout)
        self.quantizer = GumbelVectorQuantizer(config)
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GumbelVectorQuantizer):
            nn.init.normal_(module.weight_proj.weight)
            nn.init.uniform_(module.codevectors)
        elif module is self:
            self.project_hid.reset_parameters()
            self.project_q.reset_parameters()

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set how freely the quantiser chooses while training; the paper begins at 2 and ends at 0.5 or 0.1."""
        self.quantizer.temperature = temperature

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Opt = None,
        *,
        mask_time_indices: Opt = None,
        sampled_negative_indices: Opt = None,
        **options: Any,
    ) -> Any:
        """Give states and quantised features, `(batch, frames, proj_codevector_dim)`, and the loss.

        Args:
            input_values, attention_mask: as in `Wav2Vec2Model`.
            mask_time_indices: `(batch, frames)`, True at hidden frames, as of `compute_mask_indices`.
            sampled_negative_indices: `(batch, frames, num_negatives)`, as of `sample_negative_indices`; without them,
                there is no loss.
            options: further arguments of `Wav2Vec2Model`.

        Raises:
            ValueError: negatives without a mask, or of another shape.
        """
        output = self._encode(input_values, attention_mask, {**options, "mask_time_indices": mask_time_indices})
        layout, mask = output.layout, mask_time_indices
        real = layout.scatter(layout.gather(torch.ones(layout.shape, dtype=torch.bool, device=input_values.device)))
        counted = real if mask is None else real & mask.bool()
        states = layout.scatter(self.project_hid(output.last_hidden_state))
        features = self.dropout_features(output.extract_features)
        vectors, perplexity, entries = self.quantizer(features, layout.gather(counted))
        targets, entries = layout.scatter(self.project_q(vectors)), layout.scatter(entries)
        result = Wav2Vec2ForPreTrainingOutput(
            projected_states=states,
            projected_quantized_states=targets,
            codevector_perplexity=perplexity,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        if sampled_negative_indices is not None:
            self._add_loss(result, entries, mask is not None and counted, sampled_negative_indices)
        return result if self._chosen("return_dict", options.get("return_dict")) else result.to_tuple()

    def _add_loss(self, result: Wav2Vec2ForPreTrainingOutput, entries: Tensor, mask: Any, negatives: Tensor) -> None:
        """Compute the contrastive loss, and that of the codebooks' diversity (equations 2 to 4)."""
        states, targets = result.projected_states, result.projected_quantized_states
        if mask is False or negatives.shape[:-1] != states.shape[:-1]:
            raise ValueError(
                f"sampled_negative_indices {tuple(negatives.shape)} are (batch, frames, count) = "
                f"{tuple(states.shape[:-1])} and any count, and need mask_time_indices."
            )
        result.contrastive_loss = compute_contrastive_loss(
            states,
            targets,
            entries,
            mask,
            negatives=negatives,
            temperature=self.config.contrastive_logits_temperature,
        )
        count = self.config.num_codevectors_per_group * self.config.num_codevector_groups
        result.diversity_loss = (count - result.codevector_perplexity) / count * mask.sum()
        result.loss = result.contrastive_loss + self.config.diversity_loss_weight * result.diversity_loss
