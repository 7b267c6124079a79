"""What everything that can be saved has in common."""

from maquette.pretrained.mixin import PretrainedMixin as PretrainedMixin
