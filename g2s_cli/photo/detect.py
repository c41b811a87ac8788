"""Finding faces and their five points with MTCNN (Zhang et al., 2016), whose weights the `mtcnn` package carries.

The package itself needs TensorFlow to run; g2s takes its numbers alone and runs them in torch.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import cut
from g2s_cli.photo.mtcnn import STRIDE_PX, WINDOW_PX, Look, locating, proposing, refining

SEARCHED_PX = 1280  # the longer side of the picture that is searched
SMALLEST_PX, SMALLEST_SHARE = 20, 1 / 30  # of a face, the share being that of the shorter side
PYRAMID = 0.709  # from scale to scale, half the area, as the authors have it
SURE = (0.6, 0.7, 0.8)  # each network's least probability
OVERLAP = 0.7  # two boxes that overlap more are of one face
LOOKS = 4  # closer looks at a face, each upright in what the last one said

# Where the points of an upright face lie in the third network's window: what makes a look upright.
UPRIGHT = np.array(((0.32, 0.37), (0.68, 0.37), (0.5, 0.59), (0.34, 0.75), (0.66, 0.75)))
MIRRORED = [1, 0, 2, 4, 3]  # the same points after left and right were swapped


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    points: the eyes, the tip of the nose and the corners of the mouth, left ones (as seen) first, in pixels of the
    photo. size: the side of its box in pixels. sure: the last network's probability.
    """

    points: Float[np.ndarray, "5 2"]
    size: float
    sure: float


@torch.inference_mode()
def find_faces(picture: Image.Image) -> list[Face]:
    """The faces of a picture, upright within about 40°, the largest first. Raises WeightsError."""
    nets = _networks()
    factor = min(1.0, SEARCHED_PX / max(picture.size))
    searched = picture
    if factor < 1:
        measures = (max(1, round(side * factor)) for side in picture.size)
        searched = picture.resize(tuple(measures), Image.Resampling.BOX, reducing_gap=2.0)  # type: ignore[arg-type]
    boxes = _proposed(searched, nets[0])
    boxes = _refined(searched, boxes, nets[1]) if len(boxes) else boxes
    found = _located(searched, boxes, nets[2]) if len(boxes) else []
    faces = [
        Face(_looked_closer(picture, (face.points + 0.5) / factor - 0.5, nets[2]), face.size / factor, face.sure)
        for face in found
    ]
    return sorted(faces, key=lambda face: -face.size)


@cache
def _networks() -> tuple[Look, Look, Look]:
    """The three networks with the numbers of the `mtcnn` package, of which no code is run."""
    again = "Install it again: pip install --force-reinstall --no-deps mtcnn"
    package = importlib.util.find_spec("mtcnn")
    if package is None or package.origin is None:
        raise WeightsError("The face detector's weights, the package mtcnn, are not installed.", again)
    folder = Path(package.origin).parent / "assets" / "weights"
    try:
        result = (proposing(), refining(), locating())
        for network, name in zip(result, ("pnet", "rnet", "onet"), strict=True):
            network.take([torch.from_numpy(array) for array in joblib.load(folder / f"{name}.lz4")])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError) as error:
        raise WeightsError(f"The face detector's weights in {folder} are damaged.", again) from error
    return result


def _proposed(picture: Image.Image, network: Look) -> Float[np.ndarray, "n 4"]:
    """Square boxes (left, top, right, bottom) that the first network would have looked at."""
    least = max(SMALLEST_PX, SMALLEST_SHARE * min(picture.size))
    scale, boxes, sure = WINDOW_PX[0] / least, [], []
    while min(picture.size) * scale >= WINDOW_PX[0]:
        size = (round(picture.width * scale), round(picture.height * scale))
        moves, face = network(_input(picture.resize(size, Image.Resampling.BILINEAR)))
        rows, columns = np.nonzero(face[0, 1].numpy() > SURE[0])
        corner = np.stack((columns, rows), axis=1) * STRIDE_PX
        windows = np.concatenate((corner, corner + WINDOW_PX[0]), axis=1)
        moved = windows + WINDOW_PX[0] * moves[0, :, rows, columns].numpy().T
        probable = face[0, 1, rows, columns].numpy()
        kept = _best(moved, probable, 0.5)
        boxes.append(moved[kept] * np.tile(np.divide(picture.size, size), 2))
        sure.append(probable[kept])
        scale *= PYRAMID
    if not boxes:
        return np.zeros((0, 4))
    together = np.concatenate(boxes)
    return _squares(together[_best(together, np.concatenate(sure), OVERLAP)])


