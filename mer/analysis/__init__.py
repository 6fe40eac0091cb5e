"""Looking into recordings and models."""
