"""The public surface, for type checkers and editors: what `__init__` finds when it is asked for."""

from huggingface_hub._login import login as login
from huggingface_hub._login import notebook_login as notebook_login
from tokenizers import AddedToken as AddedToken

from maquette.audio.feature_extraction import FeatureExtractionMixin as FeatureExtractionMixin
from maquette.audio.feature_extraction import SequenceFeatureExtractor as SequenceFeatureExtractor
from maquette.auto.models import AutoConfig as AutoConfig
from maquette.auto.models import AutoModelBase as _AutoModel
from maquette.auto.preprocessors import AutoFeatureExtractor as AutoFeatureExtractor
from maquette.auto.preprocessors import AutoImageProcessor as AutoImageProcessor
from maquette.auto.preprocessors import AutoProcessor as AutoProcessor
from maquette.auto.preprocessors import AutoTokenizer as AutoTokenizer
from maquette.batch.features import BatchFeature as BatchFeature
from maquette.configuration import PreTrainedConfig as PreTrainedConfig
from maquette.configuration import PretrainedConfig as PretrainedConfig
from maquette.errors import CheckpointError as CheckpointError
from maquette.errors import ConfigurationError as ConfigurationError
from maquette.errors import FileFormatError as FileFormatError
from maquette.errors import InputError as InputError
from maquette.errors import MaquetteError as MaquetteError
from maquette.errors import MissingFileError as MissingFileError
from maquette.errors import MissingPackageError as MissingPackageError
from maquette.errors import NonFiniteError as NonFiniteError
from maquette.errors import RemoteCodeError as RemoteCodeError
from maquette.errors import SaveError as SaveError
from maquette.errors import UnknownFieldError as UnknownFieldError
from maquette.errors import UnknownNameError as UnknownNameError
from maquette.errors import UnsafePathError as UnsafePathError
from maquette.errors import UntrustedCodeError as UntrustedCodeError
from maquette.generation.cache import Cache as Cache
from maquette.generation.configuration import GenerationConfig as GenerationConfig
from maquette.generation.constraints import ExponentialDecayLengthPenalty as ExponentialDecayLengthPenalty
from maquette.generation.constraints import ForcedBOSTokenLogitsProcessor as ForcedBOSTokenLogitsProcessor
from maquette.generation.constraints import ForcedEOSTokenLogitsProcessor as ForcedEOSTokenLogitsProcessor
from maquette.generation.constraints import InfNanRemoveLogitsProcessor as InfNanRemoveLogitsProcessor
from maquette.generation.constraints import LogitNormalization as LogitNormalization
from maquette.generation.constraints import MinLengthLogitsProcessor as MinLengthLogitsProcessor
from maquette.generation.constraints import MinNewTokensLengthLogitsProcessor as MinNewTokensLengthLogitsProcessor
from maquette.generation.constraints import PrefixConstrainedLogitsProcessor as PrefixConstrainedLogitsProcessor
from maquette.generation.constraints import SuppressTokensAtBeginLogitsProcessor as SuppressTokensAtBeginLogitsProcessor
from maquette.generation.constraints import SuppressTokensLogitsProcessor as SuppressTokensLogitsProcessor
from maquette.generation.guidance import ClassifierFreeGuidanceLogitsProcessor as ClassifierFreeGuidanceLogitsProcessor
from maquette.generation.guidance import GuidanceLogitsProcessor as GuidanceLogitsProcessor
from maquette.generation.logits import LogitsProcessor as LogitsProcessor
from maquette.generation.logits import LogitsProcessorList as LogitsProcessorList
from maquette.generation.penalties import EncoderNoRepeatNGramLogitsProcessor as EncoderNoRepeatNGramLogitsProcessor
from maquette.generation.penalties import (
    EncoderRepetitionPenaltyLogitsProcessor as EncoderRepetitionPenaltyLogitsProcessor,
)
from maquette.generation.penalties import FrequencyPenaltyLogitsProcessor as FrequencyPenaltyLogitsProcessor
from maquette.generation.penalties import NoBadWordsLogitsProcessor as NoBadWordsLogitsProcessor
from maquette.generation.penalties import NoRepeatNGramLogitsProcessor as NoRepeatNGramLogitsProcessor
from maquette.generation.penalties import PresencePenaltyLogitsProcessor as PresencePenaltyLogitsProcessor
from maquette.generation.penalties import RepetitionPenaltyLogitsProcessor as RepetitionPenaltyLogitsProcessor
from maquette.generation.penalties import SequenceBiasLogitsProcessor as SequenceBiasLogitsProcessor
from maquette.generation.stopping import ConfidenceCriteria as ConfidenceCriteria
from maquette.generation.stopping import EosTokenCriteria as EosTokenCriteria
from maquette.generation.stopping import MaxLengthCriteria as MaxLengthCriteria
from maquette.generation.stopping import MaxTimeCriteria as MaxTimeCriteria
from maquette.generation.stopping import StoppingCriteria as StoppingCriteria
from maquette.generation.stopping import StoppingCriteriaList as StoppingCriteriaList
from maquette.generation.stopping import StopStringCriteria as StopStringCriteria
from maquette.generation.streaming import AsyncTextIteratorStreamer as AsyncTextIteratorStreamer
from maquette.generation.streaming import BaseStreamer as BaseStreamer
from maquette.generation.streaming import TextIteratorStreamer as TextIteratorStreamer
from maquette.generation.streaming import TextStreamer as TextStreamer
from maquette.generation.synthid import SynthIDTextWatermarkLogitsProcessor as SynthIDTextWatermarkLogitsProcessor
from maquette.generation.truncation import EpsilonLogitsWarper as EpsilonLogitsWarper
from maquette.generation.truncation import EtaLogitsWarper as EtaLogitsWarper
from maquette.generation.truncation import MinPLogitsWarper as MinPLogitsWarper
from maquette.generation.truncation import TemperatureLogitsWarper as TemperatureLogitsWarper
from maquette.generation.truncation import TopHLogitsWarper as TopHLogitsWarper
from maquette.generation.truncation import TopKLogitsWarper as TopKLogitsWarper
from maquette.generation.truncation import TopPLogitsWarper as TopPLogitsWarper
from maquette.generation.truncation import TypicalLogitsWarper as TypicalLogitsWarper
from maquette.generation.watermark_detection import WatermarkDetector as WatermarkDetector
from maquette.generation.watermark_settings import SynthIDTextWatermarkingConfig as SynthIDTextWatermarkingConfig
from maquette.generation.watermark_settings import WatermarkingConfig as WatermarkingConfig
from maquette.generation.watermarks import WatermarkLogitsProcessor as WatermarkLogitsProcessor
from maquette.images.fetching import load_image as load_image
from maquette.images.processing import BaseImageProcessor as BaseImageProcessor
from maquette.images.processing import ImageFeatureExtractionMixin as ImageFeatureExtractionMixin
from maquette.images.processing import ImageProcessingMixin as ImageProcessingMixin
from maquette.modeling.activations import ACT2FN as ACT2FN
from maquette.modeling.backbone import BackboneConfigMixin as BackboneConfigMixin
from maquette.modeling.backbone import BackboneMixin as BackboneMixin
from maquette.modeling.embeddings import find_pruneable_heads_and_indices as find_pruneable_heads_and_indices
from maquette.modeling.embeddings import prune_linear_layer as prune_linear_layer
from maquette.modeling.encoder_decoder_outputs import (
    GenerateBeamEncoderDecoderOutput as GenerateBeamEncoderDecoderOutput,
)
from maquette.modeling.encoder_decoder_outputs import GenerateEncoderDecoderOutput as GenerateEncoderDecoderOutput
from maquette.modeling.encoder_decoder_outputs import Seq2SeqLMOutput as Seq2SeqLMOutput
from maquette.modeling.encoder_decoder_outputs import Seq2SeqModelOutput as Seq2SeqModelOutput
from maquette.modeling.encoder_decoder_outputs import (
    Seq2SeqQuestionAnsweringModelOutput as Seq2SeqQuestionAnsweringModelOutput,
)
from maquette.modeling.encoder_decoder_outputs import Seq2SeqSequenceClassifierOutput as Seq2SeqSequenceClassifierOutput
from maquette.modeling.flax import FlaxPreTrainedModel as FlaxPreTrainedModel
from maquette.modeling.flax_layers import FLAX_ACT2FN as FLAX_ACT2FN
from maquette.modeling.outputs import BackboneOutput as BackboneOutput
from maquette.modeling.outputs import BaseModelOutput as BaseModelOutput
from maquette.modeling.outputs import BaseModelOutputWithNoAttention as BaseModelOutputWithNoAttention
from maquette.modeling.outputs import BaseModelOutputWithPooling as BaseModelOutputWithPooling
from maquette.modeling.outputs import (
    BaseModelOutputWithPoolingAndNoAttention as BaseModelOutputWithPoolingAndNoAttention,
)
from maquette.modeling.outputs import CausalLMOutput as CausalLMOutput
from maquette.modeling.outputs import GenerateBeamDecoderOnlyOutput as GenerateBeamDecoderOnlyOutput
from maquette.modeling.outputs import GenerateDecoderOnlyOutput as GenerateDecoderOnlyOutput
from maquette.modeling.outputs import ImageClassifierOutput as ImageClassifierOutput
from maquette.modeling.outputs import ImageClassifierOutputWithNoAttention as ImageClassifierOutputWithNoAttention
from maquette.modeling.outputs import MaskedImageModelingOutput as MaskedImageModelingOutput
from maquette.modeling.outputs import MaskedLMOutput as MaskedLMOutput
from maquette.modeling.outputs import ModelOutput as ModelOutput
from maquette.modeling.outputs import MultipleChoiceModelOutput as MultipleChoiceModelOutput
from maquette.modeling.outputs import QuestionAnsweringModelOutput as QuestionAnsweringModelOutput
from maquette.modeling.outputs import SequenceClassifierOutput as SequenceClassifierOutput
from maquette.modeling.outputs import TokenClassifierOutput as TokenClassifierOutput
from maquette.modeling.outputs import Wav2Vec2BaseModelOutput as Wav2Vec2BaseModelOutput
from maquette.modeling.outputs import XVectorOutput as XVectorOutput
from maquette.modeling.tf import TFPreTrainedModel as TFPreTrainedModel
from maquette.modeling.tf_layers import TF_ACT2FN as TF_ACT2FN
from maquette.modeling.torch import PreTrainedModel as PreTrainedModel
from maquette.models.bart.configuration import BartConfig as BartConfig
from maquette.models.bart.modeling import BartForCausalLM as BartForCausalLM
from maquette.models.bart.modeling import BartForConditionalGeneration as BartForConditionalGeneration
from maquette.models.bart.modeling import BartForQuestionAnswering as BartForQuestionAnswering
from maquette.models.bart.modeling import BartForSequenceClassification as BartForSequenceClassification
from maquette.models.bart.modeling import BartModel as BartModel
from maquette.models.bart.modeling import BartPreTrainedModel as BartPreTrainedModel
from maquette.models.bart.tokenization import BartTokenizer as BartTokenizer
from maquette.models.bart.tokenization import BartTokenizerFast as BartTokenizerFast
from maquette.models.bert.configuration import BertConfig as BertConfig
from maquette.models.bert.configuration import RobertaConfig as RobertaConfig
from maquette.models.bert.configuration import XLMRobertaConfig as XLMRobertaConfig
from maquette.models.bert.encoder import BertModel as BertModel
from maquette.models.bert.encoder import BertPreTrainedModel as BertPreTrainedModel
from maquette.models.bert.modeling import BertForMaskedLM as BertForMaskedLM
from maquette.models.bert.modeling import BertForMultipleChoice as BertForMultipleChoice
from maquette.models.bert.modeling import BertForNextSentencePrediction as BertForNextSentencePrediction
from maquette.models.bert.modeling import BertForPreTraining as BertForPreTraining
from maquette.models.bert.modeling import BertForPreTrainingOutput as BertForPreTrainingOutput
from maquette.models.bert.modeling import BertForQuestionAnswering as BertForQuestionAnswering
from maquette.models.bert.modeling import BertForSequenceClassification as BertForSequenceClassification
from maquette.models.bert.modeling import BertForTokenClassification as BertForTokenClassification
from maquette.models.bert.modeling import BertLMHeadModel as BertLMHeadModel
from maquette.models.bert.roberta import RobertaForCausalLM as RobertaForCausalLM
from maquette.models.bert.roberta import RobertaForMaskedLM as RobertaForMaskedLM
from maquette.models.bert.roberta import RobertaForMultipleChoice as RobertaForMultipleChoice
from maquette.models.bert.roberta import RobertaForQuestionAnswering as RobertaForQuestionAnswering
from maquette.models.bert.roberta import RobertaForSequenceClassification as RobertaForSequenceClassification
from maquette.models.bert.roberta import RobertaForTokenClassification as RobertaForTokenClassification
from maquette.models.bert.roberta import RobertaModel as RobertaModel
from maquette.models.bert.roberta import RobertaPreTrainedModel as RobertaPreTrainedModel
from maquette.models.bert.roberta import XLMRobertaForCausalLM as XLMRobertaForCausalLM
from maquette.models.bert.roberta import XLMRobertaForMaskedLM as XLMRobertaForMaskedLM
from maquette.models.bert.roberta import XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice
from maquette.models.bert.roberta import XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering
from maquette.models.bert.roberta import XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification
from maquette.models.bert.roberta import XLMRobertaForTokenClassification as XLMRobertaForTokenClassification
from maquette.models.bert.roberta import XLMRobertaModel as XLMRobertaModel
from maquette.models.bert.roberta import XLMRobertaPreTrainedModel as XLMRobertaPreTrainedModel
from maquette.models.bert.tokenization import BertTokenizer as BertTokenizer
from maquette.models.bert.tokenization import BertTokenizerFast as BertTokenizerFast
from maquette.models.bert.tokenization import RobertaTokenizer as RobertaTokenizer
from maquette.models.bert.tokenization import RobertaTokenizerFast as RobertaTokenizerFast
from maquette.models.bert.tokenization import XLMRobertaTokenizer as XLMRobertaTokenizer
from maquette.models.bert.tokenization import XLMRobertaTokenizerFast as XLMRobertaTokenizerFast
from maquette.models.clip.configuration import CLIPConfig as CLIPConfig
from maquette.models.clip.configuration import CLIPTextConfig as CLIPTextConfig
from maquette.models.clip.configuration import CLIPVisionConfig as CLIPVisionConfig
from maquette.models.clip.modeling import CLIPForImageClassification as CLIPForImageClassification
from maquette.models.clip.modeling import CLIPModel as CLIPModel
from maquette.models.clip.modeling import CLIPOutput as CLIPOutput
from maquette.models.clip.modeling import CLIPPreTrainedModel as CLIPPreTrainedModel
from maquette.models.clip.modeling import CLIPTextModel as CLIPTextModel
from maquette.models.clip.modeling import CLIPTextModelOutput as CLIPTextModelOutput
from maquette.models.clip.modeling import CLIPTextModelWithProjection as CLIPTextModelWithProjection
from maquette.models.clip.modeling import CLIPVisionModel as CLIPVisionModel
from maquette.models.clip.modeling import CLIPVisionModelOutput as CLIPVisionModelOutput
from maquette.models.clip.modeling import CLIPVisionModelWithProjection as CLIPVisionModelWithProjection
from maquette.models.clip.processing import CLIPFeatureExtractor as CLIPFeatureExtractor
from maquette.models.clip.processing import CLIPImageProcessor as CLIPImageProcessor
from maquette.models.clip.processing import CLIPProcessor as CLIPProcessor
from maquette.models.clip.tokenization import CLIPTokenizer as CLIPTokenizer
from maquette.models.clip.tokenization import CLIPTokenizerFast as CLIPTokenizerFast
from maquette.models.convnext.configuration import ConvNextConfig as ConvNextConfig
from maquette.models.convnext.configuration import ConvNextV2Config as ConvNextV2Config
from maquette.models.convnext.image_processing import ConvNextFeatureExtractor as ConvNextFeatureExtractor
from maquette.models.convnext.image_processing import ConvNextImageProcessor as ConvNextImageProcessor
from maquette.models.convnext.modeling import ConvNextBackbone as ConvNextBackbone
from maquette.models.convnext.modeling import ConvNextForImageClassification as ConvNextForImageClassification
from maquette.models.convnext.modeling import ConvNextModel as ConvNextModel
from maquette.models.convnext.modeling import ConvNextPreTrainedModel as ConvNextPreTrainedModel
from maquette.models.convnext.modeling import ConvNextV2Backbone as ConvNextV2Backbone
from maquette.models.convnext.modeling import ConvNextV2ForImageClassification as ConvNextV2ForImageClassification
from maquette.models.convnext.modeling import ConvNextV2Model as ConvNextV2Model
from maquette.models.convnext.modeling import ConvNextV2PreTrainedModel as ConvNextV2PreTrainedModel
from maquette.models.dinov2.configuration import Dinov2Config as Dinov2Config
from maquette.models.dinov2.image_processing import BitImageProcessor as BitImageProcessor
from maquette.models.dinov2.modeling import Dinov2Backbone as Dinov2Backbone
from maquette.models.dinov2.modeling import Dinov2ForImageClassification as Dinov2ForImageClassification
from maquette.models.dinov2.modeling import Dinov2Model as Dinov2Model
from maquette.models.dinov2.modeling import Dinov2PreTrainedModel as Dinov2PreTrainedModel
from maquette.models.distilbert.configuration import DistilBertConfig as DistilBertConfig
from maquette.models.distilbert.modeling import DistilBertForMaskedLM as DistilBertForMaskedLM
from maquette.models.distilbert.modeling import DistilBertForMultipleChoice as DistilBertForMultipleChoice
from maquette.models.distilbert.modeling import DistilBertForQuestionAnswering as DistilBertForQuestionAnswering
from maquette.models.distilbert.modeling import (
    DistilBertForSequenceClassification as DistilBertForSequenceClassification,
)
from maquette.models.distilbert.modeling import DistilBertForTokenClassification as DistilBertForTokenClassification
from maquette.models.distilbert.modeling import DistilBertModel as DistilBertModel
from maquette.models.distilbert.modeling import DistilBertPreTrainedModel as DistilBertPreTrainedModel
from maquette.models.distilbert.modeling_flax import FlaxDistilBertForMaskedLM as FlaxDistilBertForMaskedLM
from maquette.models.distilbert.modeling_flax import FlaxDistilBertForMultipleChoice as FlaxDistilBertForMultipleChoice
from maquette.models.distilbert.modeling_flax import (
    FlaxDistilBertForQuestionAnswering as FlaxDistilBertForQuestionAnswering,
)
from maquette.models.distilbert.modeling_flax import (
    FlaxDistilBertForSequenceClassification as FlaxDistilBertForSequenceClassification,
)
from maquette.models.distilbert.modeling_flax import (
    FlaxDistilBertForTokenClassification as FlaxDistilBertForTokenClassification,
)
from maquette.models.distilbert.modeling_flax import FlaxDistilBertModel as FlaxDistilBertModel
from maquette.models.distilbert.modeling_flax import FlaxDistilBertPreTrainedModel as FlaxDistilBertPreTrainedModel
from maquette.models.distilbert.modeling_tf import TFDistilBertForMaskedLM as TFDistilBertForMaskedLM
from maquette.models.distilbert.modeling_tf import TFDistilBertForMultipleChoice as TFDistilBertForMultipleChoice
from maquette.models.distilbert.modeling_tf import TFDistilBertForQuestionAnswering as TFDistilBertForQuestionAnswering
from maquette.models.distilbert.modeling_tf import (
    TFDistilBertForSequenceClassification as TFDistilBertForSequenceClassification,
)
from maquette.models.distilbert.modeling_tf import (
    TFDistilBertForTokenClassification as TFDistilBertForTokenClassification,
)
from maquette.models.distilbert.modeling_tf import TFDistilBertModel as TFDistilBertModel
from maquette.models.distilbert.modeling_tf import TFDistilBertPreTrainedModel as TFDistilBertPreTrainedModel
from maquette.models.distilbert.tokenization import DistilBertTokenizer as DistilBertTokenizer
from maquette.models.distilbert.tokenization import DistilBertTokenizerFast as DistilBertTokenizerFast
from maquette.models.modernbert.configuration import ModernBertConfig as ModernBertConfig
from maquette.models.modernbert.modeling import ModernBertForMaskedLM as ModernBertForMaskedLM
from maquette.models.modernbert.modeling import ModernBertForMultipleChoice as ModernBertForMultipleChoice
from maquette.models.modernbert.modeling import ModernBertForQuestionAnswering as ModernBertForQuestionAnswering
from maquette.models.modernbert.modeling import (
    ModernBertForSequenceClassification as ModernBertForSequenceClassification,
)
from maquette.models.modernbert.modeling import ModernBertForTokenClassification as ModernBertForTokenClassification
from maquette.models.modernbert.modeling import ModernBertModel as ModernBertModel
from maquette.models.modernbert.modeling import ModernBertPreTrainedModel as ModernBertPreTrainedModel
from maquette.models.resnet.configuration import ResNetConfig as ResNetConfig
from maquette.models.resnet.modeling import ResNetBackbone as ResNetBackbone
from maquette.models.resnet.modeling import ResNetForImageClassification as ResNetForImageClassification
from maquette.models.resnet.modeling import ResNetModel as ResNetModel
from maquette.models.resnet.modeling import ResNetPreTrainedModel as ResNetPreTrainedModel
from maquette.models.resnet.modeling_flax import FlaxResNetBackbone as FlaxResNetBackbone
from maquette.models.resnet.modeling_flax import FlaxResNetForImageClassification as FlaxResNetForImageClassification
from maquette.models.resnet.modeling_flax import FlaxResNetModel as FlaxResNetModel
from maquette.models.resnet.modeling_flax import FlaxResNetPreTrainedModel as FlaxResNetPreTrainedModel
from maquette.models.resnet.modeling_tf import TFResNetBackbone as TFResNetBackbone
from maquette.models.resnet.modeling_tf import TFResNetForImageClassification as TFResNetForImageClassification
from maquette.models.resnet.modeling_tf import TFResNetModel as TFResNetModel
from maquette.models.resnet.modeling_tf import TFResNetPreTrainedModel as TFResNetPreTrainedModel
from maquette.models.t5.configuration import T5Config as T5Config
from maquette.models.t5.modeling import T5EncoderModel as T5EncoderModel
from maquette.models.t5.modeling import T5ForConditionalGeneration as T5ForConditionalGeneration
from maquette.models.t5.modeling import T5ForQuestionAnswering as T5ForQuestionAnswering
from maquette.models.t5.modeling import T5ForSequenceClassification as T5ForSequenceClassification
from maquette.models.t5.modeling import T5ForTokenClassification as T5ForTokenClassification
from maquette.models.t5.modeling import T5Model as T5Model
from maquette.models.t5.modeling import T5PreTrainedModel as T5PreTrainedModel
from maquette.models.t5.tokenization import T5Tokenizer as T5Tokenizer
from maquette.models.t5.tokenization import T5TokenizerFast as T5TokenizerFast
from maquette.models.vit.configuration import ViTConfig as ViTConfig
from maquette.models.vit.image_processing import ViTFeatureExtractor as ViTFeatureExtractor
from maquette.models.vit.image_processing import ViTImageProcessor as ViTImageProcessor
from maquette.models.vit.modeling import ViTForImageClassification as ViTForImageClassification
from maquette.models.vit.modeling import ViTForMaskedImageModeling as ViTForMaskedImageModeling
from maquette.models.vit.modeling import ViTModel as ViTModel
from maquette.models.vit.modeling import ViTPreTrainedModel as ViTPreTrainedModel
from maquette.models.vit.modeling_flax import FlaxViTForImageClassification as FlaxViTForImageClassification
from maquette.models.vit.modeling_flax import FlaxViTForMaskedImageModeling as FlaxViTForMaskedImageModeling
from maquette.models.vit.modeling_flax import FlaxViTModel as FlaxViTModel
from maquette.models.vit.modeling_flax import FlaxViTPreTrainedModel as FlaxViTPreTrainedModel
from maquette.models.vit.modeling_tf import TFViTForImageClassification as TFViTForImageClassification
from maquette.models.vit.modeling_tf import TFViTForMaskedImageModeling as TFViTForMaskedImageModeling
from maquette.models.vit.modeling_tf import TFViTModel as TFViTModel
from maquette.models.vit.modeling_tf import TFViTPreTrainedModel as TFViTPreTrainedModel
from maquette.models.wav2vec2.configuration import Wav2Vec2Config as Wav2Vec2Config
from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor as Wav2Vec2FeatureExtractor
from maquette.models.wav2vec2.masking import compute_mask_indices as compute_mask_indices
from maquette.models.wav2vec2.masking import sample_negative_indices as sample_negative_indices
from maquette.models.wav2vec2.modeling import Wav2Vec2ForAudioFrameClassification as Wav2Vec2ForAudioFrameClassification
from maquette.models.wav2vec2.modeling import Wav2Vec2ForCTC as Wav2Vec2ForCTC
from maquette.models.wav2vec2.modeling import Wav2Vec2ForSequenceClassification as Wav2Vec2ForSequenceClassification
from maquette.models.wav2vec2.modeling import Wav2Vec2ForXVector as Wav2Vec2ForXVector
from maquette.models.wav2vec2.modeling import Wav2Vec2Model as Wav2Vec2Model
from maquette.models.wav2vec2.modeling import Wav2Vec2PreTrainedModel as Wav2Vec2PreTrainedModel
from maquette.models.wav2vec2.modeling_flax import FlaxWav2Vec2ForCTC as FlaxWav2Vec2ForCTC
from maquette.models.wav2vec2.modeling_flax import (
    FlaxWav2Vec2ForSequenceClassification as FlaxWav2Vec2ForSequenceClassification,
)
from maquette.models.wav2vec2.modeling_flax import FlaxWav2Vec2Model as FlaxWav2Vec2Model
from maquette.models.wav2vec2.modeling_flax import FlaxWav2Vec2PreTrainedModel as FlaxWav2Vec2PreTrainedModel
from maquette.models.wav2vec2.modeling_tf import TFWav2Vec2ForCTC as TFWav2Vec2ForCTC
from maquette.models.wav2vec2.modeling_tf import (
    TFWav2Vec2ForSequenceClassification as TFWav2Vec2ForSequenceClassification,
)
from maquette.models.wav2vec2.modeling_tf import TFWav2Vec2Model as TFWav2Vec2Model
from maquette.models.wav2vec2.modeling_tf import TFWav2Vec2PreTrainedModel as TFWav2Vec2PreTrainedModel
from maquette.models.wav2vec2.pretraining import Wav2Vec2ForPreTraining as Wav2Vec2ForPreTraining
from maquette.models.wav2vec2.pretraining import Wav2Vec2ForPreTrainingOutput as Wav2Vec2ForPreTrainingOutput
from maquette.models.wav2vec2.processing import Wav2Vec2Processor as Wav2Vec2Processor
from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer as Wav2Vec2CTCTokenizer
from maquette.models.whisper.configuration import WhisperConfig as WhisperConfig
from maquette.models.whisper.feature_extraction import WhisperFeatureExtractor as WhisperFeatureExtractor
from maquette.models.whisper.modeling import WhisperForAudioClassification as WhisperForAudioClassification
from maquette.models.whisper.modeling import WhisperForCausalLM as WhisperForCausalLM
from maquette.models.whisper.modeling import WhisperForConditionalGeneration as WhisperForConditionalGeneration
from maquette.models.whisper.modeling import WhisperModel as WhisperModel
from maquette.models.whisper.modeling import WhisperPreTrainedModel as WhisperPreTrainedModel
from maquette.models.whisper.processing import WhisperProcessor as WhisperProcessor
from maquette.models.whisper.tokenization import WhisperTokenizer as WhisperTokenizer
from maquette.models.whisper.tokenization import WhisperTokenizerFast as WhisperTokenizerFast
from maquette.pipelines.base import Pipeline as Pipeline
from maquette.pipelines.images import ImageClassificationPipeline as ImageClassificationPipeline
from maquette.pipelines.images import ImageFeatureExtractionPipeline as ImageFeatureExtractionPipeline
from maquette.pipelines.question_answering import QuestionAnsweringPipeline as QuestionAnsweringPipeline
from maquette.pipelines.sounds import AudioClassificationPipeline as AudioClassificationPipeline
from maquette.pipelines.sounds import AutomaticSpeechRecognitionPipeline as AutomaticSpeechRecognitionPipeline
from maquette.pipelines.tasks import pipeline as pipeline
from maquette.pipelines.text_classification import TextClassificationPipeline as TextClassificationPipeline
from maquette.pipelines.text_classification import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline
from maquette.pipelines.text_generation import TextGenerationPipeline as TextGenerationPipeline
from maquette.pipelines.text_tokens import FeatureExtractionPipeline as FeatureExtractionPipeline
from maquette.pipelines.text_tokens import FillMaskPipeline as FillMaskPipeline
from maquette.pipelines.token_classification import TokenClassificationPipeline as TokenClassificationPipeline
from maquette.processing.processor import ProcessorMixin as ProcessorMixin
from maquette.registry import ModelCard as ModelCard
from maquette.registry import ModelEntry as ModelEntry
from maquette.text.byte_level_tokenization import ByteLevelBPETokenizer as ByteLevelBPETokenizer
from maquette.text.byte_level_tokenization import ByteLevelBPETokenizerFast as ByteLevelBPETokenizerFast
from maquette.text.encoding import BatchEncoding as BatchEncoding
from maquette.text.encoding import CharSpan as CharSpan
from maquette.text.encoding import TokenSpan as TokenSpan
from maquette.text.function_schemas import get_json_schema as get_json_schema
from maquette.text.tokenization import PreTrainedTokenizer as PreTrainedTokenizer
from maquette.text.tokenization_base import PreTrainedTokenizerBase as PreTrainedTokenizerBase
from maquette.text.tokenization_fast import PreTrainedTokenizerFast as PreTrainedTokenizerFast
from maquette.text.wordpiece_tokenization import WordPieceTokenizer as WordPieceTokenizer
from maquette.text.wordpiece_tokenization import WordPieceTokenizerFast as WordPieceTokenizerFast
from maquette.training.arguments import TrainingArguments as TrainingArguments
from maquette.training.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
from maquette.training.callbacks import TrainerCallback as TrainerCallback
from maquette.training.checkpoints import get_last_checkpoint as get_last_checkpoint
from maquette.training.collation import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
from maquette.training.collation import DataCollatorWithPadding as DataCollatorWithPadding
from maquette.training.collation import default_data_collator as default_data_collator
from maquette.training.metrics import EvalPrediction as EvalPrediction
from maquette.training.metrics import PredictionOutput as PredictionOutput
from maquette.training.metrics import TrainOutput as TrainOutput
from maquette.training.seq2seq import Seq2SeqTrainer as Seq2SeqTrainer
from maquette.training.seq2seq import Seq2SeqTrainingArguments as Seq2SeqTrainingArguments
from maquette.training.state import TrainerControl as TrainerControl
from maquette.training.state import TrainerState as TrainerState
from maquette.training.trainer import Trainer as Trainer

