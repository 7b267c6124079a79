"""What code that was written for Transformers finds under its names, beside our own public ones."""
