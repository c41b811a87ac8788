"""A photo registered with the mean object: flows that were planted, what is compared, and what an answer costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import bumps
from torch import Tensor

from g2s_cli.estimators import registration
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.estimators.optimize import Fit
from g2s_cli.estimators.registration import (
    PosedTemplate,
    Registered,
    ShapeTemplate,
    features,
    fit_registered,
    magnified,
    misplaced,
    misplacing,
    optical_flow,
    pose_template,
    registered,
    render_template,
    residual,
    well_inside,
)
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth
from g2s_cli.geometry.warp import grid_sample, identity_grid, warp
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter

CAMERA = Camera(32)
SIZE, LAYERS = CAMERA.size, 7
NETS = ("depth", "albedo", "view", "light")


def grid() -> Tensor:
    return identity_grid(SIZE, torch.device("cpu"))


def rng(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def generate() -> MaskedImages:
    """Two discs with a smooth texture."""
    x, y = grid().unbind(-1)
    texture = torch.stack(((9 * x + 2 * y).sin(), (8 * y).cos(), (7 * x - 6 * y).sin()), dim=1) * 0.6
    disc = ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1).float().unsqueeze(1)
    return MaskedImages((texture * disc).repeat(2, 1, 1, 1), disc.repeat(2, 1, 1, 1))


def test_a_flow_leads_back_to_where_pixels_came_from(generate: MaskedImages) -> None:
    x, y = grid().unbind(-1)
    bend = torch.stack((0.06 * (2 * y).cos(), 0.08 * (2.2 * x).sin()), dim=-1)
    planted = grid() + torch.cat((bend, -0.7 * bend))
    found = grid_sample(torch.cat((generate.image, generate.mask), dim=1), planted)
    mask = (found[:, 3:] > 0.5).float()
    led = optical_flow(MaskedImages(found[:, :3] * mask, mask), generate)
    inside = mask[:, 0] > 0
    before = ((grid() - planted).norm(dim=-1) * (SIZE - 1) / 2)[inside].mean()
    after = ((led - planted).norm(dim=-1) * (SIZE - 1) / 2)[inside].mean()
    assert before > 0.8
    assert after < 0.25


def test_light_hardly_changes_what_is_compared(generate: MaskedImages) -> None:
    """Twice the light, and light from one side."""
    x = grid()[..., 0].unsqueeze(1)
    light = (generate.image / 2 + registration.BRIGHTEN) * torch.where(generate.mask > 0, 0.7 + 0.2 * x, 1.0)
    other = MaskedImages((2 * light - 2 * registration.BRIGHTEN) * generate.mask, generate.mask)
    one, two = features(generate), features(other)
    assert (generate.image - other.image).abs().mean() > 0.1
    assert (one - two).abs().mean() < 0.15 * one.abs().mean()


def test_a_misfit_is_told_to_its_surroundings(generate: MaskedImages) -> None:
    """One pixel that differs is felt two pixels around."""
    still, holed = grid().expand(2, -1, -1, -1), generate.mask.clone()
    assert residual(generate, generate, still).abs().max() < 1e-5
    holed[:, :, 16, 16] = 0.0
    apart = residual(generate, MaskedImages(generate.image, holed), still)
    assert (apart[:, 14:19, 14:19] > 0.01).all()
    far = apart.clone()
    far[:, 5:28, 5:28] = 0  # windows of 15 px feel it, too, and then those of 5
    assert far.max() < 1e-5


def test_well_inside_lies_a_pixel_from_anything_unseen() -> None:
    mask, seen = torch.zeros(1, 1, 9, 9), torch.ones(1, 9, 9)
    mask[..., 2:7, 2:7] = 1
    expected = torch.zeros(1, 9, 9)
    expected[:, 3:6, 3:6] = 1
    assert torch.equal(well_inside(mask, seen), expected)
    seen[0, 3, 3] = VIEW_FAR
    expected[:, 3:5, 3:5] = 0  # the eight around it
    assert torch.equal(well_inside(mask, seen), expected)


def test_a_posed_relief_goes_on_beyond_the_outline(generate: MaskedImages) -> None:
    depth = torch.full((2, SIZE, SIZE), 0.98)
    depth[:, :, 20:] = VIEW_FAR
    depth[1, :12] = 0.95
    relief = PosedTemplate(generate, torch.zeros(2, 6), depth).relief
    torch.testing.assert_close(relief[0], torch.full((SIZE, SIZE), -0.02))
    torch.testing.assert_close(relief[1, :, :20], depth[1, :, :20] - 1)
    assert (relief[1, :, 20:] < -0.0199).all()


@pytest.fixture
def nets() -> FactorNets:
    torch.manual_seed(0)
    canonical = bumps(CAMERA, 1, wide=0.6, high=0.7, far=1.03, colours=lambda x, y: (x, y, x))
    base = torch.atanh((canonical.depth[0] - 1) / 0.1)
    parts = MapNet(32, 1, 8, bounded=False), MapNet(32, 3, 8, bounded=True), CodeNet(32, 6, 8), CodeNet(32, 4, 8)
    return FactorNets(*parts, CAMERA, base, torch.zeros(6), torch.zeros(4), symmetric=True)


@pytest.fixture
def mean() -> ShapeTemplate:
    """Four numbers that are the first four of six latents."""
    return ShapeTemplate(
        torch.full((SIZE, SIZE), 0.98), torch.full((6,), 0.1), torch.eye(4, 6), Segmenter(torch.eye(2), 0)
    )


class Shown:
    """A GAN of flat pictures, coloured by the first latents of each; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def __call__(self, latents: Tensor) -> MaskedImages:
        self.asked.append(latents)
        mask = torch.zeros(len(latents), 1, SIZE, SIZE)
        mask[..., 4:28, 6:26] = 1
        return MaskedImages(latents[:, 0, :3, None, None].tanh() * 0.5 * mask, mask)


