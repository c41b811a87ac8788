"""Expressions of the face model as people have them in photos: smiles with and without teeth, open mouths, blinks."""

from __future__ import annotations

import numpy as np

# Numbers of the face model's expressions, by name without the side; both sides where there are two.
NAMES: dict[str, tuple[int, ...]] = {
    "browDown": (2, 3),
    "browInnerUp": (4, 5),
    "browOuterUp": (6, 7),
    "cheekRaiser": (10, 11),
    "cheekSquint": (12, 13),
    "eyeBlink": (14, 15),
    "eyeSquint": (24, 25),
    "eyeWide": (26, 27),
    "jawForward": (28,),
    "jawOpen": (30,),
    "mouthDimple": (33, 34),
    "mouthFrown": (35, 36),
    "mouthFunnel": (37,),
    "mouthLowerDown": (39, 40),
    "mouthPress": (41, 42),
    "mouthPucker": (43,),
    "mouthRollLower": (45,),
    "mouthRollUpper": (46,),
    "mouthSmile": (49, 50),
    "mouthStretch": (51, 52),
    "mouthUpperUp": (53, 54),
    "noseSneer": (55, 56),
}
# What goes together, with the greatest strength of each: of the first always a good share, of others by chance.
MIXTURES: tuple[tuple[float, dict[str, float]], ...] = (
    (0.25, {}),
    (
        0.3,
        {
            "mouthSmile": 1.0,
            "jawOpen": 0.25,
            "mouthUpperUp": 0.6,
            "mouthLowerDown": 0.6,
            "cheekSquint": 0.8,
            "cheekRaiser": 0.6,
            "eyeSquint": 0.6,
            "mouthDimple": 0.5,
        },
    ),
    (0.15, {"mouthSmile": 0.8, "mouthPress": 0.5, "mouthDimple": 0.5, "cheekSquint": 0.5, "eyeSquint": 0.5}),
    (
        0.3,
        {
            "jawOpen": 1.1,
            "mouthSmile": 0.6,
            "mouthFunnel": 0.4,
            "mouthUpperUp": 0.4,
            "browInnerUp": 0.6,
            "eyeWide": 0.5,
        },
    ),
    (
        0.1,
        {
            "mouthFrown": 0.8,
            "browDown": 0.8,
            "noseSneer": 0.5,
            "mouthPress": 0.5,
            "mouthPucker": 0.6,
            "mouthRollLower": 0.4,
        },
    ),
)
BLINKS, LOPSIDED = 0.12, 0.15  # share of heads with closed lids; standard deviation of one side's share


def draw_expressive(rng: np.random.Generator) -> tuple[tuple[int, float], ...]:
    """Expressions of the face model by number, with their strengths in [0, 1.1]."""
    shares = np.array([share for share, _ in MIXTURES])
    limits = dict(MIXTURES[rng.choice(len(MIXTURES), p=shares / shares.sum())][1])
    amount = rng.uniform(0.3, 1.0)
    leading = next(iter(limits), "")
    if rng.random() < BLINKS:
        limits["eyeBlink"] = 1.0
    for name in rng.choice(list(NAMES), 2, replace=False):
        limits[name] = max(limits.get(name, 0.0), 0.35)
    strengths = {}
    for name, limit in limits.items():
        share = limit * (amount if name == leading else rng.uniform(0, 1) * (1 if name == "eyeBlink" else amount))
        for number in NAMES[name]:
            strengths[number] = float(np.clip(share * (1 + LOPSIDED * rng.normal()), 0, 1.1))
    return tuple(strengths.items())
