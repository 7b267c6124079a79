"""Several preprocessing classes as one object, and what all of them share: settings in JSON files."""

from maquette.processing.processor import ProcessorMixin as ProcessorMixin
