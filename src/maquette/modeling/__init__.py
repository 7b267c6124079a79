"""The base classes of models, one file per framework over one common core."""
