"""Corpora: manifests, readers of official layouts, synthetic twins, the protocol guard and the data module."""
