"""From options to a plan, and from its files to the preset's estimators."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from torch import Tensor

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.estimators.base import DepthEstimator
from g2s_cli.estimators.depth_net import DepthNetEstimator
from g2s_cli.estimators.feedforward import FeedForward
from g2s_cli.estimators.gan2shape.cycles import GAN2Shape
from g2s_cli.estimators.morphable import MorphableEstimator
from g2s_cli.loading import Plan, Weights, load, load_gan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions

CPU = Machine(torch.device("cpu"), torch.float32)


def plan_of(preset: str, **options: object) -> Plan:
    return Plan.of(ReconstructOptions(**{"category": "synface", "preset": preset} | options))


def estimators_of(preset: str) -> list[DepthEstimator]:
    return load(plan_of(preset), CPU).estimators()


@pytest.mark.parametrize("size", [16, 64, 128])
def test_the_inversion_uses_all_blocks_of_the_discriminator(size: int, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(size)))
    gan = load_gan(Weights({}, tmp_path / "gan.pt"), CPU)
    features = gan.inversion_distance.features(torch.zeros(1, 3, size, size))
    assert [maps.shape[2] for maps in features] == [size // 2**block for block in range(1, len(features) + 1)]
    assert features[-1].shape[2] == 4


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_computes_in_bfloat16_only_natively(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default torch counts emulation as support, and asks the first GPU."""
    devices: list[object] = []
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))
    monkeypatch.setattr(torch.cuda, "device", lambda device: devices.append(device) or nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert Machine.named("cuda:1").dtype == dtype
    assert devices == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("symmetry", "sideways", "There is no symmetry 'sideways'. Choose one of: on, off, first-stage."),
        ("background", "blur", "There is no background 'blur'. Choose one of: keep, remove."),
        ("iterations", -3, "-3 iterations cannot be done. Give 0 or more."),
        ("seed", -1, "There is no seed -1. Give 0 to 18446744073709551615."),
        ("seed", 2**64, "There is no seed 18446744073709551616. Give 0 to 18446744073709551615."),
        (
            "preset",
            "magic",
            "The category portrait has no preset 'magic'. Choose one of: instant, fast, paper, ellipsoid.",
        ),
        ("crop", CropOptions(face=0), "There is no --face 0. 1 is the largest."),
        ("crop", CropOptions(crop=(0.0, 0.0, 0.0, 9.0)), "--crop 0,0,0,9 is no box."),
        ("crop", CropOptions(crop=(float("nan"), 0.0, 9.0, 9.0)), "--crop nan,0,9,9 is no box."),
    ],
)
def test_an_invalid_option_is_refused(option: str, value: object, message: str) -> None:
    options = ReconstructOptions()
    object.__setattr__(options, option, value)  # users have no type checker, as these tests do
    with pytest.raises(UsageError) as refusal:
        Plan.of(options)
    assert str(refusal.value).startswith(message)


def test_a_missing_gan_file_is_refused_first(tmp_path: Path) -> None:
    for gan in (tmp_path / "nosuch.pt", tmp_path):
        with pytest.raises(WeightsError, match=f"There is no file {gan}"):
            plan_of("instant", gan=gan)


def test_facts_have_the_presets_settings_and_survive_json() -> None:
    plan = plan_of("fast")
    settings = plan.facts["settings"]
    assert [(one["name"], one["weight"], one["iterations"]) for one in settings["estimators"]] == [
        ("feedforward", 0.0, 0),
        ("morphable", 0.4, 240),
        ("depth_net", 0.6, 0),
    ]
    assert settings.items() >= {"inversion_iterations": 50, "masked": True}.items()
    assert json.loads(json.dumps(plan.facts)) == plan.facts
    assert replace(plan, preset=replace(plan.preset, inversion_iterations=70)).facts != plan.facts
    paper = plan_of("paper").facts
    assert paper["settings"]["estimators"][0]["schedule"]["stages"] == [[500, 500, 200]]
    assert json.loads(json.dumps(paper)) == paper


@pytest.mark.parametrize(
    ("preset", "symmetry", "stated"),
    [
        ("fast", None, "on"),
        ("fast", "off", "off"),
        ("fast", "first-stage", "on"),
        ("paper", None, "first-stage"),
        ("paper", "off", "off"),
    ],
)
def test_facts_state_the_symmetry_that_is_used(preset: str, symmetry: str | None, stated: str) -> None:
    plan = plan_of(preset, symmetry=symmetry)
    assert plan.facts["symmetry"] == stated
    assert load(plan, CPU).factor_nets().symmetric == (stated != "off")


def test_a_preset_loads_its_estimators_in_order() -> None:
    assert [type(one) for one in estimators_of("instant")] == [FeedForward, DepthNetEstimator]
    assert [type(one) for one in estimators_of("fast")] == [FeedForward, MorphableEstimator, DepthNetEstimator]
    for preset in ("paper", "ellipsoid"):
        assert [type(one) for one in estimators_of(preset)] == [GAN2Shape]


@pytest.mark.slow
def test_the_embedded_template_and_morphable_model_are_of_faces() -> None:
    loaded = load(plan_of("fast"), CPU)
    [morphable] = [one for one in loaded.estimators() if isinstance(one, MorphableEstimator)]
    template, model = morphable.template, morphable.model
    assert torch.equal(template.depth, loaded.networks["mean_depth"])
    assert template.depth.shape == (64, 64)
    assert template.depth[32, 32] < template.depth[5, 32]  # the middle of a face is nearest
    assert torch.equal(template.latent, loaded.gan.generator.latent_avg)
    assert model.shape_basis.shape[:3] == model.mean.shape == (64, 64, 3)
    displacement_px = model.shape_basis.square().sum(dim=-1).sqrt() * 360
    assert 0.3 < displacement_px.mean() < 2


def without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}


def truncated_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:-1] if name.startswith("shape.") else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("preset", "change", "part"),
    [
        ("fast", lambda tensors: without(tensors, "mean_depth"), "template"),
        ("fast", lambda tensors: without(tensors, "shape."), "morphable model"),
        ("fast", truncated_model, "morphable model"),
        ("instant", lambda tensors: without(tensors, "netS."), "depth network"),
    ],
)
def test_networks_without_a_part_that_the_preset_needs_are_refused(
    preset: str, change, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors_of = Weights.tensors

    def tensors(self: Weights, part: str) -> dict[str, Tensor]:
        return change(tensors_of(self, part)) if part == "networks" else tensors_of(self, part)

    monkeypatch.setattr(Weights, "tensors", tensors)
    with pytest.raises(WeightsError, match=f"have no {part}, which this preset needs") as error:
        estimators_of(preset)
    assert "g2s weights pull synface" in str(error.value.remedy)
    assert len(estimators_of("paper")) == 1


def test_a_category_may_have_a_depth_network_of_its_own_beside_the_files_of_another() -> None:
    ours, theirs = (load(plan_of("instant", category=name), CPU) for name in ("portrait", "synface"))
    assert ours.plan.weights.files["gan"] == theirs.plan.weights.files["gan"]
    assert ours.networks.keys() > {"mean_depth", "netS.head.weight"}
    assert not any(name.startswith("netS.said") for name in ours.networks)
    networks = [
        one.network for loaded in (ours, theirs) for one in loaded.estimators() if isinstance(one, DepthNetEstimator)
    ]
    assert [network.size for network in networks] == [128, 64]
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)
