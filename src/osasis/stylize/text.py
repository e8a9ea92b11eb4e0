"""Edits by a description: z_sem is optimised with CLIP's directional loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from osasis.base import Base
from osasis.config import artefacts
from osasis.config.controls import Controls, Editing
from osasis.config.tables import Checked, Range
from osasis.diffusion.route import Route
from osasis.diffusion.sample import follow_with_gradient
from osasis.errors import UserError
from osasis.imaging.tensors import to_images
from osasis.perception import load_judges
from osasis.perception.clip import CLIP_MODEL, ClipEmbedder
from osasis.perception.identity import FaceEmbedder, IdentitySimilarity
from osasis.perception.similarity import cosine_distance
from osasis.stylize.decode import guided
from osasis.stylize.edit import EDIT_ROUTE, AttributeEdit, Edit, guidance_of
from osasis.stylize.model import Styles, common_route

Identity = Callable[[Image.Image, Image.Image], float]
"""Similarity of the people in two pictures, 1 for the same one."""


class TextEmbedder(Protocol):
    """A frozen map of pictures and texts into one space, such as `ClipEmbedder`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) pictures in [-1, 1] as (B, D), differentiable."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts as (N, D)."""
        ...


@dataclass(frozen=True)
class TextSettings(Checked):
    """How z_sem is optimised, one photo at a time (engineering choices).

    Attributes:
        iterations: updates at most.
        rate: Adam's learning rate, in standard deviations of z_sem.
        keep: weight of LPIPS to the unedited reconstruction, beside the directional loss.
        patience, min_gain: stop when `patience` updates in a row lower the directional loss by
            less than `min_gain`.
        max_lpips: stop where the picture has changed by more than this.
        min_identity: stop where the similarity of the person falls below this; used where a
            measure of identity is given.
        route: the walk that the loss looks through; its whole length is differentiated.
        guidance: of that walk; see `osasis.stylize.decode.guided`.
    """

    iterations: Annotated[int, Range(1)] = 60
    rate: Annotated[float, Range(0, above=True)] = 0.1
    keep: float = 0.5
    patience: Annotated[int, Range(1)] = 10
    min_gain: float = 0.002
    max_lpips: float = 0.25
    min_identity: float = 0.5
    route: Route = Route(16, 16, t0_ratio=1.0)
    guidance: float = 1.0


@dataclass(frozen=True)
class TextStep:
    """What an update found.

    Attributes:
        done, total: updates of this photo so far and at most.
        loss: directional loss, 0 to 2; 1 is no relation to the text.
        lpips: to the unedited reconstruction.
        identity: similarity to it; None where identity is not measured.
        stopped: why the optimisation ended here; empty while it goes on.
    """

    done: int
    total: int
    loss: float
    lpips: float
    identity: float | None
    stopped: str


