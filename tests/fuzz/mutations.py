"""Random changes of bytes, JSON-like values and tensors."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
import zlib
from typing import Any

import torch
from torch import Tensor

ODD_NUMBERS = (0, -1, 1, 2, 3, 7, 0.5, 1e9, -1e9, 2**31, 2**63, 10**30, math.nan, math.inf, 1e-300, True)
ODD_VALUES = ("", "x", "../x", "/etc/passwd", "é\x00", "a" * 5000, [], {}, [1], {"a": 1}, None, *ODD_NUMBERS)
WORDS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to eight changes; half of them near the beginning."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        size = len(changed)
        at = rng.randrange(min(size, 64) if rng.random() < 0.5 else size) if size else 0
        count = min(rng.choice((1, 2, 4, 16, 200, 5000)), size - at)
        match rng.randrange(8):
            case 0 if size:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + count] = rng.randbytes(count)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + count]
            case 4:
                changed[at:at] = changed[at : at + count] or rng.randbytes(9)
            case 5:
                changed[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(WORDS))
            case 6:
                changed[at : at + count] = bytes([rng.choice((0, 255, 32))]) * count
            case 7:
                changed += rng.randbytes(rng.choice((1, 7, 3000)))
    return bytes(changed)


def change_png(rng: random.Random, data: bytes) -> bytes:
    """A PNG with changed chunks whose checksums are right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    index = rng.choice((0, rng.randrange(len(chunks))))
    name, body = chunks[index]
    chunks[index] = rng.choice(((name, change_bytes(rng, body)), (rng.choice((b"IDAT", b"tRNS", b"iCCP")), body)))
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return data[:8] + b"".join(parts)


def change_value(rng: random.Random, value: Any, odd: tuple[Any, ...] = ODD_VALUES) -> Any:
    """A JSON-like value with one change somewhere in it."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(odd)
    parent, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        case 2 if isinstance(parent[key], int | float):
            parent[key] = rng.choice((-parent[key], parent[key] * 1000, parent[key] / 3, rng.choice(ODD_NUMBERS)))
        case 3 if isinstance(parent[key], list):
            parent[key] = rng.choice((parent[key] * 3, parent[key][:-1], parent[key][::-1]))
        case _:
            parent[key] = rng.choice(odd)
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def change_tensor(rng: random.Random, tensor: Tensor) -> Tensor:
    """A tensor of another shape, type or content."""
    tensor = tensor.clone()
    match rng.randrange(9):
        case 0:
            return tensor[..., None]
        case 1:
            return tensor.flatten()[: tensor.numel() // 2]
        case 2:
            return torch.cat((tensor.flatten(), tensor.flatten()))
        case 3:
            return tensor.to(rng.choice((torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool)))
        case 4:
            return torch.full(tensor.shape, rng.choice((math.nan, math.inf, 1e30, 0.0, -1.0)))
        case 5:
            return tensor[:0] if tensor.dim() else torch.zeros(0)
        case 6:
            return tensor * rng.choice((-1, 1000, 1e-20))
        case 7 if tensor.dim() > 1:
            return tensor.transpose(0, -1).contiguous()
    return torch.zeros(())


def change_state(rng: random.Random, state: dict[str, Any]) -> dict[str, Any]:
    """Named tensors with one to three changes."""
    state = dict(state)
    for _ in range(rng.choice((1, 1, 3))):
        if not state:
            break
        name = rng.choice(list(state))
        match rng.randrange(5):
            case 0:
                del state[name]
            case 1:
                state[rng.choice((f"{name}x", f"x.{name}", "", "mean", "g_ema.x", "netD.1.weight"))] = state.pop(name)
            case 2 if isinstance(state[name], Tensor):
                other = state[rng.choice(list(state))]
                state[name] = other.clone() if isinstance(other, Tensor) else state[name]
            case _ if isinstance(state[name], Tensor):
                state[name] = change_tensor(rng, state[name])
            case _ if isinstance(state[name], dict):
                state[name] = change_state(rng, state[name])
    return state


def change_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with a changed header, whose announced length is right."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(change_value(rng, json.loads(data[8 : 8 + size]))).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]
