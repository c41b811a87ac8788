"""What several witnesses say of a photo's depth, brought together in its relief; and what S says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import bumps, nets_around, two_eyes
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.fusion import Witness, agreeing, depth_by_sight
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth

CAMERA = Camera(32)
SIZE = CAMERA.size


MEAN = bumps(CAMERA, 1, wide=0.7, high=0.8, far=1.03, colours=two_eyes)
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")


@pytest.fixture
def nets() -> FactorNets:
    return nets_around(MEAN, CAMERA)


@pytest.fixture
def photo() -> MaskedImages:
    disc = (MEAN.depth < 1.025).float().unsqueeze(1)
    return MaskedImages(MEAN.albedo * disc, disc)


def shown_by(nets: FactorNets, photo: MaskedImages) -> Tensor:
    with torch.no_grad():
        return render_depth(nets.depth_of(photo.image), nets.view_of(photo.image), CAMERA)


@pytest.mark.parametrize("own", [True, False])
def test_depth_goes_a_share_of_the_way_to_a_second_opinion(nets: FactorNets, photo: MaskedImages, own: bool) -> None:
    """Of another tilt, with networks that have a mean shape and with ones that have none."""
    nets = nets if own else replace(nets, base=None)
    before = shown_by(nets, photo)
    ramp = torch.linspace(-0.01, 0.01, SIZE).expand(SIZE, -1)
    other = before + 0.03 + ramp  # where all of it is does not count
    inside = (photo.mask[0, 0] > 0) & (torch.arange(SIZE) > 8) & (torch.arange(SIZE) < 24)
    change = (shown_by(agreeing(nets, photo, [Witness(other, 0.5)])[0], photo) - before)[0][inside]
    wanted = 0.5 * ramp[inside]
    assert (change - wanted - (change - wanted).mean()).abs().max() < 0.4 * wanted.abs().max()
    assert torch.corrcoef(torch.stack((change, wanted)))[0, 1] > 0.97
    led = agreeing(nets, photo, [Witness(other, 0.5)])[0].depth_of(photo.image) - nets.depth_of(photo.image)
    rippled = led.detach()[0, 12:20, 12:20].diff(n=2, dim=1).abs()
    assert rippled.median() < 2e-5  # absolute differences alone would leave several times that
    still = agreeing(nets, photo, [Witness(other, 0.0)])[0]
    torch.testing.assert_close(still.depth_of(photo.image), nets.depth_of(photo.image), atol=1e-6, rtol=0)


def test_what_a_second_opinion_has_not_seen_and_says_beside_the_photo_does_not_count(
    nets: FactorNets, photo: MaskedImages
) -> None:
    before = shown_by(nets, photo)
    hill = 0.02 * torch.exp(-((COLUMN - 0.4).square() + ROW.square()) / 0.02)
    beside = torch.where(photo.mask[:, 0] * (before < VIEW_FAR) > 0, 0.0, 1.0)

    def change(depth: Tensor) -> Tensor:
        led = agreeing(nets, photo, [Witness(depth, 1.0)])[0]
        return (led.depth_of(photo.image) - nets.depth_of(photo.image)).abs()[0].detach()

    assert change(before + beside).max() < 2e-4
    assert change(before + hill)[16, 22] > 0.008
    unseen = torch.where(COLUMN > 0, VIEW_FAR, before + hill)
    assert change(unseen)[16, 22] < 0.002


def test_each_of_two_witnesses_has_its_share(nets: FactorNets, photo: MaskedImages) -> None:
    """One sees a tilt to the side, the other one up and down."""
    before = shown_by(nets, photo)
    aside, up = 0.01 * COLUMN, 0.01 * ROW
    two = [Witness(before + aside, 0.6), Witness(before + up + 0.02, 0.3)]
    inside = (photo.mask[0, 0] > 0) & (COLUMN.abs() < 0.4) & (ROW.abs() < 0.4)
    change = (shown_by(agreeing(nets, photo, two)[0], photo) - before)[0][inside]
    told = torch.stack((aside[inside], up[inside], torch.ones_like(change)), dim=1)
    shares = torch.linalg.lstsq(told, change[:, None]).solution[:2, 0]
    torch.testing.assert_close(shares, torch.tensor((0.6, 0.3)), atol=0.08, rtol=0)


def test_what_one_relief_does_not_hold_is_kept_beside_it(nets: FactorNets, photo: MaskedImages) -> None:
    """A step from one pixel to the next, which a smooth change of the relief cannot be."""
    before = shown_by(nets, photo)
    wall = 0.02 * (COLUMN > 0.1)
    led, agreed = agreeing(nets, photo, [Witness(before + wall + 0.03, 0.5)])
    generate = shown_by(led, photo)
    apart = agreed.apart(generate)
    there = agreed.there[0] > 0
    wanted = 0.5 * wall[there] + before[0][there]
    found = (generate[0] + apart)[there]
    torch.testing.assert_close(found - found.mean(), wanted - wanted.mean(), atol=1e-5, rtol=0)
    assert abs(apart[there].mean()) < 1e-6
    assert (apart[~there] == 0).all()
    beside = there & (COLUMN.abs() < 0.25)
    off = [
        (one - one.mean()).abs().mean()
        for one in (
            (generate[0] - 0.5 * wall - before[0])[beside],
            (generate[0] + apart - 0.5 * wall - before[0])[beside],
        )
    ]
    assert off[1] < 0.1 * off[0]


def test_s_is_asked_about_the_mirror_image_too(photo: MaskedImages) -> None:
    torch.manual_seed(1)
    net = DepthNet(SIZE, 8, 16)
    turned = MaskedImages(photo.image.roll(3, 3), photo.mask.roll(3, 3))
    one, other = (
        depth_by_sight(net, some) for some in (turned, MaskedImages(turned.image.flip(3), turned.mask.flip(3)))
    )
    torch.testing.assert_close(one, other.flip(2), atol=1e-6, rtol=0)
    alone = 1 + net(turned.image, turned.mask)
    assert (one - alone).abs().max() > 1e-4
    assert (one - 1).abs().max() < 0.2
