"""Whole experiments: training, cross-validation, the quickstart."""
