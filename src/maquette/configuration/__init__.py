"""`PretrainedConfig`, what a configuration class declares, and how a configuration is made and checked."""

from maquette.configuration.config import PreTrainedConfig as PreTrainedConfig
from maquette.configuration.config import PretrainedConfig as PretrainedConfig
from maquette.configuration.config import read_config_file as read_config_file
from maquette.configuration.construction import GENERATION_FIELDS as GENERATION_FIELDS
