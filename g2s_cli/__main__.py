"""The command g2s, which `python -m g2s_cli` is, too: torchrun starts modules."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # StoppedError's; nothing is imported yet


def main() -> None:
    """Run the command line; never returns. Ctrl-C is heard while the rest of g2s is still being imported."""
    try:
        from g2s_cli.app import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("g2s: Stopped; nothing was written.\n")
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
