"""CLIP as an embedder of pictures and texts; needs the extra package `transformers`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from osasis.config.artefacts import fetched_repository
from osasis.errors import UserError
from osasis.extras import install, need
from osasis.files import sha256

CLIP_MODEL = "openai/clip-vit-base-patch32"
_FETCH = "osasis models fetch clip-vit-b32"
_FILES = (".json", ".txt", ".safetensors", ".bin")  # of model and tokenizer
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipEmbedder:
    """CLIP's image and text features (Radford et al. 2021, 2103.00020), frozen, not normalised.

    Nothing is ever downloaded: the weights come from a folder in the hub's layout, from what
    `osasis models fetch` brought, or from the hub's cache on this machine.

    Attributes:
        name: 'clip' for the standard model, else 'clip:' and its source.
        dim: length of one vector, 512 for the standard model.
        image_size: side in pixels to which pictures are resized.
    """

    def __init__(
        self,
        source: str | Path = CLIP_MODEL,
        *,
        device: torch.device | None = None,
        release_preprocessing: bool = False,
    ) -> None:
        """Load the model.

        Args:
            source: a local folder or a hub id.
            device: where to put it; None leaves it on the CPU.
            release_preprocessing: resize [-1, 1] pixels by nearest neighbour and leave out CLIP's
                normalisation, as the released OSASIS program does.

        Raises:
            UserError: `transformers` is not installed, or the weights are not here or incomplete.
        """
        self.source = locate(source)
        self.name = "clip" if self.source == CLIP_MODEL else f"clip:{self.source}"
        self.release_preprocessing = release_preprocessing
        self._transformers = need("transformers", "CLIP", "clip", f", then {_FETCH} (about 605 MB)")
        self._model = _load_model(self._transformers, self.source, device)
        self._tokenizer: Any = None
        self.dim = int(self._model.config.projection_dim)
        self.image_size = int(self._model.config.vision_config.image_size)
        self._mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(_STD, device=device).view(1, 3, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) pictures in [-1, 1] as (B, dim) float32, differentiable.

        Pictures that are not square are squashed to the model's size.
        """
        pooled = self._model.vision_model(pixel_values=self.preprocess(x)).pooler_output
        features: Tensor = self._model.visual_projection(pooled)
        return features

    def preprocess(self, x: Tensor) -> Tensor:
        """Resize (B, 3, H, W) in [-1, 1] to the model's input (B, 3, image_size, image_size).

        Bicubic, antialiased, then CLIP's mean and deviation; or the released program's way.
        """
        size = (self.image_size, self.image_size)
        if self.release_preprocessing:
            return F.interpolate(x.float(), size, mode="nearest")
        unit = (x.float() + 1) / 2
        if unit.shape[-2:] != size:
            unit = F.interpolate(unit, size, mode="bicubic", align_corners=False, antialias=True)
        return (unit - self._mean) / self._std

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts as (N, dim) float32; too long ones are cut at the model's length.

        Raises:
            ValueError: no text was given.
            UserError: the model came without its tokenizer.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError("expected a list of at least one text")
        if self._tokenizer is None:
            words = int(self._model.config.text_config.vocab_size)
            self._tokenizer = _load_tokenizer(self._transformers, self.source, words)
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=int(self._model.config.text_config.max_position_embeddings),
            return_tensors="pt",
        ).to(self._mean.device)
        with torch.no_grad():
            pooled = self._model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            features: Tensor = self._model.text_projection(pooled)
        return features


def clip_is_missing() -> tuple[list[str], list[str]]:
    """What the standard CLIP lacks on this machine, in words, and the commands that get it.

    Both are empty where it can be loaded; nothing of it is loaded to find out.
    """
    missing, commands = [], []
    if importlib.util.find_spec("transformers") is None:
        missing.append("the package transformers")
        commands.append(install("clip"))
    cached = try_to_load_from_cache(CLIP_MODEL, "config.json")
    if fetched_repository(CLIP_MODEL) is None and not isinstance(cached, str):
        missing.append("CLIP ViT-B/32 (605 MB)")
        commands.append(_FETCH)
    return missing, commands


def locate(source: str | Path) -> str:
    """A folder as its path, a hub id as it is.

    Raises:
        UserError: it is neither.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path)
    text = str(source)
    is_path = isinstance(source, Path) or path.exists() or text.startswith((".", "~", os.sep))
    if is_path or text.count("/") != 1:
        raise UserError(
            f"there is no CLIP folder at {source}",
            hint="give a folder with config.json and model.safetensors, or a hub id such as "
            f"{CLIP_MODEL}",
        )
    return text


def content_hash(source: str | Path = CLIP_MODEL) -> str:
    """SHA-256 of the files that CLIP is loaded from, wherever they lie; hexadecimal.

    Raises:
        UserError: they are not here.
    """
    where = locate(source)
    found = fetched_repository(where) or Path(where)
    if not found.is_dir():
        cached = try_to_load_from_cache(where, "config.json")
        if not isinstance(cached, str):
            raise _no_weights(where, "cannot be loaded from this machine")
        found = Path(cached).parent
    files = [file for file in sorted(found.iterdir()) if file.suffix in _FILES and file.is_file()]
    listed = [f"{file.name} {sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def _load_model(transformers: Any, source: str, device: torch.device | None) -> Any:
    try:
        with quiet(transformers):
            model, report = transformers.CLIPModel.from_pretrained(
                fetched_repository(source) or source,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_weights(source, "cannot be loaded from this machine") from error
    if report["missing_keys"] or report.get("mismatched_keys"):
        # transformers would go on with random numbers in their place
        raise _no_weights(source, f"lacks {len(report['missing_keys'])} tensors")
    model = model.float().eval().requires_grad_(False)
    return model if device is None else model.to(device)


def _load_tokenizer(transformers: Any, source: str, words: int) -> Any:
    try:
        here = fetched_repository(source) or source
        tokenizer = transformers.CLIPTokenizer.from_pretrained(here, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise _no_weights(source, "comes without its tokenizer") from error
    if len(tokenizer) < words / 2:  # without its files some versions make up an empty one
        raise _no_weights(source, "comes without its tokenizer")
    return tokenizer


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Hold back the library's progress bar and report while it loads."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _no_weights(source: str, what: str) -> UserError:
    own = source == CLIP_MODEL or os.path.isdir(source)
    command = _FETCH if own else f"hf download {source}"
    return UserError(
        f"the CLIP model {source} {what}",
        hint=f"fetch it once with: {command} (about 605 MB), or give a folder with its files",
    )