def test_counterparts_have_the_mean_shape_and_their_own_colours(nets: FactorNets, mean: ShapeTemplate) -> None:
    show, latents = Shown(), torch.randn(3, 6, generator=rng())
    objects = Shown()(latents[:, None])
    render_template(objects, latents, mean, nets, LAYERS, show)
    assert len(show.asked) == registration.ROUNDS + 1
    assert torch.equal(show.asked[0][:, 0], mean.latent.expand(3, -1))
    for asked in show.asked:
        assert asked.shape == (3, LAYERS, 6)
        assert torch.equal(asked[:, 3:], latents[:, None].expand(-1, 4, -1))
        assert torch.equal(asked[:, 0], asked[:, 2])
        assert torch.equal(asked[:, 0, 4:], mean.latent[4:].expand(3, -1))  # no direction leads there


def test_a_counterpart_is_turned_until_it_looks_like_the_object(
    nets: FactorNets, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that read a picture's colours as its numbers."""

    def read(_: FactorNets, image: Tensor) -> Tensor:
        inside = (image[:, :, 16, 16] * 2).atanh()
        return torch.cat((inside[:, :2], inside[:, :2], inside[:, :2]), dim=1)

    monkeypatch.setattr(FactorNets, "view_of", read)
    monkeypatch.setattr(FactorNets, "light_of", lambda self, image: read(self, image)[:, :4])
    latents = 0.3 * torch.randn(3, 6, generator=rng())
    show, objects = Shown(), Shown()(latents[:, None])
    other = render_template(objects, latents, mean, nets, LAYERS, show)
    before = (read(nets, show(mean.latent.expand(3, LAYERS, -1)).image) - read(nets, objects.image)).abs().max()
    assert (read(nets, other.image) - read(nets, objects.image)).abs().max() < 0.02 * before

    half = read(nets, render_template(objects, latents, mean, nets, LAYERS, show, turn=0.5).image)[:, :4]
    wanted = read(nets, objects.image)[:, :4] * torch.tensor([0.5, 0.5, 1, 1])  # the light is all the object's
    assert (half[:, :2] - wanted[:, :2]).abs().max() < 0.02 * before


def test_the_relief_turns_on_where_the_gan_stopped(
    nets: FactorNets, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V says nine tenths of all turns: what it lacks is made up for, and the relief stands as the photo does."""

    def colours(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 0.6 * (9 * x).sin(), 0.6 * (8 * y).cos(), 0.5 * x

    hill = bumps(CAMERA, 1, wide=0.6, high=0.7, far=1.03, colours=colours)
    disc = (hill.depth < 1.025).float().unsqueeze(1)
    true, halfway = torch.tensor([[0.1, 0.4, 0.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.05, 0.2, 0.0, 0.0, 0.0, 0.0]])

    def seen_from(view: Tensor) -> MaskedImages:
        found, _ = warp(torch.cat((hill.albedo * disc, disc), dim=1), hill.depth, view, CAMERA)
        mask = (found[:, 3:] > 0.5).float()
        return MaskedImages(found[:, :3] * mask, mask)

    photo, other = seen_from(true), seen_from(halfway)
    rendered: list[Tensor] = []

    def read(_: FactorNets, image: Tensor) -> Tensor:
        if image is other.image:
            return halfway
        if image is photo.image:
            return 0.9 * true
        rendered.append(image)
        return 0.9 * 0.9 * true  # of the relief seen from where V says that the photo is

    monkeypatch.setattr(FactorNets, "view_of", read)
    posed = pose_template(other, photo, replace(mean, depth=hill.depth[0]), nets)
    assert len(rendered) == 1
    there = render_depth(hill.depth, 0.99 * true, CAMERA, margin=CAMERA.size // 8)
    torch.testing.assert_close(posed.depth, there)
    torch.testing.assert_close(posed.views, 0.99 * true)
    both = (posed.generate.mask * photo.mask)[0, 0] > 0
    assert both.sum() > 0.9 * photo.mask.sum()
    apart = (posed.generate.image - photo.image)[0, :, both].abs().mean()
    assert apart < 0.3 * (other.image - photo.image)[0, :, both].abs().mean()


def test_the_mean_depth_goes_where_the_photo_has_it(
    nets: FactorNets, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two views of a GAN's object, of which one is moved and smaller: so is its relief."""
    x, y = grid().unbind(-1)
    hill = 1.03 - 0.07 * (1 - (x / 0.6) ** 2 - (y / 0.7) ** 2).clamp(min=0).sqrt()
    texture = torch.stack(((9 * x).sin(), (8 * y).cos(), (7 * x - 6 * y).sin()), dim=1) * 0.6
    disc = (hill < 1.025).float().unsqueeze(1)
    view = torch.zeros(1, 6)
    generate, _ = warp(torch.cat((texture * disc, disc), dim=1), hill, view, CAMERA)
    other = MaskedImages(generate[:, :3], (generate[:, 3:] > 0.5).float())
    planted = grid() / 0.9 + torch.tensor((0.08, -0.05))
    moved = grid_sample(torch.cat((other.image, other.mask), dim=1), planted)
    mask = (moved[:, 3:] > 0.5).float()
    monkeypatch.setattr(FactorNets, "view_of", lambda _, image: torch.zeros(len(image), 6))
    hilly = replace(mean, depth=hill[0])
    found = registered(MaskedImages(moved[:, :3] * mask, mask), torch.zeros(1, 6), hilly, nets, LAYERS, lambda _: other)
    wanted = (grid_sample(hill.unsqueeze(1), planted, padding_mode="border")[:, 0] - 1) * 0.9
    inside = mask[0, 0] > 0
    apart = (found.relief[0] - wanted[0])[inside]
    assert (apart - apart.mean()).abs().mean() < 0.002
    unmoved = (hill - 1 - wanted)[0][inside]
    assert (unmoved - unmoved.mean()).abs().mean() > 0.004
    assert torch.equal(found.masks, mask)
    assert not found.relief.requires_grad


def test_what_is_smaller_than_its_counterpart_is_flatter(generate: MaskedImages) -> None:
    for scale in (0.8, 1.0, 1.25):
        ratio = magnified(grid().expand(2, -1, -1, -1) * scale, generate.mask)
        torch.testing.assert_close(ratio, torch.full((2,), scale), rtol=1e-4, atol=0)


@pytest.fixture
def asked(nets: FactorNets, generate: MaskedImages) -> Registered:
    """Faces with the depth that D says."""
    views = torch.tensor([[0.1, 0.3, 0, 0, 0, 0], [0, -0.2, 0.1, 0.01, 0, 0]])
    with torch.no_grad():
        seen = render_depth(nets.depth_of(generate.image), views, CAMERA)
    return Registered(generate.image, generate.mask, views, seen - 1, torch.zeros_like(seen))


def test_only_the_relief_costs_and_only_where_it_is_trusted(nets: FactorNets, asked: Registered) -> None:
    def cost(asked: Registered) -> list[float]:
        return [term.item() for term in misplacing(nets, asked).values()]

    assert max(cost(asked)) < 1e-4
    assert max(cost(replace(asked, relief=asked.relief + 0.02))) < 1e-3
    ramp = torch.linspace(-0.02, 0.02, SIZE)[:, None]
    assert min(cost(replace(asked, relief=asked.relief + ramp))) > 0.05
    wrong = torch.where(torch.arange(SIZE)[:, None] < SIZE // 2, 0.05 * torch.sin(torch.arange(SIZE)), 0.0)
    doubted = torch.where(torch.arange(SIZE)[:, None] < SIZE // 2 + 1, 50.0, 0.0).expand(2, -1, SIZE)
    believed = cost(replace(asked, relief=asked.relief + wrong))
    assert min(believed) > 0.1
    assert max(cost(replace(asked, relief=asked.relief + wrong, apart=doubted))) < 1e-3 * min(believed)


def test_a_wrong_answer_is_led_to_the_right_one(nets: FactorNets, asked: Registered) -> None:
    assert nets.base is not None
    shape = torch.nn.Parameter(nets.base.clone())
    with torch.no_grad():
        flatter = render_depth(replace(nets, base=0.7 * shape).depth_of(asked.images), asked.views, CAMERA)
    observation = replace(asked, relief=flatter - 1)
    adam = torch.optim.Adam([shape], lr=0.01)

    def terms() -> dict[str, Tensor]:
        return misplacing(replace(nets, base=shape), observation)

    before = terms()["place"].item()
    for _ in range(60):
        adam.zero_grad()
        torch.stack(list(terms().values())).sum().backward()
        adam.step()
    assert terms()["place"].item() < 0.5 * before


def test_the_cost_of_depth_has_the_right_gradient(asked: Registered) -> None:
    small = Registered(
        *(maps[..., 8:14, 8:14].double() if maps.ndim > 2 else maps.double() for maps in vars(asked).values())
    )
    seen = small.relief + 1 + 0.01 * torch.randn(2, 6, 6, generator=rng(), dtype=torch.float64)

    def cost(seen: Tensor) -> Tensor:
        return torch.stack(list(misplaced(seen, small).values())).sum()

    assert torch.autograd.gradcheck(cost, seen.requires_grad_())


def test_depth_is_fitted_and_goes_half_of_the_way_back(
    nets: FactorNets, asked: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only D changes, towards the depth asked for."""
    assert nets.base is not None
    with torch.no_grad():
        flat = render_depth(replace(nets, base=0.3 * nets.base).depth_of(asked.images), asked.views, CAMERA)
    observation = replace(asked, relief=flat - 1)

    def fitted(back: float) -> list[Tensor]:
        monkeypatch.setattr(registration, "BACK", back)
        for name, weights in first.items():
            for weight, was in zip(nets.parameters(name), weights, strict=True):
                weight.data.copy_(was)
        fit_registered(nets, observation, Fit(30, 2e-4, 0.0), SilentProgress())
        return [weight.detach().clone() for weight in nets.parameters("depth")]

    first = {name: [weight.detach().clone() for weight in nets.parameters(name)] for name in NETS}
    before = misplacing(nets, observation)["place"].item()
    far, half = fitted(0.0), fitted(0.5)
    assert misplacing(nets, observation)["place"].item() < 0.95 * before
    for was, end, middle in zip(first["depth"], far, half, strict=True):
        torch.testing.assert_close(middle, (was + end) / 2)
    for name in NETS[1:]:
        assert all(torch.equal(*pair) for pair in zip(first[name], nets.parameters(name), strict=True))