class TextEdit:
    """Optimises z_sem so that the picture moves the way a text does; the network stays frozen.

    The loss is `1 - cos(E(decoded) - E(photo), T(target) - T(source))` (DiffusionCLIP,
    2110.02711, Eq. 8), with normalised embeddings. Of all codes within the limits the one with
    the least loss is kept: at worst the photo's own. Nothing is random.

    Args:
        base: the frozen base.
        embedder: CLIP, see `osasis.perception.clip.ClipEmbedder`.
        target: what the photo should show, such as "a smiling face".
        source: what it shows.
        settings: of the optimisation.
        identity: measures the similarity of persons, as an additional limit; None leaves LPIPS.
        report: called after every update.

    Raises:
        UserError: a text is empty or both say the same.
    """

    def __init__(
        self,
        base: Base,
        embedder: TextEmbedder,
        target: str,
        source: str = Editing.text_from,
        *,
        settings: TextSettings | None = None,
        identity: Identity | None = None,
        report: Callable[[TextStep], None] | None = None,
    ) -> None:
        if not target.strip() or not source.strip() or target.strip() == source.strip():
            raise UserError(
                f"a text edit goes from one description to another, got {source!r} and {target!r}",
                hint='for example --from "a face" --text "a smiling face"',
            )
        self._base, self._embedder = base, embedder
        self._settings = settings or TextSettings()
        self._identity, self._report = identity, report
        from_text, to_text = F.normalize(embedder.embed_text([source, target])).split(1)
        self._direction = (to_text - from_text).to(base.device)
        self._lpips = load_judges(device=base.device).lpips

    def __call__(self, x0: Tensor, z_sem: Tensor) -> Tensor:
        """Edited codes (B, z_dim) of x0 (B, C, H, W) with codes (B, z_dim)."""
        one_by_one = zip(x0.to(self._base.device).split(1), z_sem.split(1), strict=True)
        return torch.cat([self._optimise(x, z) for x, z in one_by_one])

    def _optimise(self, x0: Tensor, z_sem: Tensor) -> Tensor:
        """The code of one photo."""
        s = self._settings
        x_t0 = self._base.invert_x0(x0, z_sem, s.route)
        with torch.no_grad():
            origin = F.normalize(self._embedder(self._base.to_picture(x0)))
        shift = torch.zeros_like(z_sem, requires_grad=True)  # in standard deviations
        optimizer = torch.optim.Adam([shift], lr=s.rate)
        best, best_loss, since_gain = z_sem, float("inf"), 0
        unedited: Tensor | None = None
        for done in range(1, s.iterations + 1):
            with torch.enable_grad():
                z = z_sem + shift * self._base.z_std
                decoded = self._decode(x_t0, z_sem, z)
                unedited = decoded.detach() if unedited is None else unedited
                embedded = F.normalize(self._embedder(decoded))
                loss = cosine_distance(embedded - origin, self._direction).sum()
                lpips = self._lpips(decoded, unedited).sum()
                optimizer.zero_grad(set_to_none=True)
                (loss + s.keep * lpips).backward()  # type: ignore[no-untyped-call]
            value, change = float(loss.detach()), float(lpips.detach())
            identity = self._similarity(decoded, unedited)
            stopped = self._limit(change, identity)
            since_gain = 0 if value < best_loss - s.min_gain else since_gain + 1
            if not stopped and value < best_loss:
                best, best_loss = z.detach(), value
            if not stopped and since_gain >= s.patience:
                stopped = "the loss falls no further"
            elif not stopped and done == s.iterations:
                stopped = "all updates are made"
            if self._report is not None:
                self._report(TextStep(done, s.iterations, value, change, identity, stopped))
            if stopped:
                break
            optimizer.step()
        return best

    def _decode(self, x_t0: Tensor, z_sem: Tensor, z_edited: Tensor) -> Tensor:
        """(1, 3, H, W), differentiable in z_edited; keeps one step's activations at a time."""
        diffae, route = self._base.diffae, self._base.unclipped(self._settings.route)
        model = guided(diffae, diffae.plain(z_sem), diffae.plain(z_edited), self._settings.guidance)

        def eps(x: Tensor, t: Tensor) -> Tensor:
            eps_hat: Tensor = checkpoint(model, x, t, use_reentrant=False)
            return eps_hat

        x0 = follow_with_gradient(eps, x_t0, route, route.decoding())
        return self._base.to_picture(x0).clamp(-1, 1)

    def _similarity(self, decoded: Tensor, unedited: Tensor) -> float | None:
        if self._identity is None:
            return None
        return self._identity(to_images(decoded)[0], to_images(unedited)[0])

    def _limit(self, lpips: float, identity: float | None) -> str:
        """Which limit is crossed; empty for none."""
        s = self._settings
        if not lpips <= s.max_lpips:  # NaN counts as too much
            return f"the picture would change too much (LPIPS above {s.max_lpips:g})"
        if identity is not None and identity < s.min_identity:
            return f"it would be another person (identity below {s.min_identity:g})"
        return ""


def edits_of(
    base: Base,
    styles: Styles,
    controls: Controls,
    *,
    clip: str = CLIP_MODEL,
    report: Callable[[TextStep], None] | None = None,
) -> list[Edit]:
    """The edits that controls ask for: along attributes, and by a text.

    Args:
        styles: what the edited photos are redrawn in; they say from where.
        clip: folder or id of CLIP.
        report: see `TextEdit`.

    Raises:
        UserError: an attribute the base does not have; CLIP or a measure of identity is missing.
    """
    amounts: dict[str, float] = {}
    for name, amount in controls.attributes:
        amounts[name] = amounts.get(name, 0.0) + amount
    edits: list[Edit] = [AttributeEdit(base, amounts)] if amounts else []
    if not controls.text:
        return edits
    settings = TextSettings(
        iterations=controls.iterations,
        max_lpips=controls.max_change,
        min_identity=controls.min_identity or 0.0,
        route=TextSettings.route.until(controls.t0 or common_route(styles, EDIT_ROUTE).t0),
        guidance=guidance_of(controls, styled=bool(styles)),
    )
    identity = None
    if controls.min_identity is not None:
        identity = IdentitySimilarity(FaceEmbedder("sface", artefacts.path("sface")))
    seen = ClipEmbedder(clip, device=base.device)
    texts = controls.text, controls.text_from
    edit = TextEdit(base, seen, *texts, settings=settings, identity=identity, report=report)
    return [*edits, edit]
