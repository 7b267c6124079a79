"""maquette: make your own model architectures, and get saving, loading, sharing and training with them.

Names are imported when they are used, so that a configuration or a tokenizer never brings a deep-learning framework.
"""

import importlib
from typing import Any

import maquette.modeling.trees
import maquette.remote_code.finder  # noqa: F401 - finds the code of checkpoints, for pickles of another process too
from maquette.storage.version import __version__ as __version__

# Where each public name lives. Names of built-in architectures come from their model entries, AutoClasses from the
# registry.
_HOMES = {
    "configuration": ("PretrainedConfig", "PreTrainedConfig"),
    "generation.configuration": ("GenerationConfig",),
    "generation.constraints": (
        "ExponentialDecayLengthPenalty",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "InfNanRemoveLogitsProcessor",
        "LogitNormalization",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "PrefixConstrainedLogitsProcessor",
        "SuppressTokensAtBeginLogitsProcessor",
        "SuppressTokensLogitsProcessor",
    ),
    "generation.guidance": (
        "ClassifierFreeGuidanceLogitsProcessor",
        "GuidanceLogitsProcessor",
    ),
    "generation.logits": (
        "LogitsProcessor",
        "LogitsProcessorList",
    ),
    "generation.penalties": (
        "EncoderNoRepeatNGramLogitsProcessor",
        "EncoderRepetitionPenaltyLogitsProcessor",
        "FrequencyPenaltyLogitsProcessor",
        "NoBadWordsLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
        "PresencePenaltyLogitsProcessor",
        "RepetitionPenaltyLogitsProcessor",
        "SequenceBiasLogitsProcessor",
    ),
    "generation.stopping": (
        "ConfidenceCriteria",
        "EosTokenCriteria",
        "MaxLengthCriteria",
        "MaxTimeCriteria",
        "StopStringCriteria",
        "StoppingCriteria",
        "StoppingCriteriaList",
    ),
    "generation.streaming": (
        "AsyncTextIteratorStreamer",
        "BaseStreamer",
        "TextIteratorStreamer",
        "TextStreamer",
    ),
    "generation.watermark_settings": ("SynthIDTextWatermarkingConfig", "WatermarkingConfig"),
    "generation.watermark_detection": ("WatermarkDetector",),
    "generation.synthid": ("SynthIDTextWatermarkLogitsProcessor",),
    "generation.truncation": (
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "MinPLogitsWarper",
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "TypicalLogitsWarper",
    ),
    "generation.watermarks": ("WatermarkLogitsProcessor",),
    "modeling.torch": ("PreTrainedModel",),
    "modeling.tf": ("TFPreTrainedModel",),
    "modeling.tf_layers": ("TF_ACT2FN",),
    "modeling.flax": ("FlaxPreTrainedModel",),
    "modeling.flax_layers": ("FLAX_ACT2FN",),
    "generation.cache": ("Cache",),
    "modeling.activations": ("ACT2FN",),
    "modeling.backbone": ("BackboneConfigMixin", "BackboneMixin"),
    "modeling.embeddings": ("find_pruneable_heads_and_indices", "prune_linear_layer"),
    "configuration.rotary": ("RotaryConfig",),
    "modeling.heads": (
        "GenericForImageClassification",
        "GenericForQuestionAnswering",
        "GenericForSequenceClassification",
        "GenericForTokenClassification",
    ),
    "modeling.layers.experts": ("MixtureOfExperts",),
    "modeling.layers.feed_forward": ("GatedFeedForward",),
    "modeling.layers.norms": ("RMSNorm",),
    "modeling.layers.rotary": ("RotaryEmbedding",),
    "modeling.encoder_decoder_outputs": (
        "GenerateBeamEncoderDecoderOutput",
        "GenerateEncoderDecoderOutput",
        "Seq2SeqLMOutput",
        "Seq2SeqModelOutput",
        "Seq2SeqQuestionAnsweringModelOutput",
        "Seq2SeqSequenceClassifierOutput",
    ),
    "modeling.outputs": (
        "ModelOutput",
        "BaseModelOutput",
        "BaseModelOutputWithPast",
        "BaseModelOutputWithPooling",
        "BaseModelOutputWithNoAttention",
        "BaseModelOutputWithPoolingAndNoAttention",
        "CausalLMOutput",
        "GenerateBeamDecoderOnlyOutput",
        "GenerateDecoderOnlyOutput",
        "CausalLMOutputWithPast",
        "ImageClassifierOutput",
        "ImageClassifierOutputWithNoAttention",
        "MaskedLMOutput",
        "MoeCausalLMOutputWithPast",
        "MoeModelOutputWithPast",
        "MultipleChoiceModelOutput",
        "SequenceClassifierOutputWithPast",
        "QuestionAnsweringModelOutput",
        "SequenceClassifierOutput",
        "TokenClassifierOutput",
        "BackboneOutput",
        "MaskedImageModelingOutput",
        "Wav2Vec2BaseModelOutput",
        "XVectorOutput",
    ),
    "auto.preprocessors": ("AutoTokenizer", "AutoImageProcessor", "AutoFeatureExtractor", "AutoProcessor"),
    "registry": ("ModelCard", "ModelEntry"),
    "batch.features": ("BatchFeature",),
    "text.function_schemas": ("get_json_schema",),
    "text.encoding": ("BatchEncoding", "CharSpan", "TokenSpan"),
    "text.tokenization": ("PreTrainedTokenizer",),
    "text.tokenization_base": ("PreTrainedTokenizerBase",),
    "text.tokenization_fast": ("PreTrainedTokenizerFast",),
    "text.byte_level_tokenization": ("ByteLevelBPETokenizer", "ByteLevelBPETokenizerFast"),
    "text.sentencepiece_tokenization": ("SentencePieceTokenizerFast",),
    "text.wordpiece_tokenization": ("WordPieceTokenizer", "WordPieceTokenizerFast"),
    "images.fetching": ("load_image",),
    "images.processing": ("BaseImageProcessor", "ImageFeatureExtractionMixin", "ImageProcessingMixin"),
    "audio.feature_extraction": ("FeatureExtractionMixin", "SequenceFeatureExtractor"),
    "processing.processor": ("ProcessorMixin",),
    "pipelines.tasks": ("pipeline",),
    "pipelines.base": ("Pipeline",),
    "pipelines.text_classification": ("TextClassificationPipeline", "ZeroShotClassificationPipeline"),
    "pipelines.token_classification": ("TokenClassificationPipeline",),
    "pipelines.question_answering": ("QuestionAnsweringPipeline",),
    "pipelines.text_tokens": ("FillMaskPipeline", "FeatureExtractionPipeline"),
    "pipelines.images": ("ImageClassificationPipeline", "ImageFeatureExtractionPipeline"),
    "pipelines.sounds": ("AudioClassificationPipeline", "AutomaticSpeechRecognitionPipeline"),
    "pipelines.text_generation": ("TextGenerationPipeline",),
    "training.arguments": ("TrainingArguments",),
    "training.callbacks": ("EarlyStoppingCallback", "TrainerCallback"),
    "training.report.texts": ("ReportTexts",),
    "training.checkpoints": ("get_last_checkpoint",),
    "training.collation": ("DataCollatorForSeq2Seq", "DataCollatorWithPadding", "default_data_collator"),
    "training.seq2seq": ("Seq2SeqTrainer", "Seq2SeqTrainingArguments"),
    "training.metrics": ("EvalPrediction", "PredictionOutput", "TrainOutput"),
    "training.state": ("TrainerControl", "TrainerState"),
    "training.trainer": ("Trainer",),
    "errors": (
        "MaquetteError",
        "CheckpointError",
        "ConfigurationError",
        "FileFormatError",
        "InputError",
        "MissingFileError",
        "MissingPackageError",
        "NonFiniteError",
        "RemoteCodeError",
        "SaveError",
        "UnknownFieldError",
        "UnknownNameError",
        "UnsafePathError",
        "UntrustedCodeError",
    ),
}
_MODULES = {name: f"maquette.{module}" for module, names in _HOMES.items() for name in names}
_MODULES |= {"AddedToken": "tokenizers", "login": "huggingface_hub", "notebook_login": "huggingface_hub"}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _list_star_names()
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        from maquette.registry import AUTO_CLASSES, built_in_cards

        if name in AUTO_CLASSES:
            value = getattr(importlib.import_module("maquette.auto.models"), name)
        else:
            card = next((card for card in built_in_cards().values() if name in card.public()), None)
            if card is None:
                raise AttributeError(_unknown(name))
            value = card.load(card.public()[name])
    globals()[name] = value
    return value


def _unknown(name: str) -> str:
    from maquette.errors import did_you_mean

    return f"maquette has no {name!r}.{did_you_mean(name, __dir__())}"


def __dir__() -> list[str]:
    from maquette.registry import AUTO_CLASSES, built_in_cards

    models = (name for card in built_in_cards().values() for name in card.public())
    return sorted({"__version__", *_MODULES, *AUTO_CLASSES, *models})


def _list_star_names() -> list[str]:
    """List what `from maquette import *` gives: what can be imported here, without the classes of Keras and Flax."""
    names = [name for name in __dir__() if not name.startswith(("TF", "Flax", "FLAX"))]
    return [name for name in names if _can_be_imported(name)]


def _can_be_imported(name: str) -> bool:
    try:
        return name in globals() or __getattr__(name) is not None
    except ImportError:  # of a framework that is not installed
        return False
