"""Sounds: files and arrays as clips, and feature extractors that turn clips into what a model takes."""

from maquette.audio.clips import AudioOptions as AudioOptions
from maquette.audio.clips import read_sounds as read_sounds
from maquette.audio.feature_extraction import FeatureExtractionMixin as FeatureExtractionMixin
from maquette.audio.feature_extraction import SequenceFeatureExtractor as SequenceFeatureExtractor
from maquette.audio.files import read_file as read_file
