"""Face detection and landmarks with MTCNN (Zhang et al. 2016) in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.mtcnn import STRIDE_PX, WINDOW_PX, CascadeNet
from g2s_cli.photo.mtcnn_weights import load_mtcnn

MAX_SEARCH_PX = 1280  # longer side of the image that P-Net sees
MIN_FACE_PX, MIN_FACE_SHARE = 20, 1 / 30  # of a face; the share is of the image's shorter side
PYRAMID_FACTOR = 0.709  # between scales: half the area, as in the paper
MIN_PROBABILITY = (0.6, 0.7, 0.8)  # of each network
MIN_CONFIDENCE, SURE = 0.8, 0.98  # of a face; of one that ends the search
# It goes on in turned views of the photo with a margin, where the networks may be less certain.
TURNS_DEG = ((0, 90, 180, 270), (45, 135, 225, 315))
MARGIN, MAX_TURNED_PX = 1.2, 480
MIN_TURNED_PROBABILITY, MIN_TURNED_CONFIDENCE = (0.4, 0.4, 0.3), 0.95
MAX_OVERLAP_AT_SCALE, MAX_OVERLAP = 0.5, 0.7  # of boxes after non-maximum suppression
LANDMARK_ROUNDS = 4  # each re-reads the landmarks in an upright window around the previous ones

# Landmarks of an upright face in O-Net's window, and their order after mirroring.
UPRIGHT_LANDMARKS = np.array(((0.32, 0.37), (0.68, 0.37), (0.5, 0.59), (0.34, 0.75), (0.66, 0.75)))
MIRROR_ORDER = [1, 0, 2, 4, 3]

Boxes = Float[np.ndarray, "n 4"]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """A detected face.

    Args:
        landmarks: eyes, tip of the nose, corners of the mouth, the image's left ones first, in pixels of the image.
        size: side of the bounding box in pixels.
        confidence: O-Net's probability in an upright window around the landmarks and in its mirror image, their mean.
    """

    landmarks: Float[np.ndarray, "5 2"]
    size: float
    confidence: float


@torch.inference_mode()
def detect_faces(image: Image.Image) -> list[Face]:
    """Detect faces: upright ones in the photo, else the surest in one of its turned views.

    Returns:
        The faces, the largest first.

    Raises:
        WeightsError: the detector's weights are missing or damaged.
    """
    factor = min(1.0, MAX_SEARCH_PX / max(image.size))
    searched = image
    if factor < 1:
        width, height = (max(1, round(side * factor)) for side in image.size)
        searched = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)

    def confirmed(faces: list[Face], min_confidence: float) -> list[Face]:
        """Those of a search that hold on the photo itself."""
        places = [((face.landmarks + 0.5) / factor - 0.5, face.size / factor) for face in faces]
        result = [_confirm(image, Face(landmarks, size, 0.0)) for landmarks, size in places]
        return [face for face in result if face.confidence >= min_confidence]

    best = confirmed(_search(searched, MIN_PROBABILITY), MIN_CONFIDENCE)
    for turns_deg in TURNS_DEG:
        if _surest(best) >= SURE:
            break
        # All of a round: a face can pass for one that is upside down, but less surely.
        views = (confirmed(_search_turned(searched, math.radians(deg)), MIN_TURNED_CONFIDENCE) for deg in turns_deg)
        best = max((best, *views), key=_surest)
    return sorted(best, key=lambda face: -face.size)


def _surest(faces: Sequence[Face]) -> float:
    return max((face.confidence for face in faces), default=0.0)


def _search_turned(image: Image.Image, turn_rad: float) -> list[Face]:
    """The cascade's faces in a view of the image that is turned and has a margin."""
    cos, sin = abs(math.cos(turn_rad)), abs(math.sin(turn_rad))
    side = MARGIN * max(image.width * cos + image.height * sin, image.width * sin + image.height * cos)
    view = Placement((image.width - 1) / 2, (image.height - 1) / 2, side, turn_rad)
    size = min(round(side), MAX_TURNED_PX)
    faces = _search(crop_photo(image, view, size, padding="black"), MIN_TURNED_PROBABILITY)
    places = [(view.to_photo((face.landmarks + 0.5) / size), face.size * side / size) for face in faces]
    return [replace(face, landmarks=at, size=px) for face, (at, px) in zip(faces, places, strict=True)]


def _search(image: Image.Image, min_probability: tuple[float, float, float]) -> list[Face]:
    """The cascade's faces; min_probability: of each network."""
    proposal, refine, output = load_mtcnn()
    boxes = _propose(image, proposal, min_probability[0])
    boxes = _refine(image, boxes, refine, min_probability[1]) if len(boxes) else boxes
    return _locate(image, boxes, output, min_probability[2]) if len(boxes) else []


