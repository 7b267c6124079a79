"""The version that saved files carry as `maquette_version`."""

__version__ = "0.1.0"
