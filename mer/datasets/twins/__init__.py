"""Synthetic twins: a tiny tree in the layout of each official download, its traps included, with labels that can be learned."""
