"""Trained models in use: the predictor, timelines, writers and the report."""