__version__: str
from maquette.configuration.rotary import RotaryConfig as RotaryConfig
from maquette.modeling.heads import GenericForImageClassification as GenericForImageClassification
from maquette.modeling.heads import GenericForQuestionAnswering as GenericForQuestionAnswering
from maquette.modeling.heads import GenericForSequenceClassification as GenericForSequenceClassification
from maquette.modeling.heads import GenericForTokenClassification as GenericForTokenClassification
from maquette.modeling.layers.experts import MixtureOfExperts as MixtureOfExperts
from maquette.modeling.layers.feed_forward import GatedFeedForward as GatedFeedForward
from maquette.modeling.layers.norms import RMSNorm as RMSNorm
from maquette.modeling.layers.rotary import RotaryEmbedding as RotaryEmbedding
from maquette.modeling.outputs import BaseModelOutputWithPast as BaseModelOutputWithPast
from maquette.modeling.outputs import CausalLMOutputWithPast as CausalLMOutputWithPast
from maquette.modeling.outputs import MoeCausalLMOutputWithPast as MoeCausalLMOutputWithPast
from maquette.modeling.outputs import MoeModelOutputWithPast as MoeModelOutputWithPast
from maquette.modeling.outputs import SequenceClassifierOutputWithPast as SequenceClassifierOutputWithPast
from maquette.models.encoder_decoder.configuration import EncoderDecoderConfig as EncoderDecoderConfig
from maquette.models.encoder_decoder.configuration import SpeechEncoderDecoderConfig as SpeechEncoderDecoderConfig
from maquette.models.encoder_decoder.configuration import VisionEncoderDecoderConfig as VisionEncoderDecoderConfig
from maquette.models.encoder_decoder.modeling import ComposedSeq2SeqModel as ComposedSeq2SeqModel
from maquette.models.encoder_decoder.modeling import EncoderDecoderModel as EncoderDecoderModel
from maquette.models.encoder_decoder.modeling import SpeechEncoderDecoderModel as SpeechEncoderDecoderModel
from maquette.models.encoder_decoder.modeling import VisionEncoderDecoderModel as VisionEncoderDecoderModel
from maquette.models.gemma.configuration import Gemma2Config as Gemma2Config
from maquette.models.gemma.configuration import Gemma3TextConfig as Gemma3TextConfig
from maquette.models.gemma.modeling import Gemma2ForCausalLM as Gemma2ForCausalLM
from maquette.models.gemma.modeling import Gemma2ForSequenceClassification as Gemma2ForSequenceClassification
from maquette.models.gemma.modeling import Gemma2ForTokenClassification as Gemma2ForTokenClassification
from maquette.models.gemma.modeling import Gemma2Model as Gemma2Model
from maquette.models.gemma.modeling import Gemma2PreTrainedModel as Gemma2PreTrainedModel
from maquette.models.gemma.modeling import Gemma3ForCausalLM as Gemma3ForCausalLM
from maquette.models.gemma.modeling import Gemma3PreTrainedModel as Gemma3PreTrainedModel
from maquette.models.gemma.modeling import Gemma3TextForSequenceClassification as Gemma3TextForSequenceClassification
from maquette.models.gemma.modeling import Gemma3TextModel as Gemma3TextModel
from maquette.models.gemma.tokenization import GemmaTokenizer as GemmaTokenizer
from maquette.models.gemma.tokenization import GemmaTokenizerFast as GemmaTokenizerFast
from maquette.models.gpt2.configuration import GPT2Config as GPT2Config
from maquette.models.gpt2.modeling import GPT2ForQuestionAnswering as GPT2ForQuestionAnswering
from maquette.models.gpt2.modeling import GPT2ForSequenceClassification as GPT2ForSequenceClassification
from maquette.models.gpt2.modeling import GPT2ForTokenClassification as GPT2ForTokenClassification
from maquette.models.gpt2.modeling import GPT2LMHeadModel as GPT2LMHeadModel
from maquette.models.gpt2.modeling import GPT2Model as GPT2Model
from maquette.models.gpt2.modeling import GPT2PreTrainedModel as GPT2PreTrainedModel
from maquette.models.gpt2.tokenization import GPT2Tokenizer as GPT2Tokenizer
from maquette.models.gpt2.tokenization import GPT2TokenizerFast as GPT2TokenizerFast
from maquette.models.llama.configuration import LlamaConfig as LlamaConfig
from maquette.models.llama.configuration import MistralConfig as MistralConfig
from maquette.models.llama.configuration import Qwen2Config as Qwen2Config
from maquette.models.llama.configuration import Qwen3Config as Qwen3Config
from maquette.models.llama.modeling import LlamaForCausalLM as LlamaForCausalLM
from maquette.models.llama.modeling import LlamaForQuestionAnswering as LlamaForQuestionAnswering
from maquette.models.llama.modeling import LlamaForSequenceClassification as LlamaForSequenceClassification
from maquette.models.llama.modeling import LlamaForTokenClassification as LlamaForTokenClassification
from maquette.models.llama.modeling import LlamaModel as LlamaModel
from maquette.models.llama.modeling import LlamaPreTrainedModel as LlamaPreTrainedModel
from maquette.models.llama.modeling import MistralForCausalLM as MistralForCausalLM
from maquette.models.llama.modeling import MistralForQuestionAnswering as MistralForQuestionAnswering
from maquette.models.llama.modeling import MistralForSequenceClassification as MistralForSequenceClassification
from maquette.models.llama.modeling import MistralForTokenClassification as MistralForTokenClassification
from maquette.models.llama.modeling import MistralModel as MistralModel
from maquette.models.llama.modeling import MistralPreTrainedModel as MistralPreTrainedModel
from maquette.models.llama.modeling import Qwen2ForCausalLM as Qwen2ForCausalLM
from maquette.models.llama.modeling import Qwen2ForQuestionAnswering as Qwen2ForQuestionAnswering
from maquette.models.llama.modeling import Qwen2ForSequenceClassification as Qwen2ForSequenceClassification
from maquette.models.llama.modeling import Qwen2ForTokenClassification as Qwen2ForTokenClassification
from maquette.models.llama.modeling import Qwen2Model as Qwen2Model
from maquette.models.llama.modeling import Qwen2PreTrainedModel as Qwen2PreTrainedModel
from maquette.models.llama.modeling import Qwen3ForCausalLM as Qwen3ForCausalLM
from maquette.models.llama.modeling import Qwen3ForQuestionAnswering as Qwen3ForQuestionAnswering
from maquette.models.llama.modeling import Qwen3ForSequenceClassification as Qwen3ForSequenceClassification
from maquette.models.llama.modeling import Qwen3ForTokenClassification as Qwen3ForTokenClassification
from maquette.models.llama.modeling import Qwen3Model as Qwen3Model
from maquette.models.llama.modeling import Qwen3PreTrainedModel as Qwen3PreTrainedModel
from maquette.models.llama.tokenization import LlamaTokenizer as LlamaTokenizer
from maquette.models.llama.tokenization import LlamaTokenizerFast as LlamaTokenizerFast
from maquette.models.llama.tokenization import Qwen2Tokenizer as Qwen2Tokenizer
from maquette.models.llama.tokenization import Qwen2TokenizerFast as Qwen2TokenizerFast
from maquette.models.mixtral.configuration import MixtralConfig as MixtralConfig
from maquette.models.mixtral.configuration import Qwen3MoeConfig as Qwen3MoeConfig
from maquette.models.mixtral.modeling import MixtralForCausalLM as MixtralForCausalLM
from maquette.models.mixtral.modeling import MixtralForQuestionAnswering as MixtralForQuestionAnswering
from maquette.models.mixtral.modeling import MixtralForSequenceClassification as MixtralForSequenceClassification
from maquette.models.mixtral.modeling import MixtralForTokenClassification as MixtralForTokenClassification
from maquette.models.mixtral.modeling import MixtralModel as MixtralModel
from maquette.models.mixtral.modeling import MixtralPreTrainedModel as MixtralPreTrainedModel
from maquette.models.mixtral.modeling import Qwen3MoeForCausalLM as Qwen3MoeForCausalLM
from maquette.models.mixtral.modeling import Qwen3MoeForQuestionAnswering as Qwen3MoeForQuestionAnswering
from maquette.models.mixtral.modeling import Qwen3MoeForSequenceClassification as Qwen3MoeForSequenceClassification
from maquette.models.mixtral.modeling import Qwen3MoeForTokenClassification as Qwen3MoeForTokenClassification
from maquette.models.mixtral.modeling import Qwen3MoeModel as Qwen3MoeModel
from maquette.models.mixtral.modeling import Qwen3MoePreTrainedModel as Qwen3MoePreTrainedModel
from maquette.text.sentencepiece_tokenization import SentencePieceTokenizerFast as SentencePieceTokenizerFast