def _refined(picture: Image.Image, boxes: Float[np.ndarray, "n 4"], network: Look) -> Float[np.ndarray, "m 4"]:
    """Those boxes that the second network keeps, moved as it says."""
    moves, face = (answer.numpy() for answer in network(_windows(picture, boxes, WINDOW_PX[1])))
    kept = face[:, 1] > SURE[1]
    moved = _moved(boxes, moves)[kept]
    return _squares(moved[_best(moved, face[kept, 1], OVERLAP)])


def _located(picture: Image.Image, boxes: Float[np.ndarray, "n 4"], network: Look) -> list[Face]:
    """The faces that the third network sees in the boxes."""
    if not len(boxes):
        return []
    moves, places, face = (answer.numpy() for answer in network(_windows(picture, boxes, WINDOW_PX[2])))
    kept = np.nonzero(face[:, 1] > SURE[2])[0]
    moved = _moved(boxes, moves)
    kept = kept[_best(moved[kept], face[kept, 1], OVERLAP, of_smaller=True)]
    sides = boxes[:, 2:3] - boxes[:, :1]
    points = _points(places) * sides[:, None] + boxes[:, None, :2] - 0.5
    sizes = (moved[:, 2:] - moved[:, :2]).max(axis=1)
    return [Face(points[k].astype(np.float64), sizes[k].item(), face[k, 1].item()) for k in kept]


def _looked_closer(picture: Image.Image, points: Float[np.ndarray, "5 2"], network: Look) -> Float[np.ndarray, "5 2"]:
    """The same points from windows that turn, move and scale with the face, and from their mirror images.

    What is found no longer depends on how the face lay in the photo, but for the interpolation.
    """
    for _ in range(LOOKS):
        window = Placement.fit(UPRIGHT, points)
        seen = _input(cut(picture, window, WINDOW_PX[2]))
        _, places, _ = network(torch.cat((seen, seen.flip(-1))))
        direct, mirror = _points(places.numpy()).astype(np.float64)
        points = window.to_photo((direct + mirror[MIRRORED] * (-1, 1) + (1, 0)) / 2)
    return points


def _points(places: Float[np.ndarray, "n 10"]) -> Float[np.ndarray, "n 5 2"]:
    """Five columns and five rows as five points, in shares of the window."""
    return np.stack((places[:, :5], places[:, 5:]), axis=-1)


def _input(picture: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """A picture as the networks read it."""
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() - 127.5) / 128


def _windows(picture: Image.Image, boxes: Float[np.ndarray, "n 4"], size: int) -> Float[Tensor, "n 3 s s"]:
    """Boxes, to whole pixels, at a network's size; black beyond the picture."""
    whole = [(round(a), round(b), max(round(c), round(a) + 1), max(round(d), round(b) + 1)) for a, b, c, d in boxes]
    return torch.cat([_input(picture.crop(box).resize((size, size), Image.Resampling.BILINEAR)) for box in whole])


def _moved(boxes: Float[np.ndarray, "n 4"], moves: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    return boxes + moves * (boxes[:, 2:3] - boxes[:, :1])


def _squares(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Boxes widened or heightened to squares about their centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate((centre - half, centre + half), axis=1)


def _best(
    boxes: Float[np.ndarray, "n 4"], sure: Float[np.ndarray, " n"], overlap: float, *, of_smaller: bool = False
) -> Int[np.ndarray, " m"]:
    """Which boxes are the surest among those that overlap: by shares of their union, or of the smaller one."""
    order, kept = np.argsort(-sure), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        upper, lower = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:], boxes[rest, 2:])
        common = (lower - upper).clip(min=0).prod(axis=1)
        whole = np.minimum(area[first], area[rest]) if of_smaller else area[first] + area[rest] - common
        order = rest[common <= overlap * whole]
    return np.array(kept, dtype=int)
