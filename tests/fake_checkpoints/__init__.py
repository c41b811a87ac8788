"""Checkpoints of foreign formats with the real names, small widths and random weights."""

from fake_checkpoints.checkpoints import LATENT, gan, networks, parser_state, parsing, release, saved, statistics

__all__ = ["LATENT", "gan", "networks", "parser_state", "parsing", "release", "saved", "statistics"]