class AutoModel(_AutoModel): ...
class AutoModelForPreTraining(_AutoModel): ...
class AutoModelForCausalLM(_AutoModel): ...
class AutoModelForMaskedLM(_AutoModel): ...
class AutoModelForSeq2SeqLM(_AutoModel): ...
class AutoModelForSequenceClassification(_AutoModel): ...
class AutoModelForQuestionAnswering(_AutoModel): ...
class AutoModelForTableQuestionAnswering(_AutoModel): ...
class AutoModelForVisualQuestionAnswering(_AutoModel): ...
class AutoModelForDocumentQuestionAnswering(_AutoModel): ...
class AutoModelForTokenClassification(_AutoModel): ...
class AutoModelForMultipleChoice(_AutoModel): ...
class AutoModelForNextSentencePrediction(_AutoModel): ...
class AutoModelForTextEncoding(_AutoModel): ...
class AutoModelForImageClassification(_AutoModel): ...
class AutoModelForZeroShotImageClassification(_AutoModel): ...
class AutoModelForImageSegmentation(_AutoModel): ...
class AutoModelForSemanticSegmentation(_AutoModel): ...
class AutoModelForUniversalSegmentation(_AutoModel): ...
class AutoModelForInstanceSegmentation(_AutoModel): ...
class AutoModelForObjectDetection(_AutoModel): ...
class AutoModelForZeroShotObjectDetection(_AutoModel): ...
class AutoModelForDepthEstimation(_AutoModel): ...
class AutoModelForNormalEstimation(_AutoModel): ...
class AutoModelForPointmapEstimation(_AutoModel): ...
class AutoModelForPoseEstimation(_AutoModel): ...
class AutoModelForImageMatting(_AutoModel): ...
class AutoModelForImageToImage(_AutoModel): ...
class AutoModelForMaskedImageModeling(_AutoModel): ...
class AutoModelForMaskGeneration(_AutoModel): ...
class AutoModelForKeypointDetection(_AutoModel): ...
class AutoModelForKeypointMatching(_AutoModel): ...
class AutoModelForTextRecognition(_AutoModel): ...
class AutoModelForTableRecognition(_AutoModel): ...
class AutoModelForVideoClassification(_AutoModel): ...
class AutoModelForImageTextToText(_AutoModel): ...
class AutoModelForMultimodalLM(_AutoModel): ...
class AutoModelForVision2Seq(_AutoModel): ...
class AutoModelForAudioClassification(_AutoModel): ...
class AutoModelForAudioFrameClassification(_AutoModel): ...
class AutoModelForAudioXVector(_AutoModel): ...
class AutoModelForAudioTokenization(_AutoModel): ...
class AutoModelForCTC(_AutoModel): ...
class AutoModelForRNNT(_AutoModel): ...
class AutoModelForTDT(_AutoModel): ...
class AutoModelForSpeechSeq2Seq(_AutoModel): ...
class AutoModelForTextToSpectrogram(_AutoModel): ...
class AutoModelForTextToWaveform(_AutoModel): ...
class AutoModelForTimeSeriesPrediction(_AutoModel): ...
class AutoModelForDecision(_AutoModel): ...
class AutoBackbone(_AutoModel): ...
class TFAutoModel(_AutoModel): ...
class TFAutoModelForPreTraining(_AutoModel): ...
class TFAutoModelForCausalLM(_AutoModel): ...
class TFAutoModelForMaskedLM(_AutoModel): ...
class TFAutoModelForSeq2SeqLM(_AutoModel): ...
class TFAutoModelForSequenceClassification(_AutoModel): ...
class TFAutoModelForQuestionAnswering(_AutoModel): ...
class TFAutoModelForTableQuestionAnswering(_AutoModel): ...
class TFAutoModelForVisualQuestionAnswering(_AutoModel): ...
class TFAutoModelForDocumentQuestionAnswering(_AutoModel): ...
class TFAutoModelForTokenClassification(_AutoModel): ...
class TFAutoModelForMultipleChoice(_AutoModel): ...
class TFAutoModelForNextSentencePrediction(_AutoModel): ...
class TFAutoModelForTextEncoding(_AutoModel): ...
class TFAutoModelForImageClassification(_AutoModel): ...
class TFAutoModelForZeroShotImageClassification(_AutoModel): ...
class TFAutoModelForImageSegmentation(_AutoModel): ...
class TFAutoModelForSemanticSegmentation(_AutoModel): ...
class TFAutoModelForUniversalSegmentation(_AutoModel): ...
class TFAutoModelForInstanceSegmentation(_AutoModel): ...
class TFAutoModelForObjectDetection(_AutoModel): ...
class TFAutoModelForZeroShotObjectDetection(_AutoModel): ...
class TFAutoModelForDepthEstimation(_AutoModel): ...
class TFAutoModelForNormalEstimation(_AutoModel): ...
class TFAutoModelForPointmapEstimation(_AutoModel): ...
class TFAutoModelForPoseEstimation(_AutoModel): ...
class TFAutoModelForImageMatting(_AutoModel): ...
class TFAutoModelForImageToImage(_AutoModel): ...
class TFAutoModelForMaskedImageModeling(_AutoModel): ...
class TFAutoModelForMaskGeneration(_AutoModel): ...
class TFAutoModelForKeypointDetection(_AutoModel): ...
class TFAutoModelForKeypointMatching(_AutoModel): ...
class TFAutoModelForTextRecognition(_AutoModel): ...
class TFAutoModelForTableRecognition(_AutoModel): ...
class TFAutoModelForVideoClassification(_AutoModel): ...
class TFAutoModelForImageTextToText(_AutoModel): ...
class TFAutoModelForMultimodalLM(_AutoModel): ...
class TFAutoModelForVision2Seq(_AutoModel): ...
class TFAutoModelForAudioClassification(_AutoModel): ...
class TFAutoModelForAudioFrameClassification(_AutoModel): ...
class TFAutoModelForAudioXVector(_AutoModel): ...
class TFAutoModelForAudioTokenization(_AutoModel): ...
class TFAutoModelForCTC(_AutoModel): ...
class TFAutoModelForRNNT(_AutoModel): ...
class TFAutoModelForTDT(_AutoModel): ...
class TFAutoModelForSpeechSeq2Seq(_AutoModel): ...
class TFAutoModelForTextToSpectrogram(_AutoModel): ...
class TFAutoModelForTextToWaveform(_AutoModel): ...
class TFAutoModelForTimeSeriesPrediction(_AutoModel): ...
class TFAutoModelForDecision(_AutoModel): ...
class TFAutoBackbone(_AutoModel): ...
class FlaxAutoModel(_AutoModel): ...
class FlaxAutoModelForPreTraining(_AutoModel): ...
class FlaxAutoModelForCausalLM(_AutoModel): ...
class FlaxAutoModelForMaskedLM(_AutoModel): ...
class FlaxAutoModelForSeq2SeqLM(_AutoModel): ...
class FlaxAutoModelForSequenceClassification(_AutoModel): ...
class FlaxAutoModelForQuestionAnswering(_AutoModel): ...
class FlaxAutoModelForTableQuestionAnswering(_AutoModel): ...
class FlaxAutoModelForVisualQuestionAnswering(_AutoModel): ...
class FlaxAutoModelForDocumentQuestionAnswering(_AutoModel): ...
class FlaxAutoModelForTokenClassification(_AutoModel): ...
class FlaxAutoModelForMultipleChoice(_AutoModel): ...
class FlaxAutoModelForNextSentencePrediction(_AutoModel): ...
class FlaxAutoModelForTextEncoding(_AutoModel): ...
class FlaxAutoModelForImageClassification(_AutoModel): ...
class FlaxAutoModelForZeroShotImageClassification(_AutoModel): ...
class FlaxAutoModelForImageSegmentation(_AutoModel): ...
class FlaxAutoModelForSemanticSegmentation(_AutoModel): ...
class FlaxAutoModelForUniversalSegmentation(_AutoModel): ...
class FlaxAutoModelForInstanceSegmentation(_AutoModel): ...
class FlaxAutoModelForObjectDetection(_AutoModel): ...
class FlaxAutoModelForZeroShotObjectDetection(_AutoModel): ...
class FlaxAutoModelForDepthEstimation(_AutoModel): ...
class FlaxAutoModelForNormalEstimation(_AutoModel): ...
class FlaxAutoModelForPointmapEstimation(_AutoModel): ...
class FlaxAutoModelForPoseEstimation(_AutoModel): ...
class FlaxAutoModelForImageMatting(_AutoModel): ...
class FlaxAutoModelForImageToImage(_AutoModel): ...
class FlaxAutoModelForMaskedImageModeling(_AutoModel): ...
class FlaxAutoModelForMaskGeneration(_AutoModel): ...
class FlaxAutoModelForKeypointDetection(_AutoModel): ...
class FlaxAutoModelForKeypointMatching(_AutoModel): ...
class FlaxAutoModelForTextRecognition(_AutoModel): ...
class FlaxAutoModelForTableRecognition(_AutoModel): ...
class FlaxAutoModelForVideoClassification(_AutoModel): ...
class FlaxAutoModelForImageTextToText(_AutoModel): ...
class FlaxAutoModelForMultimodalLM(_AutoModel): ...
class FlaxAutoModelForVision2Seq(_AutoModel): ...
class FlaxAutoModelForAudioClassification(_AutoModel): ...
class FlaxAutoModelForAudioFrameClassification(_AutoModel): ...
class FlaxAutoModelForAudioXVector(_AutoModel): ...
class FlaxAutoModelForAudioTokenization(_AutoModel): ...
class FlaxAutoModelForCTC(_AutoModel): ...
class FlaxAutoModelForRNNT(_AutoModel): ...
class FlaxAutoModelForTDT(_AutoModel): ...
class FlaxAutoModelForSpeechSeq2Seq(_AutoModel): ...
class FlaxAutoModelForTextToSpectrogram(_AutoModel): ...
class FlaxAutoModelForTextToWaveform(_AutoModel): ...
class FlaxAutoModelForTimeSeriesPrediction(_AutoModel): ...
class FlaxAutoModelForDecision(_AutoModel): ...
class FlaxAutoBackbone(_AutoModel): ...
