"""Tokenizers of both kinds: in Python, and over the Rust library; one base, one way of saving."""
