"""The face model fitted to the landmarks of portraits: identity, expression and pose of each.

Maximum a posteriori by Gauss-Newton in batches: identity coefficients are unit normal, expressions are between 0 and 1
with a mean of 0. The camera is g2s's, so a fit stands in its crop as a render does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2s_cli.geometry.camera import Camera, rotation_matrix
from g2s_cli.geometry.placement import Placement
from recipes.portrait.expressions import NAMES
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import Shape
from recipes.synface.render import CENTRE_CM, TO_CAMERA, Pose

IDENTITIES = 50  # the first ones; the others move the surface by less than 0.2 mm
ROUNDS, BIAS_ROUNDS = 7, 2
NOISE_CM, EXPRESSION_SPREAD = 0.16, 0.45  # of a landmark; of an expression's strength
IDENTITY_SPREAD = 0.9
MOST_EXPRESSION = 1.1
START_SCALE = 0.0086  # scene units a cm
POSE_NUMBERS = 6  # pitch, yaw, roll, log scale, shift
POSE_ROUNDS = 3  # in which the shape stays
ROBUST = 2.5  # standard deviations of noise at which a landmark counts a half
WEAK, HELD, HOLD_ROUNDS = 1e-6, 1e6, 3  # precision of poses, and of held expressions
ANGLE_STEP = 1e-5  # radians
FRONTAL = math.radians(15)


@dataclass(frozen=True)
class Fits:
    """Portraits' files, coefficients and poses, and how well the landmarks fit.

    Attributes:
        identities: coefficients of the first identities.
        expressions: strengths of all expressions.
        poses: pitch, yaw, roll (radians), scale (scene units a cm), shift (scene units).
        errors: root mean square distance of landmarks in cm.
    """

    files: np.ndarray
    identities: Float[np.ndarray, "n i"]
    expressions: Float[np.ndarray, "n e"]
    poses: Float[np.ndarray, "n 6"]
    errors: Float[np.ndarray, " n"]

    def shape(self, index: int, model: FaceModel) -> Shape:
        """Coefficients as `synface.heads` takes them."""
        identity = np.zeros(len(model.identities))
        identity[: self.identities.shape[1]] = self.identities[index]
        strengths = self.expressions[index]
        return Shape(identity, tuple((int(k), float(strengths[k])) for k in strengths.nonzero()[0]))

    def pose(self, index: int) -> Pose:
        """The pose of one."""
        pitch, yaw, roll, scale, x, y = self.poses[index].tolist()
        return Pose(yaw, pitch, roll, scale, (x, y))

    def pick(self, index: Int[np.ndarray, " n"]) -> Fits:
        """Some of them."""
        return Fits(*(each[index] for each in vars(self).values()))

    def save(self, path: Path) -> None:
        """Write a .npz."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Fits:
        """Read a .npz."""
        with np.load(path) as file:
            return cls(**{name: file[name] for name in cls.__dataclass_fields__})


def crop_landmarks(points: Float[np.ndarray, "k 3"], placement: Float[np.ndarray, 4]) -> Float[np.ndarray, "k 2"]:
    """Landmarks of a photo in the plane z = 1 of its crop's camera: x right, y down, in scene units.

    The camera's field of view ends at the centres of its outermost pixels; at 64 px and up this is the crop within 2 %,
    so the points are taken at 64 px, as the depth network sees them.
    """
    camera = Camera(64)
    pixels = Placement(*placement).to_crop(points[:, :2].astype(float)) * camera.size - 0.5
    return (pixels - camera.centre) / camera.focal


