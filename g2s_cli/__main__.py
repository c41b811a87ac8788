"""The command g2s, also as `python -m g2s_cli`, which torchrun needs."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # StoppedError's exit code; nothing is imported yet


def main() -> None:
    """Run the command line; never returns. Handles Ctrl-C while the rest of g2s is imported."""
    try:
        from g2s_cli.app import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("g2s: Stopped; nothing was written.\n")
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
