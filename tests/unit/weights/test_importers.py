"""Foreign checkpoints: recognised by their content, and read without running code that they carry."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_checkpoints
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from g2s_cli.config import PARSER_CLASSES
from g2s_cli.errors import WeightsError
from g2s_cli.files import sha256_of
from g2s_cli.gan.losses import DiscriminatorDistance, PixelPyramid
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import build_gan, build_parsing_net, read_checkpoint
from g2s_cli.weights.latent_file import LatentFile, read_latent
from g2s_cli.weights.tensors import converted_sha256, load_tensors, write_weights

GAN = fake_checkpoints.gan(16)
NETWORKS = fake_checkpoints.networks(16, width=16)


def saved(path: Path, content: Any, **options: Any) -> Path:
    path.write_bytes(fake_checkpoints.saved(content, **options))
    return path


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("part", "content", "name"),
    [
        ("gan", GAN, "g_ema.conv1.conv.weight"),
        ("networks", NETWORKS, "netEnc.network.0.weight"),
        ("views", fake_checkpoints.statistics(6), "cov"),
        ("lights", fake_checkpoints.statistics(4), "mean"),
        ("parsing", fake_checkpoints.parsing(), "cp.resnet.conv1.weight"),
        ("parsing", fake_checkpoints.parsing("pspnet-voc"), "layer0.0.weight"),
    ],
)
def test_a_file_is_recognised_by_its_content(tmp_path: Path, part: str, content: Any, name: str, old: bool) -> None:
    path = saved(tmp_path / "file.bin", content, _use_new_zipfile_serialization=not old)
    found, tensors = read_checkpoint(path)
    assert found == part
    assert name in tensors
    save_file(tensors, tmp_path / "file.safetensors")
    again, same = read_checkpoint(tmp_path / "file.safetensors")
    assert again == part
    assert all(torch.equal(same[key], tensors[key]) for key in tensors)


def test_optimisers_of_a_training_checkpoint_are_dropped(tmp_path: Path) -> None:
    _, tensors = read_checkpoint(saved(tmp_path / "a.pt", GAN))
    assert {name.split(".")[0] for name in tensors} == {"g_ema", "d"}
    with_mean = saved(tmp_path / "b.pt", GAN | {"latent_avg": torch.zeros(fake_checkpoints.LATENT)})
    assert "latent_avg" in read_checkpoint(with_mean)[1]


def test_names_of_data_parallel_training_lose_their_prefix(tmp_path: Path) -> None:
    wrapped = {part: {f"module.{name}": value for name, value in state.items()} for part, state in NETWORKS.items()}
    assert (
        read_checkpoint(saved(tmp_path / "a.pth", wrapped))[1].keys()
        == read_checkpoint(saved(tmp_path / "b", NETWORKS))[1].keys()
    )


@pytest.mark.parametrize("size", [16, 64, 256, 1024])
def test_sizes_are_read_off_the_tensors(tmp_path: Path, size: int) -> None:
    _, tensors = read_checkpoint(saved(tmp_path / "a.pt", fake_checkpoints.gan(size, latent=12)))
    generator, discriminator = build_gan(tensors)
    assert (generator.size, discriminator.size, generator.latent_size) == (size, size, 12)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 no archive", b"\x80", pickle.dumps([1, 2], protocol=2), b"\x80\x04junk"]
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"photo\.jpg"):
        read_checkpoint(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*none\.pt"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [{"d": {}}, {"g_ema": torch.zeros(1)}, [torch.zeros(1)], torch.zeros(1), {}])
def test_a_checkpoint_of_no_known_kind_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match=r"a\.pt"):
        read_checkpoint(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"g_ema": GAN["d"], "d": GAN["g_ema"]}, r"cannot be used\. .*missing"),
        ({"g_ema": None}, r"has no generator \(g_ema\)"),
        ({"d": fake_checkpoints.gan(32)["d"]}, r"generator makes 16 px, its discriminator judges 32 px"),
        ({"latent_avg": torch.zeros(fake_checkpoints.LATENT + 1)}, r"latent_avg"),
    ],
    ids=["swapped", "no g_ema", "another d", "another latent size"],
)
def test_an_inconsistent_gan_is_refused(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(saved(tmp_path / "a.pt", GAN | changes))


def test_a_generator_alone_is_a_gan_judged_by_its_pixels(tmp_path: Path) -> None:
    for content in ({"g_ema": GAN["g_ema"]}, GAN["g_ema"]):
        part, tensors = read_checkpoint(saved(tmp_path / "a.pt", content))
        generator, judge = build_gan(tensors)
        assert (part, generator.size, type(judge)) == ("gan", 16, PixelPyramid)
        images = torch.rand(2, 3, 16, 16)
        assert [maps.shape[-1] for maps in judge.features(images)] == [16, 8]
        assert DiscriminatorDistance(judge)(images, images, torch.ones(2, 1, 16, 16)) == 0
        assert DiscriminatorDistance(judge)(images, -images, torch.ones(2, 1, 16, 16)) > 0.1


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, number: float) -> None:
    broken = {name: value.clone() for name, value in GAN["d"].items()}
    broken["convs.0.0.weight"].view(-1)[3] = number
    with pytest.raises(WeightsError, match=r"damaged: d\.convs\.0\.0\.weight has numbers that are not finite"):
        read_checkpoint(saved(tmp_path / "a.pt", GAN | {"d": broken}))


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["torch", "legacy", "bare", "arguments"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, where: str) -> None:
    trap, path = Trap(tmp_path / "marker"), tmp_path / "a.pt"
    if where == "bare":
        path.write_bytes(pickle.dumps(trap))
    else:
        args = Namespace(evil=trap) if where == "arguments" else trap
        saved(path, GAN | {"args": args}, _use_new_zipfile_serialization=where != "legacy")
    with pytest.raises(WeightsError, match=r"a\.pt"):
        read_checkpoint(path)
    assert not (tmp_path / "marker").exists()
    if where == "bare":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert (tmp_path / "marker").exists(), "the trap does not work"


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(2_500_000_000)  # ten gigabytes, of one number
    path = saved(tmp_path / "a.pt", GAN | {"d": GAN["d"] | {"huge": huge}})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(WeightsError, match=r"claims more numbers for d\.huge than it holds"):
        read_checkpoint(path)


def test_many_names_for_the_same_numbers_are_refused(tmp_path: Path) -> None:
    same = torch.zeros(250_000)
    path = saved(tmp_path / "a.pt", GAN | {"d": GAN["d"] | {f"same{number}": same for number in range(10_000)}})
    assert path.stat().st_size < 10_000_000
    with pytest.raises(WeightsError, match=r"a\.pt claims more numbers than it holds"):
        read_checkpoint(path)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    plain = zipfile.ZipFile(io.BytesIO(fake_checkpoints.saved({"g_ema": {"x": torch.zeros(5_000_000)}})))
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(WeightsError, match=r"a\.pt claims 200\d+ bytes of content, more than it holds"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_wrong_byte_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    content = bytearray(fake_checkpoints.saved(GAN))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pt is damaged: the checksum"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}},
        {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
        {"x": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        "junk",
    ],
    ids=["ten gigabytes", "too small", "beyond the end", "unknown kind", "no header"],
)
def test_a_safetensors_file_with_a_lying_header_is_refused(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + text)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize("change", ["netD", "netV"])
def test_networks_of_unknown_shape_are_refused(tmp_path: Path, change: str) -> None:
    broken = NETWORKS | {change: {"network.0.weight": torch.zeros(16, 3, 4, 4)}}
    with pytest.raises(WeightsError, match=r"a\.pth cannot be used\."):
        read_checkpoint(saved(tmp_path / "a.pth", broken))


@pytest.mark.parametrize("count", [3, 5, 7])
def test_statistics_of_something_else_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(WeightsError, match=r"neither of views \(6 numbers\) nor of lights \(4\)"):
        read_checkpoint(saved(tmp_path / "a.pth", fake_checkpoints.statistics(count)))


@pytest.mark.parametrize("content", [torch.arange(8.0), torch.arange(8.0)[None], {"latent": torch.arange(8.0)}])
def test_latents_come_in_three_forms(tmp_path: Path, content: Tensor | dict[str, Tensor]) -> None:
    assert torch.equal(read_latent(LatentFile(saved(tmp_path / "w.pt", content)), 8), torch.arange(8.0))


def test_latents_are_read_from_what_g2s_writes(tmp_path: Path) -> None:
    """A result's state has one, a sample's file one a picture."""
    state, sheet = tmp_path / "state.safetensors", tmp_path / "latents.safetensors"
    save_file({"w": torch.arange(8.0), "depth": torch.zeros(4, 4)}, state)
    save_file({"w": torch.arange(24.0).view(3, 8)}, sheet)
    assert torch.equal(read_latent(LatentFile.parse(str(state)), 8), torch.arange(8.0))
    assert torch.equal(read_latent(LatentFile.parse(f"{sheet}:2"), 8), torch.arange(16.0, 24.0))
    with pytest.raises(
        WeightsError, match=r"holds 3 latents\. Name the photo's, 0 to 2, as in .*latents\.safetensors:0"
    ):
        read_latent(LatentFile.parse(sheet), 8)
    with pytest.raises(WeightsError, match=r"holds 3 latents, no row 3\."):
        read_latent(LatentFile.parse(f"{sheet}:3"), 8)
    with pytest.raises(WeightsError, match=r"holds no rows of latents\. Leave :1 out"):
        read_latent(LatentFile.parse(f"{state}:1"), 8)
    with pytest.raises(WeightsError, match=r"There is no file .*none\.safetensors"):
        read_latent(LatentFile.parse(tmp_path / "none.safetensors"), 8)
    with pytest.raises(WeightsError, match="aaa cannot be read: File name too long"):
        read_latent(LatentFile.parse("a" * 300 + ":3"), 8)
    with pytest.raises(WeightsError, match=r"is a folder\. Name its file of latents, such as .*state\.safetensors"):
        read_latent(LatentFile.parse(tmp_path), 8)
    layers = tmp_path / "layers.safetensors"
    save_file({"latent": torch.zeros(14, 8)}, layers)
    with pytest.raises(WeightsError, match=r"14 x 8: W\+"):
        read_latent(LatentFile.parse(layers), 8)
    odd = tmp_path / "w:7"
    torch.save(torch.arange(8.0), odd)
    assert LatentFile.parse(odd) == LatentFile(odd)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.zeros(14, 8), r"a latent of 14 x 8: W\+, a vector a layer.*leave --latent out"),
        (torch.zeros(1, 14, 8), r"1 x 14 x 8: W\+"),
        (torch.zeros(9), r"9 numbers; this GAN's have 8"),
        (torch.full((8,), torch.nan), "not finite"),
        ({"x": torch.zeros(8)}, "holds no latent"),
        (torch.zeros(8, dtype=torch.int64), "holds no latent"),
    ],
)
def test_unusable_latents_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        read_latent(LatentFile(saved(tmp_path / "w.pt", content)), 8)


def test_the_same_tensors_are_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    shared = torch.zeros(3)
    read = read_checkpoint(saved(tmp_path / "a.pt", GAN))[1]
    tensors = read | {"turned": torch.arange(6.0).view(2, 3).T, "one": shared, "two": shared}
    write_weights(tensors, path)
    again = load_tensors(path)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    # Under another name and in another order: the same GAN is the same file.
    other, turned = tmp_path / "b.pt", dict(reversed(read.items()))
    assert converted_sha256(other, tensors) == sha256_of(path)
    assert converted_sha256(other, turned) == converted_sha256(other, read) != sha256_of(path)
    assert converted_sha256(path, {}) == sha256_of(path)


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("g2s_cli.weights.tensors.save_file", full)
    with pytest.raises(WeightsError, match=r"a\.safetensors cannot be written"):
        write_weights(OrderedDict(x=torch.zeros(1)), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_tensors_without_numbers_of_their_own_are_refused(tmp_path: Path) -> None:
    ghost = {"mean": torch.empty(6, device="meta"), "cov": torch.empty(6, 6, device="meta")}
    with pytest.raises(WeightsError, match="in a form that g2s does not read"):
        read_checkpoint(saved(tmp_path / "a.pt", ghost))
    with pytest.raises(WeightsError, match="holds no latent"):
        read_latent(LatentFile(saved(tmp_path / "w.pt", ghost["mean"])), 6)


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(torch.complex64, "pth"), (torch.complex64, "safetensors"), (torch.float8_e4m3fn, "pth")],
)
def test_complex_and_float8_tensors_are_refused(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    tensors = {name: value.to(dtype) for name, value in fake_checkpoints.statistics(6).items()}
    path = tmp_path / f"views.{suffix}"
    (torch.save if suffix == "pth" else save_file)(tensors, path)
    with pytest.raises(WeightsError, match=rf"views\.{suffix} holds (mean|cov) in a form that g2s does not read"):
        read_checkpoint(path)


def test_inconsistent_networks_are_refused(tmp_path: Path) -> None:
    larger = fake_checkpoints.networks(32, width=16)
    with pytest.raises(WeightsError, match="are for pictures of 16, 32 px"):
        read_checkpoint(saved(tmp_path / "a.pt", NETWORKS | {"netA": larger["netA"]}))
    with pytest.raises(WeightsError, match="netL says 6 numbers; light is 4"):
        read_checkpoint(saved(tmp_path / "b.pt", NETWORKS | {"netL": NETWORKS["netV"]}))
    with pytest.raises(WeightsError, match="layers are not those"):
        read_checkpoint(saved(tmp_path / "c.pt", NETWORKS | {"netV": {"network.x.weight": torch.zeros(1, 1, 1, 1)}}))


@pytest.mark.parametrize("name", ["celeba", "bfm", "cat", "car", "horse", "church"])
@pytest.mark.parametrize("segmenter", ["bisenet", "pspnet-voc", "pspnet-ade20k"])
def test_a_category_accepts_the_parsing_network_that_it_names(name: str, segmenter: str) -> None:
    category, state = load_category(name), fake_checkpoints.parser_state(segmenter)
    if category.mask_rule.segmenter == segmenter:
        assert build_parsing_net(category, state, Path("p.pth")).classes == PARSER_CLASSES[segmenter]
    else:
        with pytest.raises(WeightsError, match=rf"p\.pth is a .* classes; masks of {name} need") as error:
            build_parsing_net(category, state, Path("p.pth"))
        assert f"g2s weights pull {name}" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("conv_out.conv_out.weight"),
        lambda state: state.update({"conv_out.conv_out.weight": torch.zeros(())}),
        lambda state: state.update({"cp.resnet.conv1.weight": torch.zeros(0, 3, 7, 7)}),
        lambda state: state.update({"cp.resnet.conv1.weight": torch.zeros(10**4, 3, 7, 7)}),
        lambda state: state.update({"cp.sp.conv1.weight": torch.zeros(1)}),
        lambda state: state.pop("cp.resnet.layer3.1.bn2.running_var"),
    ],
    ids=["no head", "a number for a head", "no width", "another width", "more than that", "less than that"],
)
def test_an_inconsistent_parsing_network_is_refused(tmp_path: Path, change: Callable) -> None:
    state = fake_checkpoints.parsing()
    change(state)
    with pytest.raises(WeightsError, match=r"a\.pth cannot be used\. These tensors are not the weights of a BiSeNet"):
        read_checkpoint(saved(tmp_path / "a.pth", state))


def test_an_unreadable_file_is_named() -> None:
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("no such file here")
    with pytest.raises(WeightsError, match="/proc/self/mem cannot be read"):
        read_checkpoint(memory)