@dataclass(frozen=True)
class Basis:
    """Positions of the landmarks on the head in cm from its pivot: camera's axes. Expressions follow identities."""

    mean: Float[Tensor, "k 3"]
    directions: Float[Tensor, "c k 3"]
    spread: Float[Tensor, " c"]
    expressions: tuple[int, ...]

    @property
    def identities(self) -> int:
        """How many directions are identities."""
        return len(self.directions) - len(self.expressions)

    @classmethod
    def of(cls, model: FaceModel, vertices: Int[np.ndarray, " k"]) -> Basis:
        """The basis at some vertices."""
        numbers = tuple(sorted(number for pair in NAMES.values() for number in pair))
        axes = torch.from_numpy(TO_CAMERA)
        mean = torch.from_numpy(model.vertices[vertices].astype(float) - CENTRE_CM) @ axes
        identities = torch.from_numpy(model.identities[:IDENTITIES, vertices].astype(float)) @ axes
        expressions = torch.from_numpy(model.expressions[list(numbers)][:, vertices].astype(float)) @ axes
        spread = torch.tensor([IDENTITY_SPREAD] * len(identities) + [EXPRESSION_SPREAD] * len(numbers)).double()
        return cls(mean, torch.cat((identities, expressions)), spread, numbers)


def fit(
    model: FaceModel, vertices: Int[np.ndarray, " k"], files: np.ndarray, points: Float[np.ndarray, "n k 2"]
) -> Fits:
    """Fit all portraits. points: as `crop_landmarks` returns them.

    What is left of a landmark in the mean of all portraits is where the landmark network puts it, not their shape: it
    is taken off, and all are fitted again.
    """
    basis, observed = Basis.of(model, vertices), torch.from_numpy(points)
    bias = torch.zeros_like(basis.mean)
    for _ in range(BIAS_ROUNDS):
        coeffs, poses = _solve(basis, basis.mean + bias, observed)
        residual = observed - _project(basis, basis.mean + bias, coeffs, poses)[0]
        bias = bias + _canonical_mean(residual, poses)
    error = residual.square().sum(dim=2).mean(dim=1).sqrt() / poses[:, 3].exp()
    expressions = np.zeros((len(points), len(model.expressions)))
    expressions[:, list(basis.expressions)] = coeffs[:, basis.identities :].numpy()
    poses[:, 3] = poses[:, 3].exp()
    return Fits(files, coeffs[:, : basis.identities].numpy(), expressions, poses.numpy(), error.numpy())


def _canonical_mean(residual: Float[Tensor, "n k 2"], poses: Float[Tensor, "n 6"]) -> Float[Tensor, "k 3"]:
    """The mean residual in the head's axes, of heads that face the camera."""
    frontal = poses[:, 1].abs() < FRONTAL
    flat = (residual / poses[:, 3].exp()[:, None, None])[frontal]
    turned = torch.einsum("nji,nkj->nki", rotation_matrix(poses)[frontal][:, :2], flat)
    return turned.median(dim=0).values * torch.tensor([1.0, 1.0, 0.0]).double()


def _project(
    basis: Basis, mean: Float[Tensor, "k 3"], coeffs: Float[Tensor, "n c"], poses: Float[Tensor, "n 6"]
) -> tuple[Float[Tensor, "n k 2"], Float[Tensor, "n k 3"], Float[Tensor, "n k 3"]]:
    """Landmarks in the plane z = 1, on the head in cm, and before the camera."""
    head = mean + torch.einsum("nc,ckd->nkd", coeffs, basis.directions)
    placed = torch.einsum("nij,nkj->nki", rotation_matrix(poses), head) * poses[:, 3].exp()[:, None, None]
    placed = placed + torch.cat((poses[:, 4:], torch.ones_like(poses[:, :1])), dim=1)[:, None]
    return placed[..., :2] / placed[..., 2:], head, placed


