"""A base model: the frozen diffusion autoencoder of the photo domain that styles start from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from osasis.device import choose_device
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.route import Route
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import LATENT_SCHEDULE, TRAIN_STEPS, TimestepGrid
from osasis.errors import UserError
from osasis.files import atomic_path
from osasis.hub.convert import load_strict, with_prefix
from osasis.hub.registry import find_base
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import EncoderConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.unet import UNetConfig

FORMAT = "osasis-base-1"


class Base:
    """A frozen DiffAE with its latent DPM.

    Attributes:
        name: name it is loaded by.
        hash: first 16 hexadecimal digits of the SHA-256 of its file; styles refer to it.
        diffae: the networks, in evaluation mode, without gradients.
        latent_net: the latent DPM's network.
        z_mean, z_std: (z_dim,) statistics that normalise z_sem for the latent DPM.
        device: where everything lies.
    """

    def __init__(
        self,
        diffae: DiffAE,
        latent_net: LatentNet,
        z_mean: Tensor,
        z_std: Tensor,
        *,
        name: str,
        file_hash: str,
        device: torch.device,
    ) -> None:
        # channels_last is the faster layout for these convolutions on CPUs and GPUs alike
        self.diffae = diffae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.diffae.eval().requires_grad_(False)
        self.latent_net = latent_net.to(device).eval().requires_grad_(False)
        self.z_mean, self.z_std = z_mean.to(device), z_std.to(device)
        self.name, self.hash, self.device = name, file_hash, device

    @property
    def image_size(self) -> int:
        """Height and width of its images in pixels."""
        return self.diffae.config.unet.image_size

    @property
    def num_levels(self) -> int:
        """Levels of its U-Net; 0 is the highest resolution."""
        return self.diffae.num_levels

    @torch.no_grad()
    def encode(self, x0: Tensor) -> Tensor:
        """Semantic codes (DiffAE Eq. 6).

        Args:
            x0: (B, 3, H, W) float32 in [-1, 1], H and W equal to `image_size`.

        Returns:
            z_sem, (B, z_dim).

        Raises:
            UserError: images of another size.
        """
        return self.diffae.encode(self._checked(x0))

    def invert(self, x0: Tensor, z_sem: Tensor, t0: int = 500, steps: int = 50) -> Tensor:
        """Structural code x_t of images at timestep `t0` (Eq. 11).

        Args:
            x0: (B, 3, H, W) in [-1, 1].
            z_sem: (B, z_dim) codes of the images.
            t0: timestep in 1 .. 1000; 1000 is the whole way.
            steps: steps of the whole schedule: 50 at t0 = 500 are 25 evaluations.
        """
        return self._walk(self._checked(x0), z_sem, self._route(t0, steps), up=True)

    def decode(self, x_t: Tensor, z_sem: Tensor, t0: int = 500, steps: int = 50) -> Tensor:
        """Images of structural codes at `t0`, the way back of `invert` (Eq. 8).

        Returns:
            (B, 3, H, W), about [-1, 1].
        """
        return self._walk(self._checked(x_t), z_sem, self._route(t0, steps), up=False)

    def sample(self, n: int, seed: int = 0, steps: int = 20, latent_steps: int = 200) -> Tensor:
        """Draw `n` photos: z_sem from the latent DPM, image from noise (METHOD 2.2).

        Image i depends on `seed + i` alone, not on `n`.

        Returns:
            (n, 3, H, W), about [-1, 1].
        """
        z_sem, noise = self.sample_codes([seed + i for i in range(n)], latent_steps)
        conditioning = self.diffae.plain(z_sem)
        return ddim(
            lambda x, t: self.diffae.eps(x, t, conditioning),
            noise,
            TimestepGrid.ddim(steps).decoding(),
        )

    def sample_codes(self, seeds: Sequence[int], latent_steps: int = 200) -> tuple[Tensor, Tensor]:
        """Draw z_sem, (n, z_dim), and x_T, (n, 3, H, W), one pair per seed (DiffAE section 3.4)."""
        z_dim = self.diffae.config.encoder.z_dim
        z_noise = SeededNoise(seeds, (z_dim,), self.device)()
        grid = TimestepGrid.ddim(latent_steps, LATENT_SCHEDULE)
        z = ddim(self.latent_net, z_noise, grid.decoding(), clip=False)
        size = self.image_size
        # another stream than z_sem's, so that the two draws of a seed are independent
        x_T = SeededNoise([s + 2**32 for s in seeds], (3, size, size), self.device)()
        return z * self.z_std + self.z_mean, x_T

    def _walk(self, x: Tensor, z_sem: Tensor, route: Route, *, up: bool) -> Tensor:
        conditioning = self.diffae.plain(z_sem.to(self.device))
        steps = route.inversion() if up else route.decoding()
        return ddim(lambda x, t: self.diffae.eps(x, t, conditioning), x, steps, clip=route.clip)

    @staticmethod
    def _route(t0: int, steps: int) -> Route:
        if not 1 <= t0 <= TRAIN_STEPS:
            raise UserError(f"t0 must lie in 1 .. {TRAIN_STEPS}, got {t0}")
        if not 1 <= steps <= TRAIN_STEPS:
            raise UserError(f"steps must lie in 1 .. {TRAIN_STEPS}, got {steps}")
        return Route(steps, steps, t0 / TRAIN_STEPS)

    def _checked(self, x: Tensor) -> Tensor:
        size = self.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise UserError(
                f"{self.name} works on tensors (B, 3, {size}, {size}), got {tuple(x.shape)}",
                hint="osasis.imaging.tensors.fit_square and to_tensor make one of a picture",
            )
        return x.to(self.device, torch.float32)


def load_base(name_or_path: str | Path = "faces-128", *, device: str | None = None) -> Base:
    """Load a base by name, or from a file written by `save_base`.

    Args:
        name_or_path: a name that `osasis models list` shows, or a path.
        device: a torch device such as "cuda:0"; None takes the best one there is.

    Raises:
        UserError: no such base, or a file that is none.
    """
    target = choose_device(device)
    path = find_base(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            manifest = json.loads((file.metadata() or {})["osasis"])
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is not an osasis base: {error}") from error
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path} has format {manifest.get('format')!r}, expected {FORMAT!r}")
    diffae = DiffAE(diffae_config_from_dict(manifest["model"]))
    load_strict(diffae, with_prefix(tensors, "diffae."), f"the network described in {path.name}")
    latent = LatentNet(LatentNetConfig(**manifest["latent_net"]))
    load_strict(latent, with_prefix(tensors, "latent_net."), f"the latent DPM of {path.name}")
    return Base(
        diffae,
        latent,
        tensors["z_mean"],
        tensors["z_std"],
        name=manifest["name"],
        file_hash=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        device=target,
    )


def save_base(
    path: Path,
    name: str,
    diffae: DiffAE,
    latent_net: LatentNet,
    z_mean: Tensor,
    z_std: Tensor,
    *,
    notes: dict[str, Any] | None = None,
) -> None:
    """Write a base as one safetensors file, float16, its configuration in the metadata."""
    tensors = {f"diffae.{k}": v for k, v in diffae.state_dict().items()}
    tensors |= {f"latent_net.{k}": v for k, v in latent_net.state_dict().items()}
    tensors |= {"z_mean": z_mean, "z_std": z_std}
    manifest = {
        "format": FORMAT,
        "name": name,
        "model": dataclasses.asdict(diffae.config),
        "latent_net": dataclasses.asdict(latent_net.config),
        "notes": notes or {},
    }
    halves = {k: v.detach().half().cpu().contiguous() for k, v in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, temporary, metadata={"osasis": json.dumps(manifest, sort_keys=True)})


def diffae_config_from_dict(raw: dict[str, Any]) -> DiffAEConfig:
    """Inverse of `dataclasses.asdict`; lists of JSON become tuples."""

    def tuples(table: dict[str, Any]) -> dict[str, Any]:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}

    rest = {k: v for k, v in raw.items() if k not in ("unet", "encoder")}
    return DiffAEConfig(
        UNetConfig(**tuples(raw["unet"])), EncoderConfig(**tuples(raw["encoder"])), **rest
    )
