"""The command line."""

from maquette.cli.main import main as main
