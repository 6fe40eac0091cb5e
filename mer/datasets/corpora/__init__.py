"""Corpora, from the official download to the rows of a manifest. Their synthetic twins are in `datasets/twins`."""
