"""Where lips, brows, eyes, beard and the parts of a head are: a weight in [0, 1] for every vertex.

Parts are told by the vertex's number (the table in ICT-FaceKit's README), places on the face by its texture
coordinates, in which all heads are alike. Distances are in texture coordinates too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32

# The 68 landmarks of Multi-PIE as vertices (ICT-FaceKit's vertex_indices.json).
# fmt: off
LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,  # jaw
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509,  # brows
    978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,  # nose: bridge, then nostrils around the tip, 33
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,  # eyes
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,  # lips, outside
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,  # lips, inside
)
# fmt: on
RIGHT_BROW, LEFT_BROW, RIGHT_EYE, LEFT_EYE, LIPS = (
    slice(*ends) for ends in ((17, 22), (22, 27), (36, 42), (42, 48), (48, 60))
)
FACE, HEAD, MOUTH, GUMS, TEETH = (
    slice(*ends) for ends in ((0, 9409), (9409, 11248), (11248, 13294), (14062, 17039), (17039, 21451))
)
EYEBALLS = (slice(21451, 23021), slice(23021, 24591))
NECK_CM = -5  # below it the skin is the neck's
BACK_CM = -1  # behind it long hair hangs


@dataclass(frozen=True)
class Markings:
    """A weight for every vertex, most of them on the face alone.

    brow_distance: to the nearer brow. back: the head behind the ears, neck and all.
    """

    face: Bool[np.ndarray, " v"]
    ears: Bool[np.ndarray, " v"]
    scalp: Bool[np.ndarray, " v"]
    back: Bool[np.ndarray, " v"]
    lips: Float32[np.ndarray, " v"]
    eye_rims: Float32[np.ndarray, " v"]
    eye_shadows: Float32[np.ndarray, " v"]
    cheeks: Float32[np.ndarray, " v"]
    nose_tip: Float32[np.ndarray, " v"]
    nostrils: Float32[np.ndarray, " v"]
    beard: Float32[np.ndarray, " v"]
    moustache: Float32[np.ndarray, " v"]
    brow_distance: Float32[np.ndarray, " v"]


def mark(vertices: Float32[np.ndarray, "v 3"], uv: Float32[np.ndarray, "v 2"]) -> Markings:
    """The markings of the neutral head (cm) with these texture coordinates."""
    u, v = uv[:, 0], uv[:, 1]
    landmarks = uv[list(LANDMARKS)]
    face, head = np.zeros((2, len(uv)), bool)
    face[FACE] = True
    head[HEAD] = True

    def spot(centre: np.ndarray | list[float], size: float) -> np.ndarray:
        return np.exp(-((uv - centre) ** 2).sum(1) / size)

    def ring(part: slice) -> np.ndarray:
        corners = landmarks[part]
        return distance_to_line(uv, np.vstack([corners, corners[:1]]))

    lips = np.where(inside(uv, landmarks[LIPS]), 1.0, np.exp(-((ring(LIPS) / 0.008) ** 2))) * face
    to_eye = np.minimum(ring(RIGHT_EYE), ring(LEFT_EYE))
    under_nose = landmarks[33] * 0.4
    jaw = np.clip((0.50 - v) / 0.06, 0, 1) * np.exp(-(((u - 0.5) / 0.38) ** 4)) * np.clip((v - 0.2) / 0.05, 0, 1)
    on_face = {
        "lips": lips,
        "eye_rims": np.exp(-((to_eye / 0.012) ** 2)),
        "eye_shadows": np.exp(-((to_eye / 0.04) ** 2)),
        "cheeks": spot([0.27, 0.55], 0.012) + spot([0.73, 0.55], 0.012),
        "nose_tip": spot(landmarks[33], 0.004),
        "nostrils": sum(spot(landmarks[side] * 0.6 + under_nose, 0.00012) for side in (31, 35)),
        "beard": jaw * (1 - lips),
        "moustache": np.exp(-(((u - 0.5) / 0.09) ** 4 + ((v - 0.495) / 0.03) ** 4)) * (1 - lips),
    }
    brows = (distance_to_line(uv, landmarks[brow]) for brow in (RIGHT_BROW, LEFT_BROW))
    return Markings(
        face=face,
        ears=face & ((u < 0.115) | (u > 0.885)) & (v < 0.70) & (v > 0.42),
        scalp=head & (vertices[:, 1] >= NECK_CM),
        back=head & (vertices[:, 2] < BACK_CM),
        brow_distance=np.minimum(*brows).astype(np.float32),
        **{name: (weight * face).astype(np.float32) for name, weight in on_face.items()},
    )


def distance_to_line(points: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " n"]:
    """How far each point is from a line through the corners, one after the other."""
    nearest = np.full(len(points), np.inf)
    for start, end in pairwise(corners):
        along = end - start
        share = np.clip(((points - start) @ along) / (along @ along + 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - (start + share[:, None] * along), axis=1))
    return nearest


def inside(points: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "m 2"]) -> Bool[np.ndarray, " n"]:
    """Whether a polygon holds a point: a ray to its right crosses the edges an odd number of times."""
    x, y = points.T
    odd = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return odd
