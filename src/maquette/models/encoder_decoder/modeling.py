"""Any encoder with any decoder that looks at it (Rothe et al. 2020): of texts, images or sounds.

A combination of your own derives from one of the three models, and may say what its parts are:

    class Captioner(VisionEncoderDecoderModel):
        config_class = CaptionerConfig
        encoder_class = Tower          # otherwise what AutoModel makes of config.encoder
"""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from maquette import AutoModel, AutoModelForCausalLM, PreTrainedModel, Seq2SeqLMOutput
from maquette.errors import InputError
from maquette.modeling.composed import check_reads, rest_pooler, sort_keywords, take_part, width_of
from maquette.modeling.cross_attention import knows_source
from maquette.modeling.encoder_decoders import as_encoder_output, compute_place_loss, shift_tokens_right
from maquette.modeling.interface import Interface
from maquette.modeling.packing import Layout
from maquette.modeling.problems import IGNORED

from .configuration import EncoderDecoderConfig, SpeechEncoderDecoderConfig, VisionEncoderDecoderConfig

Opt = Tensor | None
LOOKING = ("*cross*", "*encoder_attn*")  # weights that a decoder gets when it is to look at another model


class ComposedSeq2SeqModel(PreTrainedModel):
    """What the three models share: two parts, a projection where their widths differ, labels, and `generate`.

    Class attributes:
        encoder_class, decoder_class: what makes a part of its configuration; unless given, `AutoModel` and
            `AutoModelForCausalLM`.
        reads: what the encoder's first argument may be called.
    """

    config_class: ClassVar[Any] = EncoderDecoderConfig
    encoder_class: ClassVar[Any] = None
    decoder_class: ClassVar[Any] = None
    reads: ClassVar[tuple[str, ...]] = ("input_ids",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"embeddings\.(position_ids|token_type_ids)$", r"attn\.(masked_)?bias$")

    def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None) -> None:
        if config is None:
            config = self._join(encoder, decoder)
        super().__init__(config)
        auto: tuple[Any, Any] = (AutoModel, AutoModelForCausalLM)
        self.encoder = take_part(self, "encoder", encoder, self.encoder_class or auto[0].from_config)
        self.decoder = take_part(self, "decoder", decoder, self.decoder_class or auto[1].from_config)
        check_reads(self, "encoder", self.encoder, self.reads)
        self._check_decoder()
        rest_pooler(self.encoder)
        inner = config.encoder.get("output_hidden_size") or width_of(self, "encoder", config.encoder)
        own = config.decoder.cross_attention_hidden_size
        outer = own or width_of(self, "decoder", config.decoder)
        if own not in (None, inner):
            raise InputError(f"decoder: cross_attention_hidden_size={own}, and the encoder's states have {inner}.")
        if inner != outer:
            self.enc_to_dec_proj = nn.Linear(inner, outer)

    @classmethod
    def _join(cls, encoder: Any, decoder: Any) -> Any:
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, PreTrainedModel):
                raise InputError(f"{cls.__name__} needs a configuration, or both of its parts: {name} is {part!r}.")
        return cls._require_config_class()(encoder=encoder.config, decoder=decoder.config)

    def _check_decoder(self) -> None:
        name = f"{type(self).__name__}: decoder is a {type(self.decoder).__name__}"
        if "encoder_hidden_states" not in Interface.of(self.decoder, []).names:
            raise InputError(f"{name}, which looks at no other model: its forward takes no encoder_hidden_states.")
        if not self.decoder.config.add_cross_attention:
            raise InputError(
                f"{name} that was made without add_cross_attention=True, so it cannot look at the encoder."
            )
        if self.decoder.get_output_embeddings() is None:
            raise InputError(f"{name}, which scores no vocabulary: give the model for causal language modelling.")

    # Parts -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_pretrained_model_name_or_path: Any = None,
        decoder_pretrained_model_name_or_path: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Join two models, each from its own folder; what lets the decoder look at the encoder is new.

        Args:
            encoder_pretrained_model_name_or_path, decoder_pretrained_model_name_or_path: what to load.
            kwargs: `encoder_…` and `decoder_…` go to the loading of one part, `encoder_model` and `decoder_model` are
                parts that are there already; others are fields of the configuration.

        Raises:
            InputError: a part that is not there, or does not fit; it is named.
        """
        config_class: Any = cls._require_config_class()
        fields = {name: kwargs.pop(name) for name in [*kwargs] if name in config_class._names()}
        first, second, rest = sort_keywords(kwargs, "encoder", "decoder")
        encoder, decoder = first.pop("model", None), second.pop("model", None)
        auto: tuple[Any, Any] = (cls.encoder_class or AutoModel, cls.decoder_class or AutoModelForCausalLM)
        if encoder is None:
            encoder = auto[0].from_pretrained(_named(cls, "encoder", encoder_pretrained_model_name_or_path), **first)
        if decoder is None:
            looking = {"is_decoder": True, "add_cross_attention": True, "allow_missing": LOOKING}
            place = _named(cls, "decoder", decoder_pretrained_model_name_or_path)
            decoder = auto[1].from_pretrained(place, **looking, **second)
        config = config_class(encoder=encoder.config, decoder=decoder.config, **fields, **rest)
        return cls(config, encoder, decoder).eval()

    def get_encoder(self) -> Any:
        return self.encoder

    def get_decoder(self) -> Any:
        return self.decoder

    def get_input_embeddings(self) -> Any:
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.decoder.get_output_embeddings()

    def set_output_embeddings(self, value: Any) -> None:
        self.decoder.set_output_embeddings(value)

    def tie_weights(self) -> None:
        """Have each part tie its own."""
        self.encoder.tie_weights()
        self.decoder.tie_weights()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Fit the decoder's vocabulary to a tokenizer."""
        return self.decoder.resize_token_embeddings(*args, **kwargs)

    @classmethod
    def can_generate(cls) -> bool:
        return True

    @property
    def dummy_inputs(self) -> Any:
        return {**self.encoder.dummy_inputs, "decoder_input_ids": torch.arange(8).view(2, 4) % self.config.vocab_size}

    # Running ---------------------------------------------------------------------------------------------------

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Give what the decoder reads where these are its labels."""
        own, inner = self.config, self.config.decoder
        pad = inner.pad_token_id if own.pad_token_id is None else own.pad_token_id
        start = own.decoder_start_token_id
        return shift_tokens_right(labels, pad, inner.decoder_start_token_id if start is None else start)

    def forward(
        self,
        inputs: dict[str, Opt],
        attention_mask: Opt = None,
        *,
        decoder_input_ids: Opt = None,
        decoder_attention_mask: Opt = None,
        decoder_inputs_embeds: Opt = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        labels: Opt = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`, and a loss where there are labels.

        Args:
            inputs: what the encoder reads, by the names of its arguments.
            attention_mask: of that, 0 at padding.
            decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds: `(batch, length, …)`, start tokens first.
            encoder_outputs: what the encoder gave for these rows, so that it need not run; the mask belongs to it.
            past_key_values: the cache of earlier tokens. Once it has what these look at, the encoder does not run.
            labels: `(batch, length)`, what each place is to say; -100 is left out. Unless the decoder is given
                something, it reads them moved right, behind the start token.
            logits_to_keep, use_cache: as the decoder takes them.
            num_items_in_batch: what to divide the sum of losses by; unless given, how many labels count.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            options: arguments of the decoder that begin with `decoder_`; all others are the encoder's.

        Raises:
            ValueError: nothing for one of the parts to read, or no start token.
        """
        wanted = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        kept = {name: True for name, value in wanted.items() if self._chosen(name, value)}
        outer, inner = sort_keywords(options, "decoder")
        if labels is not None:
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
                if decoder_attention_mask is None:
                    decoder_attention_mask = (labels != IGNORED).flip(1).long().cummax(1).values.flip(1)
        read: Any = None
        start = decoder_input_ids if decoder_inputs_embeds is None else decoder_inputs_embeds
        if start is None:
            raise ValueError(
                "The decoder has nothing to read: give decoder_input_ids, its start token first, or labels."
            )
        if encoder_outputs is not None:
            read = as_encoder_output(encoder_outputs)
        elif not knows_source(past_key_values, start.shape[0]):
            read = self._encode(inputs, attention_mask, {**inner, **kept})
        found: Any = {"hidden_states": None, "attentions": None, "last_hidden_state": None, **(read or {})}
        given = {
            "input_ids": decoder_input_ids,
            "attention_mask": decoder_attention_mask,
            "inputs_embeds": decoder_inputs_embeds,
            "encoder_hidden_states": None if read is None else self._project(read.last_hidden_state),
            "encoder_attention_mask": None if read is None else self._fit_mask(read, attention_mask),
            "past_key_values": past_key_values,
            "use_cache": use_cache,
            "logits_to_keep": None
            if labels is not None or (isinstance(logits_to_keep, int) and not logits_to_keep)
            else logits_to_keep,
        }
        output = self.decoder(**{n: v for n, v in given.items() if v is not None}, **kept, **outer, return_dict=True)
        loss = None
        if labels is not None:
            mask = None if decoder_attention_mask is None else decoder_attention_mask.bool()
            layout = Layout((labels.shape[0], labels.shape[1]), mask)
            loss = compute_place_loss(output.logits, labels, layout, num_items=num_items_in_batch)
        result = Seq2SeqLMOutput(
            loss=loss,
            logits=output.logits,
            past_key_values=output.get("past_key_values"),
            decoder_hidden_states=output.get("hidden_states"),
            decoder_attentions=output.get("attentions"),
            cross_attentions=output.get("cross_attentions"),
            encoder_last_hidden_state=found["last_hidden_state"],
            encoder_hidden_states=found["hidden_states"],
            encoder_attentions=found["attentions"],
        )
        return result if self._chosen("return_dict", return_dict) else result.to_tuple()

    def _encode(self, inputs: dict[str, Opt], mask: Opt, options: dict[str, Any]) -> Any:
        """Run the encoder; where it leaves padding out of its states, these say which are real."""
        given = {name: value for name, value in inputs.items() if value is not None}
        if not given:
            raise ValueError(f"The encoder has nothing to read: give {self.main_input_name}, or encoder_outputs.")
        given |= {} if mask is None else {"attention_mask": mask}
        if "as_laid_out" in Interface.of(self.encoder, []).names:
            options = {**options, "as_laid_out": True}
        output = as_encoder_output(self.encoder(**given, **options, return_dict=True))
        if (layout := output.get("layout")) is not None:
            output["last_hidden_state"], output["layout"] = layout.scatter(output.last_hidden_state), layout
        return output

    def _project(self, states: Tensor) -> Tensor:
        """Bring the encoder's states to the decoder's type and width."""
        project = getattr(self, "enc_to_dec_proj", None)
        if project is not None:
            states = project(states.to(project.weight.dtype))
        return states.to(self.decoder.dtype)

    def _fit_mask(self, read: Any, mask: Opt) -> Opt:
        """Give the mask of the encoder's states, `(batch, places)`, from that of what it read."""
        places = read.last_hidden_state.shape[1]
        if (layout := read.get("layout")) is not None:
            return layout.mask
        if mask is None or mask.shape[1] == places:
            return mask
        if (count := getattr(self.encoder, "_get_feat_extract_output_lengths", None)) is None:
            raise ValueError(
                f"attention_mask has {mask.shape[1]} places and the encoder's states {places}: give the mask that "
                "belongs to encoder_outputs, or have the encoder give a layout with its states."
            )
        return torch.arange(places, device=mask.device) < count(mask.sum(1))[:, None]


