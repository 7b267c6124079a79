"""What goes into one batch: rows padded to one length, and the tensors of every framework."""

from maquette.batch.features import BatchFeature as BatchFeature
