"""The command g2s, also as `python -m g2s_cli`, which torchrun needs."""

from __future__ import annotations

import sys

from g2s_cli.signals import interrupted_by_signals

INTERRUPTED = 130  # StoppedError's exit code; nothing else is imported yet


def main() -> None:
    """Run the command line; never returns. Handles signals while the rest of g2s is imported, too."""
    with interrupted_by_signals() as received:
        try:
            from g2s_cli.app import run  # noqa: PLC0415

            code = run()
        except KeyboardInterrupt:
            sys.stderr.write("g2s: Stopped; nothing was written.\n")
            code = 128 + received[0] if received else INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