def _named(cls: Any, part: str, given: Any) -> Any:
    if given is None:
        raise InputError(f"{cls.__name__}: no {part}: name its folder or repository, or give {part}_model=….")
    return given


class EncoderDecoderModel(ComposedSeq2SeqModel):
    """An encoder of texts with a decoder."""

    base_model_prefix = "encoder_decoder"

    def get_input_embeddings(self) -> Any:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.set_input_embeddings(value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Fit both vocabularies to a tokenizer, where they are of one size.

        Raises:
            InputError: they are not.
        """
        sizes = [part.get_input_embeddings().num_embeddings for part in (self.encoder, self.decoder)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"The encoder knows {sizes[0]} tokens, and the decoder {sizes[1]}: call resize_token_embeddings of "
                "model.encoder, or of model.decoder."
            )
        self.decoder.resize_token_embeddings(*args, **kwargs)
        return self.encoder.resize_token_embeddings(*args, **kwargs)

    def forward(  # type: ignore[override]
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        inputs_embeds: Opt = None,
        labels: Opt = None,
        **options: Any,
    ) -> Any:
        """Read texts `(batch, length)`; `ComposedSeq2SeqModel.forward` tells of the other arguments."""
        given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        return super().forward(given, attention_mask, labels=labels, **options)


class VisionEncoderDecoderModel(ComposedSeq2SeqModel):
    """An encoder of images with a decoder."""

    config_class = VisionEncoderDecoderConfig
    base_model_prefix = "vision_encoder_decoder"
    main_input_name = "pixel_values"
    reads = ("pixel_values",)

    def forward(self, pixel_values: Opt = None, *, labels: Opt = None, **options: Any) -> Any:  # type: ignore[override]
        """Read images `(batch, channels, height, width)`; `ComposedSeq2SeqModel.forward` tells of the rest."""
        return super().forward({"pixel_values": pixel_values}, labels=labels, **options)


class SpeechEncoderDecoderModel(ComposedSeq2SeqModel):
    """An encoder of sounds with a decoder."""

    config_class = SpeechEncoderDecoderConfig
    base_model_prefix = "speech_encoder_decoder"
    main_input_name = "input_values"
    reads = ("input_values", "input_features")

    def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None) -> None:
        super().__init__(config, encoder, decoder)
        self.main_input_name = self.encoder.main_input_name  # type: ignore[misc]

    def forward(  # type: ignore[override]
        self,
        input_values: Opt = None,
        attention_mask: Opt = None,
        *,
        inputs: Opt = None,
        input_features: Opt = None,
        labels: Opt = None,
        **options: Any,
    ) -> Any:
        """Read samples `(batch, samples)` or features, under any of three names; the rest is as in the base class."""
        given = next((each for each in (input_values, input_features, inputs) if each is not None), None)
        return super().forward({self.main_input_name: given}, attention_mask, labels=labels, **options)
