"""The released checkpoints to our files, and back. Every name in them is accounted for."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from osasis._version import __version__
from osasis.base import Base
from osasis.config.artefacts import registry
from osasis.config.presets import RELEASE
from osasis.config.tables import from_table
from osasis.device import shapes_only
from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path
from osasis.formats.base_file import save_base
from osasis.formats.huggingface import check_room
from osasis.formats.style_file import Style, StyleManifest
from osasis.hub import convert
from osasis.hub.unpickle import unpickle
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import EncoderConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.spn import new_spn
from osasis.models.state import differences, load_strict, shapes_of
from osasis.models.unet import UNet, UNetConfig
from osasis.stylize.model import student as student_of

Shapes = dict[str, tuple[int, ...]]
STATE = "state_dict/"
EMA = "ema_model."
TRAINED = "model."
STATISTICS = ("conds_mean", "conds_std")
# what the released configurations set; everything else in ours is ours
SIZES = {
    "image_size", "channels", "channel_mult", "num_res_blocks", "attention_resolutions",
    "time_dim", "z_dim", "dropout",
}  # fmt: skip
DDPM_SIZES = {"out_channels", "head_channels"}
# what a trainer keeps beside the weights, of no use afterwards
BOOKKEEPING = ("optimizer_states/", "lr_schedulers/", "callbacks/", "loops/", "hyper_parameters/")
LISTED = 10  # names of each kind in a list of differences
SAME = 2e-3  # largest relative difference at which two networks count as the same one


@dataclass(frozen=True)
class Architecture:
    """Configurations of a released family: DiffAE, latent DPM, unconditional DDPM."""

    diffae: DiffAEConfig
    latent: LatentNetConfig
    ddpm: UNetConfig

    def diffae_shapes(self) -> Shapes:
        """Every released name of the DiffAE with its latent network, as in `ema_model.`."""
        with shapes_only():
            ours = shapes_of(DiffAE(self.diffae).state_dict())
            latent = shapes_of(LatentNet(self.latent).state_dict())
        released = convert.diffae_to_released(ours)
        return released | convert.latent_net_to_released(latent, self.latent.num_layers)

    def ddpm_shapes(self) -> Shapes:
        """Every released name of the DDPM."""
        with shapes_only():
            return convert.ddpm_to_released(shapes_of(UNet(self.ddpm).state_dict()))


def architecture(name: str) -> Architecture:
    """A released family by its name in the registry.

    Raises:
        UserError: there is none, or its entry is wrong.
    """
    known = registry()["architectures"]
    if name not in known:
        raise UserError(f"no architecture {name!r}: there are {', '.join(known)}")
    where = f"the architecture {name!r} in the registry"
    return from_table(Architecture, known[name], where=where)


def base_bytes(family: Architecture) -> int:
    """Bytes of a converted base, float32, computed from its shapes."""
    shapes = list(family.diffae_shapes().items()) + list(family.ddpm_shapes().items())
    return sum(4 * torch.Size(s).numel() for name, s in shapes if ".linear_emb." not in name)


def build_base(
    output: Path,
    name: str,
    family: Architecture,
    checkpoint: Path,
    ddpm: Path | None,
    notes: dict[str, Any],
) -> None:
    """Convert released checkpoints to one of our bases, float32, so that nothing is lost.

    Args:
        output: safetensors file to write.
        checkpoint: DiffAE with its latent DPM (`ffhq256_autoenc_latent/last.ckpt`).
        ddpm: P2 DDPM (`ffhq_p2.pt`); without it styles can be used, but not learned.

    Raises:
        UserError: names or shapes differ from what the architecture has.
        OsasisError: a file is refused, or numbers in it are not finite.
    """
    check_room(output.parent, base_bytes(family))
    diffae, latent, statistics = _read_diffae(checkpoint, family)
    network = None if ddpm is None else _read_ddpm(ddpm, family)
    save_base(
        output,
        name,
        diffae,
        latent,
        *statistics,
        ddpm=network,
        notes=notes,
        dtype=torch.float32,
    )


def _account(expected: Shapes, got: Shapes, path: Path, what: str) -> None:
    found = differences(expected, got, LISTED)
    if found:
        raise UserError(f"{path.name} is not {what}: {found}")


def _tensors(file: Path, prefix: str) -> dict[str, Tensor]:
    """Float32 tensors behind `prefix`, without it."""
    with safe_open(file, framework="pt") as opened:  # type: ignore[no-untyped-call]
        names = [k for k in opened.keys() if k.startswith(prefix)]  # noqa: SIM118
        found = {k[len(prefix) :]: opened.get_tensor(k).float() for k in names}
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise OsasisError(f"{name} holds numbers that are not finite: the file is damaged")
    return found


def _read_diffae(
    path: Path, family: Architecture
) -> tuple[DiffAE, LatentNet, tuple[Tensor, Tensor]]:
    keep = (STATE + EMA, *(STATE + name for name in STATISTICS))
    with unpickle(path, keep) as read:
        expected = family.diffae_shapes()
        image = 3, family.diffae.unet.image_size, family.diffae.unet.image_size
        wanted = {f"{STATE}{p}{k}": s for p in (EMA, TRAINED) for k, s in expected.items()}
        wanted |= {STATE + name: (1, family.latent.z_dim) for name in STATISTICS}
        got = {k: s for k, s in read.names.items() if not k.startswith(BOOKKEEPING)}
        if got.get(f"{STATE}x_T", image)[1:] == image:  # pictures to draw during training
            got.pop(f"{STATE}x_T", None)
        _account(wanted, got, path, "a released DiffAE with latent DPM")
        released = _tensors(read.path, STATE + EMA)
        mean, std = (_tensors(read.path, STATE + name)[""].flatten() for name in STATISTICS)
    with shapes_only():
        diffae, latent = DiffAE(family.diffae), LatentNet(family.latent)
    load_strict(diffae, convert.diffae_from_released(released), "the DiffAE")
    layers = family.latent.num_layers
    load_strict(latent, convert.latent_net_from_released(released, layers), "the latent DPM")
    return diffae, latent, (mean, std)


def _read_ddpm(path: Path, family: Architecture) -> UNet:
    with unpickle(path) as read:
        _account(family.ddpm_shapes(), read.names, path, "a released P2 DDPM")
        released = _tensors(read.path, "")
    with shapes_only():
        network = UNet(family.ddpm)
    load_strict(network, convert.ddpm_from_released(released), "the DDPM")
    return network


def _is_plain(config: Any, sizes: set[str]) -> bool:
    """Whether a network differs from the released ones in nothing but these fields.

    Every other field has a default, which is the released network: one that is added later counts.
    """
    others = (f for f in fields(config) if f.name not in sizes)
    return all(getattr(config, f.name) == f.default for f in others)


def _released_state(base: Base) -> dict[str, Tensor]:
    """The DiffAE and latent network of a base under their released names."""
    config = base.diffae.config
    plain = _is_plain(config.unet, SIZES) and _is_plain(config, {"unet", "encoder"})
    encoder = isinstance(config.encoder, EncoderConfig) and _is_plain(config.encoder, SIZES)
    ddpm = base.ddpm is None or _is_plain(base.ddpm.config, SIZES | DDPM_SIZES)
    if not (plain and encoder and ddpm):
        raise UserError(
            f"{base.name} has another architecture than the released program, which cannot run it",
            hint="bases converted from released checkpoints can be exported",
        )
    latent = base.latent_net
    state = convert.diffae_to_released(base.diffae.state_dict())
    return state | convert.latent_net_to_released(latent.state_dict(), latent.config.num_layers)


def _save(content: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def export_base(base: Base, folder: Path) -> list[Path]:
    """Write a base as the released program reads it: `last.ckpt`, and `ffhq_p2.pt` if there is one.

    Returns:
        The files.

    Raises:
        UserError: an architecture that the released program does not know.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in _released_state(base).items()}
    both = {prefix + k: v for prefix in (TRAINED, EMA) for k, v in state.items()}
    both |= {"conds_mean": base.z_mean[None].cpu(), "conds_std": base.z_std[None].cpu()}
    files = [folder / "last.ckpt"]
    _save({"state_dict": both, "epoch": 0, "global_step": 0}, files[0])
    if base.ddpm is not None:
        released = convert.ddpm_to_released(base.ddpm.state_dict())
        files.append(folder / "ffhq_p2.pt")
        _save({k: v.cpu().contiguous() for k, v in released.items()}, files[1])
    return files


