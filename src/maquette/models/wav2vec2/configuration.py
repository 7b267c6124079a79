"""What a Wav2Vec2 can be: how it hears, how it thinks, and what it is trained with."""

import math
from typing import Annotated, Literal

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Activation = Literal[
    "gelu", "gelu_new", "gelu_fast", "gelu_10", "quick_gelu", "relu", "selu", "silu", "swish", "mish", "tanh"
]


class Wav2Vec2Config(PretrainedConfig):
    """Configures Wav2Vec2 (Baevski et al. 2020); the defaults are those of `wav2vec2-base`.

    Args:
        vocab_size: letters, or other units, that `Wav2Vec2ForCTC` writes.
        hidden_size: width of a frame's state.
        num_hidden_layers: blocks of the encoder.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        intermediate_size: width inside a block's feed-forward network.
        hidden_act: between a feed-forward network's layers.
        hidden_dropout: share of states to drop, after positions, attention and feed-forward networks.
        activation_dropout: share to drop inside feed-forward networks.
        attention_dropout: share of attention weights to drop.
        feat_proj_dropout: share of states to drop before the encoder.
        feat_quantizer_dropout: share of features to drop before they are quantised.
        final_dropout: share of states to drop before letters are scored.
        layerdrop: share of whole blocks to leave out of a training step (Fan et al. 2019).
        initializer_range: standard deviation of fresh weights of linear layers.
        layer_norm_eps: added to variances in the norms of features and states.
        feat_extract_norm: "group": the first convolution is followed by a norm over time, per channel, so that what
            pads a row counts; "layer": all are followed by a norm over channels.
        feat_extract_activation: after each convolution.
        conv_dim, conv_stride, conv_kernel: channels, stride and kernel of each convolution over the sound.
        conv_bias: these convolutions have a bias.
        num_conv_pos_embeddings: frames that the convolution which tells of positions sees at once.
        num_conv_pos_embedding_groups: groups of that convolution.
        do_stable_layer_norm: norms come before attention and feed-forward networks, as in the large models; otherwise
            after them.
        apply_spec_augment: mask features while training (Park et al. 2019), by the next six.
        mask_time_prob: at most this share of the frames is masked, in spans.
        mask_time_length: frames of a span.
        mask_time_min_masks: at least this many spans in each clip.
        mask_feature_prob, mask_feature_length, mask_feature_min_masks: the same along the channels of states.
        num_codevectors_per_group, num_codevector_groups: entries of a codebook, and codebooks, of the quantiser.
        contrastive_logits_temperature: of the contrastive loss, κ of equation 3.
        num_negatives: false candidates among which a masked frame is to be recognised.
        codevector_dim: width of a quantised feature; the codebooks share it equally.
        proj_codevector_dim: width in which states and quantised features are compared.
        diversity_loss_weight: of the loss that has all entries of the codebooks used, α of equation 2.
        ctc_loss_reduction: "sum" or "mean" over the clips, or "none": one loss for each.
        ctc_zero_infinity: clips too short for their labels have a loss of 0 instead of infinity.
        use_weighted_layer_sum: classifiers read a learned mixture of all layers instead of the last.
        classifier_proj_size: width in which `Wav2Vec2ForSequenceClassification` takes the mean over time.
        tdnn_dim, tdnn_kernel, tdnn_dilation: of each layer of `Wav2Vec2ForXVector` (Snyder et al. 2018).
        xvector_output_dim: width of the vector that stands for a voice.
        pad_token_id: padding of texts, and the blank of CTC.
        bos_token_id, eos_token_id: entries of the vocabulary that begin and end a text.
        add_adapter: convolutions follow the encoder, which make fewer frames of many, by the next four.
        adapter_kernel_size, adapter_stride, num_adapter_layers: of these convolutions; each pads by one frame.
        output_hidden_size: width of what comes out; `hidden_size` unless given, and without an adapter.
        adapter_attn_dim: each block ends in a small network of this width, which is exchanged from language to language
            (Pratap et al. 2023); needs `do_stable_layer_norm`.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "wav2vec2"

    vocab_size: Count | None = 32
    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout: Share = 0.1
    activation_dropout: Share = 0.1
    attention_dropout: Share = 0.1
    feat_proj_dropout: Share = 0.0
    feat_quantizer_dropout: Share = 0.0
    final_dropout: Share = 0.1
    layerdrop: Share = 0.1
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    layer_norm_eps: Positive = 1e-5
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: Activation = "gelu"
    conv_dim: tuple[Count, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_stride: tuple[Count, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[Count, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: Count = 128
    num_conv_pos_embedding_groups: Count = 16
    do_stable_layer_norm: bool = False
    apply_spec_augment: bool = True
    mask_time_prob: Share = 0.05
    mask_time_length: Count = 10
    mask_time_min_masks: Annotated[int, Meta(ge=0)] = 2
    mask_feature_prob: Share = 0.0
    mask_feature_length: Count = 10
    mask_feature_min_masks: Annotated[int, Meta(ge=0)] = 0
    num_codevectors_per_group: Count = 320
    num_codevector_groups: Count = 2
    contrastive_logits_temperature: Positive = 0.1
    num_negatives: Count = 100
    codevector_dim: Count = 256
    proj_codevector_dim: Count = 256
    diversity_loss_weight: float = 0.1
    ctc_loss_reduction: Literal["sum", "mean", "none"] = "sum"
    ctc_zero_infinity: bool = False
    use_weighted_layer_sum: bool = False
    classifier_proj_size: Count = 256
    tdnn_dim: tuple[Count, ...] = (512, 512, 512, 512, 1500)
    tdnn_kernel: tuple[Count, ...] = (5, 3, 3, 1, 1)
    tdnn_dilation: tuple[Count, ...] = (1, 2, 3, 1, 1)
    xvector_output_dim: Count = 512
    pad_token_id: int | None = 0
    bos_token_id: int | list[int] | None = 1
    eos_token_id: int | list[int] | None = 2
    add_adapter: bool = False
    adapter_kernel_size: Count = 3
    adapter_stride: Count = 2
    num_adapter_layers: Count = 3
    output_hidden_size: Count | None = None
    adapter_attn_dim: Count | None = None

    def __post_init__(self) -> None:
        self.num_feat_extract_layers = len(self.conv_dim)
        self.output_hidden_size = self.output_hidden_size or self.hidden_size

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.conv_stride)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame hears; no clip may be shorter."""
        reach = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def validate(self) -> None:
        for names in (("conv_dim", "conv_stride", "conv_kernel"), ("tdnn_dim", "tdnn_kernel", "tdnn_dilation")):
            lists = {name: len(getattr(self, name)) for name in names}
            if len(set(lists.values())) > 1 or not lists[names[0]]:
                counts = ", ".join(f"{name} has {count}" for name, count in lists.items())
                raise ValueError(f"Every layer needs one entry of {', '.join(names)}, but {counts}.")
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("hidden_size", "num_conv_pos_embedding_groups"),
            ("codevector_dim", "num_codevector_groups"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole}={getattr(self, whole)} cannot be shared equally by {part}={getattr(self, part)}."
                )
        if self.adapter_attn_dim is not None and not self.do_stable_layer_norm:
            raise ValueError("adapter_attn_dim needs do_stable_layer_norm=True: other blocks have no place for it.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
