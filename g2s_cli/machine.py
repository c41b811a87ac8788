"""Where arithmetic runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from g2s_cli.errors import UsageError


@dataclass(frozen=True)
class Machine:
    """A device, and the precision of its convolutions."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def named(cls, name: str) -> Machine:
        """The machine of a device name; "auto" is the GPU if there is one. Raises UsageError if there is none such."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).item()  # "meta" has tensors, but no numbers in them
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"There is no device {name!r} here.", "Use --device cpu.") from error
        if device.type == "cuda":
            with torch.cuda.device(device):
                native = torch.cuda.is_bf16_supported(including_emulation=False)
            return cls(device, torch.bfloat16 if native else torch.float32)
        # Only where the processor multiplies bfloat16 itself is it faster than float32.
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return cls(device, torch.bfloat16 if native else torch.float32)
