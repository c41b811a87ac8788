"""Checkpoints of foreign formats with the real names, small widths and random weights."""

from fake_checkpoints.checkpoints import (
    LATENT,
    drawn,
    gan,
    networks,
    parser_state,
    parsing,
    release,
    saved,
    statistics,
    textbook,
)

__all__ = [
    "LATENT",
    "drawn",
    "gan",
    "networks",
    "parser_state",
    "parsing",
    "release",
    "saved",
    "statistics",
    "textbook",
]
