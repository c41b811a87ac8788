"""Accuracy on photos with known depth (paper, section 4.1)."""