def _solve(
    basis: Basis, mean: Float[Tensor, "k 3"], observed: Float[Tensor, "n k 2"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 6"]]:
    """Coefficients and poses (with the logarithm of the scale)."""
    coeffs = torch.zeros(len(observed), len(basis.directions)).double()
    poses = torch.zeros(len(observed), 6).double()
    poses[:, 3] = math.log(START_SCALE)
    for number in range(ROUNDS):
        parts = [
            _step(basis, mean, *part, shape=number >= POSE_ROUNDS)
            for part in zip(coeffs.split(64), poses.split(64), observed.split(64), strict=True)
        ]
        coeffs, poses = (torch.cat(each) for each in zip(*parts, strict=True))
    return coeffs, poses


def _step(
    basis: Basis,
    mean: Float[Tensor, "k 3"],
    coeffs: Float[Tensor, "n c"],
    poses: Float[Tensor, "n 6"],
    observed: Float[Tensor, "n k 2"],
    *,
    shape: bool,
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 6"]]:
    """One Gauss-Newton step of everything, or of the pose alone."""
    projected, head, placed = _project(basis, mean, coeffs, poses)
    scale = poses[:, 3].exp()[:, None, None]
    moved = _pose_movements(head, placed, poses)
    if shape:
        by_shape = torch.einsum("nij,ckj->ncki", rotation_matrix(poses), basis.directions) * scale[..., None]
        moved = torch.cat((moved, by_shape), dim=1)
    # A movement before the camera, in the plane z = 1.
    jacobian = (moved[..., :2] - projected[:, None] * moved[..., 2:]) / placed[:, None, :, 2:]
    noise = (NOISE_CM * scale)[:, 0]
    residual = observed - projected
    weight = 1 / (1 + (residual.norm(dim=2, keepdim=True) / (ROBUST * noise[..., None])).square())
    weighted = (jacobian * weight.sqrt()[:, None]).flatten(2) / noise[..., None]
    target = (residual * weight.sqrt()).flatten(1) / noise
    system, right = weighted @ weighted.mT, torch.einsum("ncr,nr->nc", weighted, target)
    if not shape:
        return coeffs, poses + torch.linalg.solve(system + WEAK * torch.eye(POSE_NUMBERS).double(), right)
    precision = torch.cat((torch.full((POSE_NUMBERS,), WEAK).double(), basis.spread.pow(-2))).repeat(len(coeffs), 1)
    right = right - precision * torch.cat((torch.zeros_like(poses), coeffs), dim=1)
    return _bounded(system + torch.diag_embed(precision), right, coeffs, poses, basis.identities)


def _pose_movements(
    head: Float[Tensor, "n k 3"], placed: Float[Tensor, "n k 3"], poses: Float[Tensor, "n 6"]
) -> Float[Tensor, "n 6 k 3"]:
    """How the landmarks before the camera move with pitch, yaw, roll (by differences), log scale and shift."""
    scale, turn = poses[:, 3].exp()[:, None, None], rotation_matrix(poses)
    columns = []
    for axis in range(3):
        step = torch.zeros(POSE_NUMBERS).double()
        step[axis] = ANGLE_STEP
        columns.append(scale * torch.einsum("nij,nkj->nki", (rotation_matrix(poses + step) - turn) / ANGLE_STEP, head))
    columns.append(placed - torch.cat((poses[:, 4:], torch.ones_like(poses[:, :1])), dim=1)[:, None])
    columns += [torch.zeros_like(placed) + torch.eye(3).double()[axis] for axis in range(2)]
    return torch.stack(columns, dim=1)


def _bounded(
    system: Float[Tensor, "n p p"],
    right: Float[Tensor, "n p"],
    coeffs: Float[Tensor, "n c"],
    poses: Float[Tensor, "n 6"],
    identities: int,
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 6"]]:
    """The step with expressions kept in their range: those that would leave it are held at its end."""
    lower, upper = torch.full_like(coeffs, -torch.inf), torch.full_like(coeffs, torch.inf)
    lower[:, identities:], upper[:, identities:] = 0, MOST_EXPRESSION
    held, goal = torch.zeros_like(right), torch.zeros_like(right)
    for _ in range(HOLD_ROUNDS):
        change = torch.linalg.solve(system + torch.diag_embed(HELD * held), right + HELD * held * goal)
        moved = coeffs + change[:, POSE_NUMBERS:]
        goal[:, POSE_NUMBERS:] = moved.clamp(lower, upper) - coeffs
        held[:, POSE_NUMBERS:] = torch.maximum(held[:, POSE_NUMBERS:], ((moved < lower) | (moved > upper)).double())
    return (coeffs + change[:, POSE_NUMBERS:]).clamp(lower, upper), poses + change[:, :POSE_NUMBERS]
