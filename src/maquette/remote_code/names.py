"""What modules of checkpoints' own code are called: names that no folder can have."""

PACKAGE_PREFIX = "maquette_remote_"  # what modules of checkpoints' own code are called
