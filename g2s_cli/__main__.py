"""`python -m g2s_cli` is the command g2s: torchrun starts modules."""

from g2s_cli.app import main

main()
