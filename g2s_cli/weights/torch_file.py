"""Torch checkpoints, read without running code."""

from __future__ import annotations

import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2s_cli.errors import WeightsError

# What unpacking may add to an archive: zip's own bookkeeping. Torch stores tensors as they are.
UNPACKED_SHARE, UNPACKED_BYTES = 1.1, 1_000_000


def load_torch_file(path: Path) -> Any:
    """A torch file's tensors and plain containers. Raises WeightsError if it holds, or claims, anything more."""
    again = "Fetch the file again."
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > UNPACKED_SHARE * path.stat().st_size + UNPACKED_BYTES:
                    raise WeightsError(f"{path} claims {unpacked} bytes of content, more than it holds.", again)
                if damaged := archive.testzip():
                    raise WeightsError(f"{path} is damaged: the checksum of {damaged} is wrong.", again)
        with torch.serialization.safe_globals([Namespace]):  # rosinality's trainer saves its arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Check the path.") from error
    except Exception as error:  # torch's unpickler, fed another file's bytes, lets through whatever goes wrong inside
        raise WeightsError(f"{path} cannot be read as a torch checkpoint of plain tensors.", again) from error


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are in memory, each by itself: not sparse, quantised or of the meta device."""
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