def _propose(image: Image.Image, net: CascadeNet, min_probability: float) -> Boxes:
    """Square boxes from P-Net on an image pyramid."""
    scale = WINDOW_PX[0] / max(MIN_FACE_PX, MIN_FACE_SHARE * min(image.size))
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0, np.float32)]
    while min(image.size) * scale >= WINDOW_PX[0]:
        size = (round(image.width * scale), round(image.height * scale))
        offsets, probabilities = net(_to_tensor(image.resize(size, Image.Resampling.BILINEAR)))
        rows, columns = np.nonzero(probabilities[0, 1].numpy() > min_probability)
        corners = np.stack((columns, rows), axis=1) * STRIDE_PX
        windows = np.concatenate((corners, corners + WINDOW_PX[0]), axis=1)
        regressed = windows + WINDOW_PX[0] * offsets[0, :, rows, columns].numpy().T
        score = probabilities[0, 1, rows, columns].numpy()
        keep = _suppress(regressed, score, MAX_OVERLAP_AT_SCALE)
        boxes.append(regressed[keep] * np.tile(np.divide(image.size, size), 2))
        scores.append(score[keep])
        scale *= PYRAMID_FACTOR
    candidates = np.concatenate(boxes)
    return _to_squares(candidates[_suppress(candidates, np.concatenate(scores), MAX_OVERLAP)])


def _refine(image: Image.Image, boxes: Boxes, net: CascadeNet, min_probability: float) -> Float[np.ndarray, "m 4"]:
    """The square boxes that R-Net keeps, regressed."""
    offsets, probabilities = (output.numpy() for output in net(_windows(image, boxes, WINDOW_PX[1])))
    keep = probabilities[:, 1] > min_probability
    regressed = _regress(boxes, offsets)[keep]
    return _to_squares(regressed[_suppress(regressed, probabilities[keep, 1], MAX_OVERLAP)])


def _locate(image: Image.Image, boxes: Boxes, net: CascadeNet, min_probability: float) -> list[Face]:
    """The faces that O-Net finds in the boxes."""
    offsets, places, probabilities = (output.numpy() for output in net(_windows(image, boxes, WINDOW_PX[2])))
    keep = np.nonzero(probabilities[:, 1] > min_probability)[0]
    regressed = _regress(boxes, offsets)
    keep = keep[_suppress(regressed[keep], probabilities[keep, 1], MAX_OVERLAP, of_smaller=True)]
    sides = boxes[:, 2:3] - boxes[:, :1]
    landmarks = _landmarks(places) * sides[:, None] + boxes[:, None, :2] - 0.5
    sizes = (regressed[:, 2:] - regressed[:, :2]).max(axis=1)
    return [Face(landmarks[k].astype(np.float64), sizes[k].item(), probabilities[k, 1].item()) for k in keep]


def _confirm(image: Image.Image, face: Face) -> Face:
    """The face with O-Net's average of an upright window and its mirror image, taken repeatedly.

    The window rotates, moves and scales with the face, so the result is equivariant up to interpolation.
    """
    _, _, net = load_mtcnn()
    for _ in range(LANDMARK_ROUNDS):
        window = Placement.fit(UPRIGHT_LANDMARKS, face.landmarks)
        if not (0 <= window.x < image.width and 0 <= window.y < image.height):
            return replace(face, confidence=0.0)
        pixels = _to_tensor(crop_photo(image, window, WINDOW_PX[2]))
        _, places, probabilities = net(torch.cat((pixels, pixels.flip(-1))))
        direct, mirrored = _landmarks(places.numpy()).astype(np.float64)
        landmarks = window.to_photo((direct + mirrored[MIRROR_ORDER] * (-1, 1) + (1, 0)) / 2)
        face = replace(face, landmarks=landmarks, confidence=probabilities[:, 1].mean().item())
    return face


def _landmarks(places: Float[np.ndarray, "n 10"]) -> Float[np.ndarray, "n 5 2"]:
    """O-Net's five columns and five rows as points, in shares of the window."""
    return np.stack((places[:, :5], places[:, 5:]), axis=-1)


def _to_tensor(image: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """An image in about [-1, 1]."""
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127.5) / 128


def _windows(image: Image.Image, boxes: Boxes, size: int) -> Float[Tensor, "n 3 s s"]:
    """Boxes, rounded to whole pixels, at a network's input size; black beyond the image."""
    rounded = [(round(a), round(b), max(round(c), round(a) + 1), max(round(d), round(b) + 1)) for a, b, c, d in boxes]
    return torch.cat([_to_tensor(image.crop(box).resize((size, size), Image.Resampling.BILINEAR)) for box in rounded])


def _regress(boxes: Boxes, offsets: Float[np.ndarray, "n 4"]) -> Boxes:
    """Boxes moved by offsets in units of their widths."""
    return boxes + offsets * (boxes[:, 2:3] - boxes[:, :1])


def _to_squares(boxes: Boxes) -> Boxes:
    """Squares with the boxes' centres and longer sides."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate((centre - half, centre + half), axis=1)


def _suppress(
    boxes: Boxes, scores: Float[np.ndarray, " n"], max_overlap: float, *, of_smaller: bool = False
) -> Int[np.ndarray, " m"]:
    """Non-maximum suppression: indices of the kept boxes, by intersection over union or over the smaller box."""
    order, keep = np.argsort(-scores), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while len(order):
        first, rest = order[0], order[1:]
        keep.append(first)
        upper, lower = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:], boxes[rest, 2:])
        intersection = (lower - upper).clip(min=0).prod(axis=1)
        whole = np.minimum(area[first], area[rest]) if of_smaller else area[first] + area[rest] - intersection
        order = rest[intersection <= max_overlap * whole]
    return np.array(keep, dtype=int)
