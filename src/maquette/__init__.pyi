"""The public surface, for type checkers and editors: what `__init__` finds when it is asked for."""

from huggingface_hub._login import login as login
from huggingface_hub._login import notebook_login as notebook_login
from tokenizers import AddedToken as AddedToken

from maquette.auto import AutoConfig as AutoConfig
from maquette.auto import AutoModelBase as _AutoModel
from maquette.auto_preprocessing import AutoFeatureExtractor as AutoFeatureExtractor
from maquette.auto_preprocessing import AutoImageProcessor as AutoImageProcessor
from maquette.auto_preprocessing import AutoProcessor as AutoProcessor
from maquette.auto_preprocessing import AutoTokenizer as AutoTokenizer
from maquette.batch import BatchFeature as BatchFeature
from maquette.configuration import PreTrainedConfig as PreTrainedConfig
from maquette.configuration import PretrainedConfig as PretrainedConfig
from maquette.errors import CheckpointError as CheckpointError
from maquette.errors import ConfigurationError as ConfigurationError
from maquette.errors import FileFormatError as FileFormatError
from maquette.errors import InputError as InputError
from maquette.errors import MaquetteError as MaquetteError
from maquette.errors import MissingFileError as MissingFileError
from maquette.errors import MissingPackageError as MissingPackageError
from maquette.errors import RemoteCodeError as RemoteCodeError
from maquette.errors import SaveError as SaveError
from maquette.errors import UnknownFieldError as UnknownFieldError
from maquette.errors import UnknownNameError as UnknownNameError
from maquette.errors import UnsafePathError as UnsafePathError
from maquette.errors import UntrustedCodeError as UntrustedCodeError
from maquette.feature_extraction import FeatureExtractionMixin as FeatureExtractionMixin
from maquette.feature_extraction import SequenceFeatureExtractor as SequenceFeatureExtractor
from maquette.images.fetching import load_image as load_image
from maquette.images.processing import BaseImageProcessor as BaseImageProcessor
from maquette.images.processing import ImageFeatureExtractionMixin as ImageFeatureExtractionMixin
from maquette.images.processing import ImageProcessingMixin as ImageProcessingMixin
from maquette.modeling.activations import ACT2FN as ACT2FN
from maquette.modeling.backbone import BackboneConfigMixin as BackboneConfigMixin
from maquette.modeling.backbone import BackboneMixin as BackboneMixin
from maquette.modeling.embeddings import find_pruneable_heads_and_indices as find_pruneable_heads_and_indices
from maquette.modeling.embeddings import prune_linear_layer as prune_linear_layer
from maquette.modeling.outputs import BackboneOutput as BackboneOutput
from maquette.modeling.outputs import BaseModelOutput as BaseModelOutput
from maquette.modeling.outputs import BaseModelOutputWithNoAttention as BaseModelOutputWithNoAttention
from maquette.modeling.outputs import BaseModelOutputWithPooling as BaseModelOutputWithPooling
from maquette.modeling.outputs import (
    BaseModelOutputWithPoolingAndNoAttention as BaseModelOutputWithPoolingAndNoAttention,
)
from maquette.modeling.outputs import CausalLMOutput as CausalLMOutput
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
from maquette.modeling.torch import PreTrainedModel as PreTrainedModel
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
from maquette.models.distilbert.tokenization import DistilBertTokenizer as DistilBertTokenizer
from maquette.models.distilbert.tokenization import DistilBertTokenizerFast as DistilBertTokenizerFast
from maquette.models.resnet.configuration import ResNetConfig as ResNetConfig
from maquette.models.resnet.modeling import ResNetBackbone as ResNetBackbone
from maquette.models.resnet.modeling import ResNetForImageClassification as ResNetForImageClassification
from maquette.models.resnet.modeling import ResNetModel as ResNetModel
from maquette.models.resnet.modeling import ResNetPreTrainedModel as ResNetPreTrainedModel
from maquette.models.vit.configuration import ViTConfig as ViTConfig
from maquette.models.vit.image_processing import ViTFeatureExtractor as ViTFeatureExtractor
from maquette.models.vit.image_processing import ViTImageProcessor as ViTImageProcessor
from maquette.models.vit.modeling import ViTForImageClassification as ViTForImageClassification
from maquette.models.vit.modeling import ViTForMaskedImageModeling as ViTForMaskedImageModeling
from maquette.models.vit.modeling import ViTModel as ViTModel
from maquette.models.vit.modeling import ViTPreTrainedModel as ViTPreTrainedModel
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
from maquette.models.wav2vec2.pretraining import Wav2Vec2ForPreTraining as Wav2Vec2ForPreTraining
from maquette.models.wav2vec2.pretraining import Wav2Vec2ForPreTrainingOutput as Wav2Vec2ForPreTrainingOutput
from maquette.models.wav2vec2.processing import Wav2Vec2Processor as Wav2Vec2Processor
from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer as Wav2Vec2CTCTokenizer
from maquette.processing import ProcessorMixin as ProcessorMixin
from maquette.registry import ModelCard as ModelCard
from maquette.text.encoding import BatchEncoding as BatchEncoding
from maquette.text.encoding import CharSpan as CharSpan
from maquette.text.encoding import TokenSpan as TokenSpan
from maquette.text.tokenization import PreTrainedTokenizer as PreTrainedTokenizer
from maquette.text.tokenization_base import PreTrainedTokenizerBase as PreTrainedTokenizerBase
from maquette.text.tokenization_fast import PreTrainedTokenizerFast as PreTrainedTokenizerFast
from maquette.text.wordpiece_tokenization import WordPieceTokenizer as WordPieceTokenizer
from maquette.text.wordpiece_tokenization import WordPieceTokenizerFast as WordPieceTokenizerFast
from maquette.training.arguments import TrainingArguments as TrainingArguments
from maquette.training.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
from maquette.training.callbacks import TrainerCallback as TrainerCallback
from maquette.training.checkpoints import get_last_checkpoint as get_last_checkpoint
from maquette.training.collation import DataCollatorWithPadding as DataCollatorWithPadding
from maquette.training.collation import default_data_collator as default_data_collator
from maquette.training.evaluation import EvalPrediction as EvalPrediction
from maquette.training.evaluation import PredictionOutput as PredictionOutput
from maquette.training.evaluation import TrainOutput as TrainOutput
from maquette.training.state import TrainerControl as TrainerControl
from maquette.training.state import TrainerState as TrainerState
from maquette.training.trainer import Trainer as Trainer

__version__: str

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
