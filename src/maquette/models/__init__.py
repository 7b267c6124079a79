"""The built-in architectures, one folder each; a folder's `__init__` is its model card."""
