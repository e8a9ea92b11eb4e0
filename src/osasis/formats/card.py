"""The folder that is published on the hub, and its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from osasis.config.catalogue import CARD, CONFIG, WEIGHTS, weights_file
from osasis.errors import UserError
from osasis.files import atomic_path, write_text
from osasis.formats.huggingface import from_hub, hub_files
from osasis.formats.safetensors_file import read_manifest

_USE = """\
```python
import osasis

{code}
```

Made with [OSASIS](https://arxiv.org/abs/2402.17275), one-shot structure-aware stylized image
synthesis (CVPR 2024). The weights are safetensors; loading them runs nothing.
"""


def write_folder(folder: Path, weights: Path, card: str) -> None:
    """Put a copy of our file `weights`, byte for byte, into `folder`, and describe it there."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary:
        shutil.copyfile(weights, temporary)
    describe_folder(folder, card)


def describe_folder(folder: Path, card: str) -> None:
    """Write the manifest and, where there is none yet, the card beside `model.safetensors`."""
    text = json.dumps(read_manifest(folder / WEIGHTS), indent=2, sort_keys=True)
    write_text(folder / CONFIG, text + "\n")
    if not (folder / CARD).exists():
        write_text(folder / CARD, card)


def base_card(weights: Path, about: str = "", licence: str = "") -> str:
    """A model card from the manifest of a base's file, and what else is known of it."""
    manifest = read_manifest(weights)
    notes = manifest.get("notes", {})
    about = about or str(notes.get("description", "A base for OSASIS."))
    licence = licence or str(notes.get("licence", ""))
    lines = [f"# {manifest['name']}", "", about]
    size = manifest["model"]["unet"]["image_size"]
    facts = {"pixels": f"{size} x {size}"}
    facts |= {k: v for k, v in notes.items() if k not in ("description", "licence")}
    code = 'base = osasis.Base.from_pretrained("USER/REPOSITORY")'
    return _card(licence, "osasis-base", [*lines, "", *_table(facts)], code)


def style_card(weights: Path) -> str:
    """A model card, with the style's thumbnail, from the manifest of a style's file."""
    manifest = read_manifest(weights)
    lines = [f"# {manifest['name'] or 'A style'}", "", "![The style image](thumbnail.webp)"]
    names = "base_name base_hash preset embedder updates lambda_spn style_levels"
    facts = {name: manifest[name] for name in names.split()}
    code = (
        f'base = osasis.load_base("{manifest["base_name"]}")\n'
        'style = osasis.Style.from_pretrained("USER/REPOSITORY")\n'
        'osasis.Stylizer(base, style)("me.jpg").save("me-painted.png")'
    )
    return _card("", "osasis-style", [*lines, "", *_table(facts)], code)


def _table(facts: dict[str, Any]) -> list[str]:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items()]
    return ["| | |", "|---|---|", *rows]


def _card(licence: str, tag: str, lines: list[str], code: str) -> str:
    head = ["---", "library_name: osasis", f"tags: [osasis, {tag}, image-to-image]"]
    stated = [f"Licence: {licence}", ""] if licence else ["Licence: not stated yet", ""]
    return "\n".join([*head, "---", "", *lines, "", *stated, _USE.format(code=code)])


def names_repository(name: str | Path) -> bool:
    """Whether a name is that of a repository, "user/repository", and of nothing on this machine."""
    text = str(name)
    here = Path(text).expanduser().exists()
    return isinstance(name, str) and text.count("/") == 1 and text[0] not in "./~" and not here


def find_published(model_id: str, options: dict[str, Any]) -> Path:
    """Our file in a local folder or in a repository of the hub; nothing else is downloaded.

    Args:
        model_id: a folder or "user/repository".
        options: of `from_pretrained`: "revision" and "local_files_only" are used.

    Raises:
        UserError: the folder holds none; offline mode is on.
        OsasisError: the repository cannot be downloaded.
    """
    if Path(model_id).is_dir():
        return weights_file(Path(model_id))
    revision = str(options.get("revision") or "")
    if options.get("local_files_only"):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model_id, WEIGHTS, revision=revision or None)
        if not isinstance(found, str):
            raise UserError(f"{model_id} is not in the hub's cache on this machine")
        return Path(found)
    commit, names = hub_files(model_id, revision)
    if WEIGHTS not in names:
        raise UserError(f"the hub's repository {model_id} has no {WEIGHTS}")
    if CONFIG in names:
        from_hub(model_id, CONFIG, commit)
    return from_hub(model_id, WEIGHTS, commit)
