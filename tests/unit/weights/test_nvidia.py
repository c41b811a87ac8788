"""NVIDIA's pickles: read without running code that they carry.

The expected outputs are those of the original code, run once with the weights of `fake_checkpoints.nvidia`.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_checkpoints.nvidia import (
    NETWORKS,
    TINY,
    Call,
    EasyDict,
    Net,
    Pickled,
    State,
    TFNetwork,
    discriminator,
    fake_tensor,
    generator,
    install_modules,
    reconstruct,
    saved,
    storage_of,
    tiny,
)

from g2s_cli.errors import WeightsError
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.weights.importers import build_gan
from g2s_cli.weights.nvidia import read_nvidia
from g2s_cli.weights.tensors import submodule_state

DATA = Path(__file__).parents[2] / "data" / "nvidia_stylegan2.npz"


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    install_modules(monkeypatch)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[tuple[str, State, State]]:
    widths, latent, depth = NETWORKS[request.param]
    yield request.param, generator(widths, latent, depth), discriminator(widths)


def test_the_networks_compute_what_the_originals_do(tmp_path: Path, network: tuple[str, State, State]) -> None:
    name, g, d = network
    widths, latent, depth = NETWORKS[name]
    content = {"training_set_kwargs": EasyDict(), "G": Net({}), "D": Net(d), "G_ema": Net(g), "augment_pipe": None}
    tensors = read_nvidia(saved(tmp_path / "a.pkl", content))
    with np.load(DATA) as arrays:
        expected = {part: torch.from_numpy(arrays[f"{name}.{part}"]) for part in ("w", "image", "logit")}

    net = Generator(submodule_state(tensors, "g_ema"), tensors["latent_avg"])
    assert (net.size, net.latent_size, net.mapping.depth) == (2 << len(widths), latent, depth)
    assert torch.equal(net.latent_avg, g["mapping.w_avg"])
    torch.testing.assert_close(net.mapping(fake_tensor("z", 3, latent)), expected["w"], rtol=0, atol=1e-4)
    # Their layers: one latent each.
    latents = fake_tensor("latents", 2, 2 * len(widths), latent)
    torch.testing.assert_close(net(latents), expected["image"], rtol=0, atol=1e-4)
    images = fake_tensor("images", 4, 3, net.size, net.size)
    torch.testing.assert_close(
        Discriminator(submodule_state(tensors, "d"))(images), expected["logit"], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_are_float32_whatever_else_the_file_holds(tmp_path: Path, protocol: int) -> None:
    extras = EasyDict(
        path="faces.zip",
        number=np.float64(2.0),
        array=np.arange(3),
        dtype=torch.float32,
        device=torch.device("cpu"),
        size=torch.Size([2]),
        inner=EasyDict(xflip=True),
    )
    plain = read_nvidia(saved(tmp_path / "a.pkl", tiny()))
    halved = {name: value.half() for name, value in generator(*TINY).items()}
    content = tiny(training_set_kwargs=extras, G_ema=Net(halved))
    tensors = read_nvidia(saved(tmp_path / "b.pkl", content, protocol))
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert tensors.keys() == plain.keys()
    torch.testing.assert_close(tensors, plain, rtol=1e-3, atol=1e-3)


def test_strides_are_respected(tmp_path: Path) -> None:
    state = {name: value.mT.contiguous().mT if value.ndim > 1 else value for name, value in generator(*TINY).items()}
    sliced = state | {"synthesis.b4.const": torch.cat((torch.ones(1, 4, 4), state["synthesis.b4.const"]))[1:]}
    plain = read_nvidia(saved(tmp_path / "a.pkl", tiny()))
    tensors = read_nvidia(saved(tmp_path / "b.pkl", tiny(G_ema=Net(sliced))))
    assert all(torch.equal(tensors[name], plain[name]) for name in plain)
    assert all(value.is_contiguous() for value in tensors.values())


def test_frozen_layers_are_read(tmp_path: Path) -> None:
    plain = read_nvidia(saved(tmp_path / "a.pkl", tiny()))
    tensors = read_nvidia(saved(tmp_path / "b.pkl", tiny(D=Net(discriminator(TINY[0]), frozen=True))))
    assert all(torch.equal(tensors[name], plain[name]) for name in plain)


def test_a_generator_alone_without_noise_or_mean_is_read(tmp_path: Path) -> None:
    state = {name: value for name, value in generator(*TINY).items() if "noise" not in name and "w_avg" not in name}
    tensors = read_nvidia(saved(tmp_path / "a.pkl", {"G_ema": Net(state)}))
    assert all(name.startswith("g_ema.") and "noise" not in name for name in tensors)
    assert Generator(submodule_state(tensors, "g_ema")).size == 8


@pytest.mark.parametrize("network", ["D", "G_ema"])
def test_a_source_in_the_file_is_not_run(tmp_path: Path, network: str) -> None:
    marker = tmp_path / "marker"
    state = generator(*TINY) if network == "G_ema" else discriminator(TINY[0])
    path = saved(tmp_path / "a.pkl", tiny(**{network: Net(state, f"open({str(marker)!r}, 'w').close()")}))
    read_nvidia(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the trap does not work"


@pytest.mark.parametrize("where", ["training_set_kwargs", "G_ema"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, rf"{os.name}\.system"), (Path.touch, r"pathlib\S*touch"), (eval, "builtins.eval")],
)
def test_a_call_in_the_file_is_refused_and_not_made(
    tmp_path: Path, where: str, function: Callable[..., Any], name: str
) -> None:
    marker = tmp_path / "marker"
    argument = {os.system: f"touch {marker}", Path.touch: marker, eval: f"open({str(marker)!r}, 'w').close()"}[function]
    trap = Call(function, argument)
    content = tiny(**{where: Net({"mapping.fc0.weight": trap}) if where == "G_ema" else trap})
    path = saved(tmp_path / "a.pkl", content)
    with pytest.raises(WeightsError, match=rf"a\.pkl names {name}"):
        read_nvidia(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the trap does not work"


def test_code_in_a_storage_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    storage = Pickled(storage_of(Call(Path.touch, marker)))
    view = Call(torch._utils._rebuild_tensor_v2, storage, 0, (4,), (1,), False, {})
    path = saved(tmp_path / "a.pkl", tiny(G_ema=Net(generator(*TINY) | {"mapping.fc0.bias": view})))
    with pytest.raises(WeightsError, match=r"a\.pkl cannot be read"):
        read_nvidia(path)
    assert not marker.exists()


FOUR = Pickled(storage_of(torch.arange(4.0)._typed_storage()))
MORE, SHAPE, FLOATS = "declares more numbers", "has no usable shape", "has no storage of floating-point"


@pytest.mark.parametrize(
    ("storage", "offset", "size", "stride", "how"),
    [
        (FOUR, 0, (4,), (2,), MORE),
        (FOUR, 1, (4,), (1,), MORE),
        (FOUR, -1, (4,), (1,), MORE),
        (FOUR, 0, (4,), (1, 1), MORE),
        (FOUR, 0.0, (4,), (1,), MORE),
        (FOUR, 0, (10**6,), (0,), MORE),  # repeats its storage
        *((FOUR, 0, size, (1,), SHAPE) for size in ((-4,), [4], ("4",), (0,), (True,), None)),
        (None, 0, (4,), (1,), FLOATS),
        (Pickled(storage_of(torch.arange(4)._typed_storage())), 0, (4,), (1,), FLOATS),
        (Pickled(storage_of({"no": "storage"})), 0, (4,), (1,), FLOATS),
        (
            Pickled(storage_of(torch.zeros(4)._typed_storage(), _use_new_zipfile_serialization=True)),
            0,
            (4,),
            (1,),
            FLOATS,
        ),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(
    tmp_path: Path, storage: Any, offset: Any, size: Any, stride: Any, how: str
) -> None:
    view = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    path = saved(tmp_path / "a.pkl", tiny(G_ema=Net(generator(*TINY) | {"mapping.fc0.bias": view})))
    with pytest.raises(WeightsError, match=rf"damaged: G_ema\.mapping\.fc0\.bias {how}"):
        read_nvidia(path)


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("part", ["G_ema", "D"])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, part: str, number: float) -> None:
    state = generator(*TINY) if part == "G_ema" else discriminator(TINY[0])
    name = "synthesis.b8.conv0.bias" if part == "G_ema" else "b8.fromrgb.bias"
    broken = torch.full_like(state[name], number, dtype=torch.float64)
    path = saved(tmp_path / "a.pkl", tiny(**{part: Net(state | {name: broken})}))
    with pytest.raises(WeightsError, match=rf"damaged: {part}\.{name} has numbers that are not finite"):
        read_nvidia(path)


def test_a_tensorflow_pickle_has_its_own_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pkl", (TFNetwork(), TFNetwork(), TFNetwork()))
    with pytest.raises(WeightsError, match=r"a\.pkl is a TensorFlow pickle\. Convert it with legacy\.py"):
        read_nvidia(path)


@pytest.mark.parametrize(
    ("part", "net"),
    [
        ("G_ema", Net(generator(*TINY), settings={"c_dim": 10})),
        ("G_ema.mapping", Net(generator(*TINY) | {"mapping.embed.weight": torch.ones(4, 10)})),
        ("D", Net(discriminator(TINY[0]), settings={"c_dim": 10})),
        ("D", Net(discriminator(TINY[0]) | {"mapping.embed.weight": torch.ones(4, 10)})),
    ],
)
def test_a_conditional_network_is_refused(tmp_path: Path, part: str, net: Net) -> None:
    path = saved(tmp_path / "a.pkl", tiny(**{part.partition(".")[0]: net}))
    with pytest.raises(WeightsError, match=rf"a\.pkl holds a conditional network: {part} takes class labels"):
        read_nvidia(path)


@pytest.mark.parametrize("name", ["synthesis.input.weight", "synthesis.L0_36_512.weight"])
def test_a_stylegan3_generator_is_refused(tmp_path: Path, name: str) -> None:
    mapping = {name: value for name, value in generator(*TINY).items() if name.startswith("mapping.")}
    path = saved(tmp_path / "a.pkl", tiny(G_ema=Net(mapping | {name: torch.ones(3, 3)})))
    with pytest.raises(WeightsError, match=r"a\.pkl holds a StyleGAN3 generator"):
        read_nvidia(path)


def test_a_discriminator_without_residual_blocks_is_refused(tmp_path: Path) -> None:
    state = {name: value for name, value in discriminator(TINY[0]).items() if ".skip." not in name}
    path = saved(tmp_path / "a.pkl", tiny(D=Net(state)))
    with pytest.raises(WeightsError, match=r"a\.pkl holds a discriminator without residual blocks"):
        read_nvidia(path)


def test_a_mapping_network_that_learned_at_another_rate_is_refused(tmp_path: Path) -> None:
    mapping = Net({}, settings={"_modules": {"fc0": Net({"bias": torch.ones(4)}, settings={"bias_gain": 1})}})
    net = Net({}, settings={"_modules": {"mapping": mapping, "synthesis": Net({})}})
    path = saved(tmp_path / "a.pkl", tiny(G_ema=net))
    with pytest.raises(WeightsError, match=r"G_ema\.mapping\.fc0 has the learning-rate multiplier 1, not 0\.01"):
        read_nvidia(path)


@pytest.mark.parametrize(
    ("extra", "how"),
    [
        ("synthesis.b8.skip.weight", r"G_ema\.synthesis\.b8, a Net, lacks or adds the modules skip"),
        ("synthesis.b32.const", r"G_ema\.synthesis, a Net, lacks or adds the modules b16, b32"),
        ("mapping.fc2.weight", r"G_ema\.mapping, a Net, lacks or adds the modules fc1, fc2"),
        ("encoder.weight", r"G_ema, a Net, lacks or adds the modules encoder"),
    ],
)
def test_an_unknown_module_is_refused(tmp_path: Path, extra: str, how: str) -> None:
    path = saved(tmp_path / "a.pkl", tiny(G_ema=Net(generator(*TINY) | {extra: torch.ones(1)})))
    with pytest.raises(WeightsError, match=how):
        read_nvidia(path)


# Not used: filters where nothing is resampled.
UNUSED = [
    "synthesis.b4.resample_filter",
    *(f"synthesis.b{size}.conv1.resample_filter" for size in (4, 8)),
    *("b8.resample_filter", "b8.fromrgb.resample_filter", "b8.conv0.resample_filter", "b4.conv.resample_filter"),
]
OPTIONAL = ["mapping.w_avg", *(f"synthesis.{conv}.noise_const" for conv in ("b4.conv1", "b8.conv0", "b8.conv1"))]


@pytest.mark.parametrize("part", ["D", pytest.param("G_ema", marks=pytest.mark.slow)])
def test_a_missing_tensor_and_one_of_another_shape_are_refused(tmp_path: Path, part: str) -> None:
    state = generator(*TINY) if part == "G_ema" else discriminator(TINY[0])

    def read(changed: State) -> None:
        build_gan(read_nvidia(saved(tmp_path / "a.pkl", tiny(**{part: Net(changed)}))))

    read(state)
    for name in state.keys() - set(UNUSED):
        if name not in OPTIONAL:
            with pytest.raises(WeightsError, match=r"a\.pkl is not a StyleGAN2 as we know it"):
                read({other: value for other, value in state.items() if other != name})
        wider = torch.cat([state[name].view(1, -1).expand(2, -1)] * 2)
        for value in (wider,) if name == "mapping.w_avg" else (state[name][None], wider):
            with pytest.raises(
                WeightsError, match=r"not a StyleGAN2 in the rosinality layout|latent_avg has 16 numbers"
            ):
                read(state | {name: value})


@pytest.mark.parametrize("content", [None, [], {}, {"G": Net({})}, {"G_ema": None}, {"G_ema": {"w": torch.ones(1)}}])
def test_a_file_without_a_generator_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match=r"a\.pkl has no G_ema network"):
        read_nvidia(saved(tmp_path / "a.pkl", content))


@pytest.mark.parametrize("state", [None, [], {"_modules": None}, {"_modules": {"mapping": 1}}, {"_modules": {1: 2}}])
def test_a_network_of_odd_parts_is_refused(tmp_path: Path, state: Any) -> None:
    odd = Call(reconstruct, {"type": "class", "module_src": "", "class_name": None, "state": state})
    with pytest.raises(WeightsError, match=r"a\.pkl is not a StyleGAN2 as we know it"):
        read_nvidia(saved(tmp_path / "a.pkl", tiny(G_ema=odd)))


REFERENCE_OUTSIDE = b"\x80\x04\x8c\x01xQ."


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 an archive", b"\x80\x04N", b"\xff" * 99, REFERENCE_OUTSIDE]
)
def test_a_file_that_is_no_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"photo\.jpg cannot be read as a pickle of networks"):
        read_nvidia(path)


def test_a_torch_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    torch.save({"g_ema": {}}, tmp_path / "a.pt")
    for name in ("a.pt", "none.pkl"):
        with pytest.raises(WeightsError, match=rf"{name} cannot be read"):
            read_nvidia(tmp_path / name)


def test_a_file_cannot_change_the_stand_ins(tmp_path: Path) -> None:
    """Its opcode BUILD, with a pair, sets attributes on anything, the class of all tensors among it."""
    change = b"ctorch._utils\n_rebuild_tensor_v2\n(N}(X\x08\x00\x00\x00__init__ccollections\nOrderedDict\nutb."
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02" + change)
    with pytest.raises(WeightsError, match="has no G_ema network"):
        read_nvidia(path)
    assert read_nvidia(saved(tmp_path / "b.pkl", tiny()))


def test_an_object_with_a_large_number_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04Nr\xff\xff\xff\xff.")
    with pytest.raises(WeightsError, match="has no G_ema network"):
        read_nvidia(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("count", [15, pytest.param(100, marks=pytest.mark.slow)])
def test_a_cut_or_changed_file_raises_no_other_error(tmp_path: Path, count: int) -> None:
    whole = saved(tmp_path / "a.pkl", tiny(G=None)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.pkl"
    for crop_photo in rng.integers(0, len(whole), count):
        path.write_bytes(whole[:crop_photo])
        with pytest.raises(WeightsError, match=r"b\.pkl"):
            read_nvidia(path)
    refused = 0
    for place, byte in zip(rng.integers(0, len(whole), 3 * count), rng.integers(0, 256, 3 * count), strict=True):
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        try:
            read_nvidia(path)
        except WeightsError as refusal:
            refused += 1
            assert "b.pkl" in refusal.what
            assert "\n" not in str(refusal)
    assert refused > count / 5