def export_style(style: Style, base: Base, path: Path) -> None:
    """Write a style as the released program's `iter_N.pt`; the optimisers' states are empty.

    Raises:
        UserError: another base than the style's, or a base or SPN the released program lacks.
    """
    if style.manifest.config.spn.channels != RELEASE.spn.channels:
        raise UserError(
            f"the SPN of this style is {style.manifest.config.spn.channels} channels wide, and "
            f"the released program's {RELEASE.spn.channels}",
            hint="learn the style with --preset release or --preset paper",
        )
    state = _released_state(base)
    student = student_of(style, base)
    state |= convert.diffae_to_released(student.diffae.state_dict())
    steps = max(1, len(style.manifest.config.learn_route.decoding()))
    empty: dict[str, Any] = {"state": {}, "param_groups": []}
    content = {
        "iter": style.manifest.updates // steps,
        "diffae_B": {k: v.detach().cpu().contiguous() for k, v in state.items()},
        "model_map": {
            k: v.cpu() for k, v in convert.spn_to_released(student.spn.state_dict()).items()
        },
        "optim_diffae_B": empty,
        "optim_map": empty,
    }
    _save(content, path)


def import_style(path: Path, base: Base, picture: Image.Image, name: str) -> Style:
    """A released style checkpoint (`iter_200.pt`) as a style of ours.

    Args:
        base: the base it was learned on; that is checked by its encoder.
        picture: the style image, which the checkpoint does not hold.

    Raises:
        UserError: it is none, it belongs to another base, or it was learned without an SPN.
        OsasisError: the file is refused.
    """
    with unpickle(path, ("diffae_B/", "model_map/")) as read:
        got = {k: s for k, s in read.names.items() if not k.startswith("optim")}
        timed = "model_map/in_layer.0.weight" in got
        if not any(k.startswith("model_map/") for k in got):
            raise UserError(f"{path.name} was learned without an SPN (--map_net), or is no style")
        settings = replace(RELEASE.spn, timed=timed)
        with shapes_only():
            spn = new_spn(settings)
        whole = shapes_of(_released_state(base))
        expected = {f"diffae_B/{k}": s for k, s in whole.items()}
        maps = convert.spn_to_released(shapes_of(spn.state_dict()))
        _account(
            expected | {f"model_map/{k}": s for k, s in maps.items()},
            got,
            path,
            f"a released style for {base.name}",
        )
        released = _tensors(read.path, "diffae_B/")
        spn_state = convert.spn_from_released(_tensors(read.path, "model_map/"))
        iterations = int(read.plain.get("iter", RELEASE.iterations))
    tensors = _changes(convert.diffae_from_released(released), base, path)
    tensors |= {f"spn.{k}": v for k, v in spn_state.items()}
    small = fit_square(picture, base.image_size)
    tensors["z_style"] = base.encode(to_tensor(small)).cpu()
    config = replace(RELEASE, iterations=iterations, spn=settings)
    levels = tuple(range(2 * base.num_levels // 3))
    manifest = StyleManifest(
        name, base.name, base.hash, config.title, 0, config.embedder, config.spn.lambda_spn, levels,
        config.updates, __version__, config, "drawn",
    )  # fmt: skip
    return Style(manifest, small, tensors)


def _changes(state: dict[str, Tensor], base: Base, path: Path) -> dict[str, Tensor]:
    """What a style changes in its base's U-Net."""
    before = {k: v.cpu() for k, v in base.diffae.state_dict().items()}
    for name in (k for k in before if k.startswith("encoder.")):
        difference = (state[name] - before[name]).norm()
        if float(difference) > SAME * float(before[name].norm()) + 1e-6:
            raise UserError(
                f"{path.name} was not learned on {base.name} ({base.hash}): their encoders differ",
                hint="give the base it was learned on with --base",
            )
    unet = (k for k in before if k.startswith("unet."))
    return {k: state[k] - before[k] for k in unet}
