"""Weights and training state on disk: published layout outside, ours inside; whole folders or none; digests beside them."""
