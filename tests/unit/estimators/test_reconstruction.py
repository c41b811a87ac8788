"""The reconstruction loss of Eq. 3: where it counts, clipped highlights, and the mirrored object."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.reconstruction import PhotoGeometry, image_loss, photo_loss
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.shading import diffuse_shading
from g2s_cli.geometry.warp import hflip


@torch.no_grad()
def test_predicted_geometry_is_that_of_the_networks(nets: FactorNets, observation: Observation) -> None:
    image = observation.image[None]
    photo = PhotoGeometry.predicted(nets, observation, symmetric=False)
    assert torch.equal(photo.depth, nets.depth_of(image))
    assert torch.equal(photo.geometry.light, nets.light_of(image))
    assert photo.mirror is None


@torch.no_grad()
def test_a_symmetric_loss_is_the_mean_over_the_object_and_its_mirror_image(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance
) -> None:
    albedo = nets.albedo_of(observation.image[None])
    plain, both = (PhotoGeometry.predicted(nets, observation, symmetric=on) for on in (False, True))
    assert both.mirror is not None
    mirrored = image_loss(both.mirror.with_albedo(hflip(albedo)), observation.batch, distance)
    own = image_loss(plain.geometry.with_albedo(albedo), observation.batch, distance)
    difference = photo_loss(both, albedo, observation, distance) - photo_loss(plain, albedo, observation, distance)
    assert abs(difference) > 1e-5
    torch.testing.assert_close(difference, (mirrored - own) / 2, atol=1e-6, rtol=0)


@torch.no_grad()
def test_with_an_empty_mask_only_smoothness_counts(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance
) -> None:
    image = observation.image[None]
    depth, light, albedo = nets.depth_of(image), nets.light_of(image), nets.albedo_of(image)
    shading = diffuse_shading(depth_to_normals(depth, nets.camera), light)
    smoothness = 0.01 * (smoothness_loss(depth) + smoothness_loss(shading))
    photo = PhotoGeometry.predicted(nets, observation, symmetric=False)
    empty = replace(observation, mask=torch.zeros_like(observation.mask))
    assert photo_loss(photo, albedo, empty, distance).item() == pytest.approx(smoothness.item())
    assert photo_loss(photo, albedo, observation, distance) > 2 * smoothness


@torch.no_grad()
@pytest.mark.parametrize(("grey", "costs"), [(1.0, False), (0.9, True)])
def test_a_rendering_cannot_be_too_bright_for_a_white_pixel(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance, grey: float, costs: bool
) -> None:
    white = replace(observation, image=torch.full_like(observation.image, grey))
    image, overexposed = white.image[None], torch.tensor([[30.0, 0.0, 0.0, 0.0]])
    photo = PhotoGeometry.of(nets.depth_of(image), nets.view_of(image), overexposed, nets, symmetric=True)
    albedo = nets.albedo_of(image)
    rendered = photo.geometry.with_albedo(albedo)
    assert rendered.image[:, :, rendered.valid[0]].amin() > 1
    smoothness = 0.01 * (smoothness_loss(photo.depth) + smoothness_loss(photo.geometry.diffuse))
    loss = photo_loss(photo, albedo, white, distance)
    assert (loss.item() > 0.1 + smoothness) == costs
    assert costs or loss.item() == pytest.approx(smoothness.item())
