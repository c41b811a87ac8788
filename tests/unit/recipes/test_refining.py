"""The model of shape learnt on from photos: bends that only many lights show."""

from __future__ import annotations

from dataclasses import replace

import torch

from g2s_cli.method.morphing import Codes, Observed, begun, log_shading, slanted
from g2s_cli.method.shapes import ShapeModel, smooth_modes
from g2s_cli.scene.camera import Camera, back_project, project, to_view
from recipes.synface.refining import bent

CAMERA = Camera(32)
SIZE = CAMERA.size
RELIEF = torch.full((SIZE, SIZE), 0.98)
COUNT = 60


def pictures() -> tuple[ShapeModel, list[Observed], list[Codes], torch.Tensor]:
    """A grey plane with a ridge down its middle, which the model does not have, under sixty lights; and the ridge."""
    rng = torch.Generator().manual_seed(0)
    ticks = torch.linspace(-1, 1, SIZE)
    row, column = torch.meshgrid(ticks, ticks, indexing="ij")
    ridge = torch.zeros(SIZE, SIZE, 3)
    ridge[..., 2] = -0.004 * torch.exp(-(column.square() / 0.02 + row.square() / 0.3))
    slants = 0.6 * torch.randn(COUNT, 2, generator=rng)
    lights = torch.cat((torch.tensor([[0.4, 0.6]]).expand(COUNT, -1), slants), dim=1)
    still = back_project(RELIEF[None], CAMERA)
    shading = log_shading(slanted(still + ridge).expand(COUNT, -1, -1, -1), lights)
    logs = (shading - 0.7).expand(-1, 3, -1, -1)
    views = torch.zeros(COUNT, 6)
    found = project(to_view(still.expand(COUNT, -1, -1, -1), views, CAMERA), CAMERA)
    seen = Observed(logs, RELIEF, views, lights, found, torch.ones(COUNT, SIZE, SIZE))
    blank = torch.zeros(3, SIZE, SIZE)
    model = ShapeModel(
        torch.zeros(SIZE, SIZE, 3),
        torch.zeros(SIZE, SIZE, 3, 1),
        blank - 0.7,
        blank[..., None],
        blank + 1e-3,
        torch.stack((lights.mean(dim=0), torch.ones(4))),
    )
    codes = replace(begun(model, seen), gloss=torch.full((COUNT, 1), -10.0))
    return model, [seen], [codes], ridge[..., 2]


def test_a_ridge_of_the_planes_own_colour_is_found_by_its_shading() -> None:
    model, parts, codes, ridge = pictures()
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    bend = bent(model, fine, parts, codes, CAMERA, torch.Generator().manual_seed(1))
    across = [some[:, 1:] - some[:, :-1] for some in (bend[..., 2], ridge)]
    inner = [some[6:-6, 4:-4].flatten() for some in across]
    assert torch.corrcoef(torch.stack(inner))[0, 1] > 0.85
    assert 0.5 < (inner[0] @ inner[1] / inner[1].square().sum()).item() < 1.5
    mirrored = bend.flip(1) * bend.new_tensor((-1, 1, 1))
    torch.testing.assert_close(mirrored, bend, atol=1e-6, rtol=0)  # alike in both halves, whatever the lights


def test_photos_without_weight_bend_nothing() -> None:
    model, [seen], codes, _ = pictures()
    blind = replace(seen, weights=torch.zeros_like(seen.weights))
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    bend = bent(model, fine, [blind], codes, CAMERA, torch.Generator().manual_seed(1))
    assert bend.abs().max() < 1e-6
