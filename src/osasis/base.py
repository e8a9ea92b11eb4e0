"""A base model: the frozen diffusion autoencoder of the photo domain that styles start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin
from torch import Tensor

from osasis.config.catalogue import find_base
from osasis.device import choose_device
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.route import Route
from osasis.diffusion.sample import EpsModel, ddim, follow
from osasis.diffusion.schedule import LATENT_SCHEDULE, TRAIN_STEPS, TimestepGrid
from osasis.errors import UserError
from osasis.files import sha256
from osasis.formats.base_file import read_base
from osasis.formats.card import base_card, find_published, names_repository, write_folder
from osasis.imaging.squares import FACES, Canvas
from osasis.models.autoencoder import FACTOR, Autoencoder
from osasis.models.diffae import DiffAE, invert
from osasis.models.latent_net import LatentNet
from osasis.models.regions import RegionNet
from osasis.models.unet import UNet


class Base(ModelHubMixin, library_name="osasis", tags=["osasis", "osasis-base"]):
    """A frozen DiffAE with its latent DPM.

    `save_pretrained`, `from_pretrained` and `push_to_hub` come from huggingface_hub; a published
    folder holds the base's own file, so that its hash, and the styles bound to it, stay valid.

    Attributes:
        name: name it is loaded by.
        domain: what it draws, "faces" or another word; empty where its file does not say.
        hash: first 16 hexadecimal digits of the SHA-256 of its file; styles refer to it.
        diffae: the networks, in evaluation mode, without gradients.
        latent_net: the latent DPM's network.
        z_mean, z_std: (z_dim,) statistics that normalise z_sem for the latent DPM.
        directions: (z_dim,) vectors by attribute name, such as "smiling": z_sem plus one of them
            goes from the mean of the photos without the attribute to the mean of those with it,
            along the normal of a linear classifier. Empty where the base has none.
        device: where everything lies.
        ddpm: an unconditional U-Net for the bridge (the released P2 DDPM); None where the DiffAE
            has a null code instead.
        path: the file it was loaded from.
        autoencoder: of a base in latents, whose x0 is a normalised latent; None where x0 is the
            picture itself.
        regions: which part of a face each place of a latent shows; None where the base has none.
    """

    # set, so that the mixin does not make one up from the arguments
    _hub_mixin_config: Any = {"library": "osasis"}

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
        directions: Mapping[str, Tensor] | None = None,
        domain: str = "",
        ddpm: UNet | None = None,
        path: Path | None = None,
        autoencoder: Autoencoder | None = None,
        regions: RegionNet | None = None,
    ) -> None:
        # channels_last is the faster layout for these convolutions on CPUs and GPUs alike
        self.diffae = diffae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.diffae.eval().requires_grad_(False)
        self.latent_net = latent_net.to(device).eval().requires_grad_(False)
        self.z_mean, self.z_std = z_mean.to(device), z_std.to(device)
        self.directions = {k: v.to(device) for k, v in (directions or {}).items()}
        self.domain = domain
        self.ddpm = ddpm
        if ddpm is not None:
            self.ddpm = ddpm.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.ddpm.eval().requires_grad_(False)
        self.autoencoder, self.regions = autoencoder, regions
        for part in (autoencoder, regions):
            if part is not None:
                part.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                part.eval().requires_grad_(False)
        self.name, self.hash, self.device, self.path = name, file_hash, device, path

    def __repr__(self) -> str:
        unet = self.diffae.unet
        weights = sum(p.numel() for p in self.diffae.parameters())
        channels, height, width = self.x0_shape
        where = "pixels" if self.in_pixels else f"latents of {channels} x {height} x {width}"
        return "\n".join(
            (
                f"Base {self.name!r} ({self.hash})",
                f"  draws: {self.domain or 'pictures'} of {self.image_size} x {self.image_size}",
                f"  works on: {where}",
                f"  U-Net and encoder: {weights:,} weights, {self.num_levels} levels",
                f"  codes: {self.z_mean.numel()} numbers",
                f"  regions: {'yes' if self.regions is not None else 'no'}",
                f"  directions: {', '.join(sorted(self.directions)) or 'none'}",
                f"  device: {self.device}, {next(unet.parameters()).dtype}",
                f"  file: {self.path}",
            )
        )

    @property
    def image_size(self) -> int:
        """Height and width of its pictures in pixels."""
        return self.diffae.config.unet.image_size * self.factor

    @property
    def factor(self) -> int:
        """Pixels along a side of one place of x0: 1 without an autoencoder."""
        return FACTOR if self.autoencoder is not None else 1

    @property
    def in_pixels(self) -> bool:
        """Whether x0 is the picture itself, in [-1, 1]."""
        return self.autoencoder is None

    @property
    def x0_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of x0."""
        unet = self.diffae.config.unet
        return unet.in_channels, unet.image_size, unet.image_size

    @property
    def canvas(self) -> Canvas:
        """What of photos it redraws."""
        return Canvas(self.image_size, self.stride, self.domain == FACES, self.in_pixels)

    @property
    def num_levels(self) -> int:
        """Levels of its U-Net; 0 is the highest resolution."""
        return self.diffae.num_levels

    @property
    def stride(self) -> int:
        """What height and width of other pictures than its own must be multiples of."""
        return self.factor * self.diffae.config.unet.patch_size * 2 ** (self.num_levels - 1)

    @torch.no_grad()
    def to_x0(self, pictures: Tensor) -> Tensor:
        """x0 of pictures (B, 3, H, W) in [-1, 1]: their latents, or the pictures themselves."""
        if self.autoencoder is None:
            return pictures.to(self.device)
        x0 = self.autoencoder.encode(pictures.to(self.device))
        return x0.contiguous(memory_format=torch.channels_last)

    def to_picture(self, x0: Tensor) -> Tensor:
        """Pictures of x0 (B, C, h, w), about [-1, 1]; gradients flow."""
        return x0 if self.autoencoder is None else self.autoencoder.decode(x0)

    @torch.no_grad()
    def region_maps(self, x0: Tensor) -> Tensor:
        """Shares of the regions of a face at each place of x0 (B, C, h, w).

        Returns:
            (B, R, 2h, 2w); or one region everywhere, (B, 1, h, w), on a base without regions.
        """
        if self.regions is None:
            return torch.ones_like(x0[:, :1])
        return self.regions(x0).softmax(1)

    def usual_regions(self) -> Tensor:
        """(R, C) mean latents of regions, see `RegionNet`; (1, C) zeros without regions."""
        if self.regions is None:
            return torch.zeros(1, self.x0_shape[0], device=self.device)
        return self.regions.usual

    def encode_x0(self, x0: Tensor) -> Tensor:
        """z_sem, (B, z_dim), of x0 of the base's size."""
        with torch.no_grad():
            return self.diffae.encode(x0)

    def squeeze(self, x0: Tensor) -> Tensor:
        """x0 (B, C, H, W) of any shape, resized to the base's (bicubic, antialiased)."""
        size = self.x0_shape[1:]
        if tuple(x0.shape[2:]) == size:
            return x0
        resized = F.interpolate(x0, size, mode="bicubic", antialias=True)
        return resized.clamp(-1, 1) if self.in_pixels else resized

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
        return self.encode_x0(self.to_x0(self._checked(x0)))

    def unconditional(self) -> tuple[EpsModel, bool]:
        """The unconditional DDPM of the bridge, and whether it also predicts its variance.

        Raises:
            UserError: the base has neither a DDPM nor a null code.
        """
        if self.ddpm is not None:
            return self.ddpm, self.ddpm.config.out_channels == 6
        if not self.diffae.config.null_code:
            raise UserError(
                f"{self.name} has no unconditional DDPM, which learning a style needs",
                hint="convert it again together with ffhq_p2.pt",
            )
        conditioning = self.diffae.null(1)
        return lambda x, t: self.diffae.eps(x, t, conditioning), False

    def invert(self, x0: Tensor, z_sem: Tensor, t0: int = 500, steps: int = 50) -> Tensor:
        """Structural code x_t of images at timestep `t0` (Eq. 11).

        Args:
            x0: (B, 3, H, W) pictures in [-1, 1].
            z_sem: (B, z_dim) codes of the images.
            t0: timestep in 1 .. 1000; 1000 is the whole way.
            steps: steps of the whole schedule: 50 at t0 = 500 are 25 evaluations.
        """
        return self._walk(self.to_x0(self._checked(x0)), z_sem, self._route(t0, steps), up=True)

    def decode(self, x_t: Tensor, z_sem: Tensor, t0: int = 500, steps: int = 50) -> Tensor:
        """Images of structural codes at `t0`, the way back of `invert` (Eq. 8).

        Returns:
            (B, 3, H, W), about [-1, 1].
        """
        if tuple(x_t.shape[1:]) != self.x0_shape:
            shape = ", ".join(map(str, self.x0_shape))
            raise UserError(f"x_t of {self.name} are (B, {shape}), got {tuple(x_t.shape)}")
        x = x_t.to(self.device, torch.float32)
        with torch.no_grad():
            return self.to_picture(self._walk(x, z_sem, self._route(t0, steps), up=False))

    def sample(self, n: int, seed: int = 0, steps: int = 20, latent_steps: int = 200) -> Tensor:
        """Draw `n` photos: z_sem from the latent DPM, image from noise.

        Image i depends on `seed + i` alone, not on `n`.

        Returns:
            (n, 3, H, W), about [-1, 1].
        """
        with torch.no_grad():
            return self.to_picture(
                self.sample_x0([seed + i for i in range(n)], steps, latent_steps)
            )

    def sample_x0(self, seeds: Sequence[int], steps: int = 20, latent_steps: int = 200) -> Tensor:
        """As `sample`, the x0 of one photo per seed; pictures are in [-1, 1]."""
        z_sem, noise = self.sample_codes(seeds, latent_steps)
        conditioning = self.diffae.plain(z_sem)
        x0 = ddim(
            lambda x, t: self.diffae.eps(x, t, conditioning),
            noise,
            TimestepGrid.ddim(steps).decoding(),
            clip=self.in_pixels,
        )
        return x0.clamp(-1, 1) if self.in_pixels else x0

    def sample_codes(self, seeds: Sequence[int], latent_steps: int = 200) -> tuple[Tensor, Tensor]:
        """Draw z_sem, (n, z_dim), and x_T, one pair per seed (DiffAE section 3.4)."""
        z_dim = self.diffae.config.encoder.z_dim
        z_noise = SeededNoise(seeds, (z_dim,), self.device)()
        grid = TimestepGrid.ddim(latent_steps, LATENT_SCHEDULE)
        z = ddim(self.latent_net, z_noise, grid.decoding(), clip=False)
        # another stream than z_sem's, so that the two draws of a seed are independent
        x_T = SeededNoise([s + 2**32 for s in seeds], self.x0_shape, self.device)()
        return z * self.z_std + self.z_mean, x_T

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.path is None:
            raise UserError(f"{self.name} was not loaded from a file: use save_base first")
        write_folder(save_directory, self.path, base_card(self.path))

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, base: str | Path, *, device: str | None = None, **options: Any
    ) -> Base:
        """A base by its name, file or folder, or from a repository of the Hugging Face hub.

        Args:
            device: a torch device such as "cuda:0"; None takes the best one there is.
            options: of the repository, such as "revision" and "local_files_only".

        Raises:
            UserError: no such base, or a file that is none.
        """
        if not names_repository(base):
            return load_base(base, device=device)
        found: Base = super().from_pretrained(str(base), device=device, **options)
        return found

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str | None = None, **options: Any) -> Base:
        return load_base(find_published(model_id, options), device=device)

    def _walk(self, x: Tensor, z_sem: Tensor, route: Route, *, up: bool) -> Tensor:
        conditioning = self.diffae.plain(z_sem.to(self.device))
        steps = route.inversion() if up else route.decoding()
        return follow(lambda x, t: self.diffae.eps(x, t, conditioning), x, route, steps)

    def _route(self, t0: int, steps: int) -> Route:
        if not 1 <= t0 <= TRAIN_STEPS:
            raise UserError(f"t0 must lie in 1 .. {TRAIN_STEPS}, got {t0}")
        if not 1 <= steps <= TRAIN_STEPS:
            raise UserError(f"steps must lie in 1 .. {TRAIN_STEPS}, got {steps}")
        return self.unclipped(Route(steps, steps, t0 / TRAIN_STEPS))

    def invert_x0(self, x0: Tensor, z_sem: Tensor, route: Route) -> Tensor:
        """Structural codes (B, C, h, w) of x0 at the route's t0 (Eq. 11)."""
        return invert(self.diffae, x0, z_sem, self.unclipped(route))

    def unclipped(self, route: Route) -> Route:
        """`route` as this base can walk it: latents have no range to clip x0_hat to."""
        return route if self.in_pixels else replace(route, clip=False)

    def _checked(self, x: Tensor) -> Tensor:
        size = self.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise UserError(
                f"{self.name} works on tensors (B, 3, {size}, {size}), got {tuple(x.shape)}",
                hint="osasis.imaging.tensors.fit_square and to_tensor make one of a picture",
            )
        return x.to(self.device, torch.float32)


def load_base(name_or_path: str | Path = "faces-256", *, device: str | None = None) -> Base:
    """Load a base by name, or from a file written by `save_base`, or from a folder around one.

    Args:
        name_or_path: a name that `osasis models list` shows, or a path.
        device: a torch device such as "cuda:0"; None takes the best one there is.

    Raises:
        UserError: no such base, or a file that is none.
    """
    target = choose_device(device)
    path = find_base(name_or_path)
    networks, manifest = read_base(path)
    return Base(
        **vars(networks),
        name=str(manifest["name"]),
        file_hash=sha256(path)[:16],
        device=target,
        domain=str(manifest.get("notes", {}).get("domain", "")),
        path=path,
    )
