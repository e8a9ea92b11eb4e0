"""`osasis doctor`: is everything there, and what to run where it is not."""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from osasis._version import __version__
from osasis.config.catalogue import assets
from osasis.errors import OsasisError
from osasis.extras import install
from osasis.files import sha256

# package on PyPI -> module to import; a test compares them with pyproject.toml
CORE = {
    "cyclopts": "cyclopts",
    "filelock": "filelock",
    "huggingface_hub": "huggingface_hub",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "psutil": "psutil",
    "rich": "rich",
    "safetensors": "safetensors",
    "torch": "torch",
}
EXTRAS = {
    "clip": {"transformers": "transformers"},
    "diffusers": {"diffusers": "diffusers"},
    "film": {"av": "av"},
    "heic": {"pillow-heif": "pillow_heif"},
    "pretrain": {"accelerate": "accelerate", "datasets": "datasets", "tensorboard": "tensorboard"},
    "ray": {"ray": "ray.data"},
    "studio": {"gradio": "gradio", "jinja2": "jinja2"},
}
BASE = "faces-256"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        detail: what was found.
        fix: what to run where it is not.
        core: whether osasis cannot work without it.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    core: bool = True

    def lines(self) -> list[str]:
        """What is printed."""
        mark = "ok" if self.ok else "MISSING" if self.core else "absent"
        first = f"{mark:8}{self.name:22}{self.detail}"
        return [first] if self.ok or not self.fix else [first, f"{'':30}mend it with: {self.fix}"]


def check_python() -> Iterator[Check]:
    """The interpreter and osasis itself."""
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Check(
        "python", fits, f"{version} on {platform.platform()}", "install Python 3.11 to 3.13"
    )
    yield Check("osasis", True, f"{__version__} in {assets().parent}")


def _pip(*packages: str) -> str:
    return f"{sys.executable} -m pip install {' '.join(packages)}"


def check_package(package: str, module: str, *, extra: str = "") -> Check:
    """Whether a package is installed and can be imported."""
    name = f"{package} [{extra}]" if extra else package
    # an extra as a whole: its limits on versions are in osasis
    fix = install(extra) if extra else _pip(package)
    try:
        version = metadata.version(package)
        if not extra:  # extras are only looked up: importing them takes seconds
            import_module(module)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", fix, core=not extra)
    except (ImportError, OSError) as error:
        detail = f"cannot be imported: {error}"
        return Check(name, False, detail, fix.replace("install", "install --force-reinstall"))
    return Check(name, True, version, core=not extra)


def check_packages() -> Iterator[Check]:
    """The core packages, then the extras."""
    for package, module in CORE.items():
        yield check_package(package, module)
    for extra, packages in EXTRAS.items():
        for package, module in packages.items():
            yield check_package(package, module, extra=extra)


def accelerators() -> list[str]:
    """Names of the devices that `--device` accepts besides the CPU."""
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        return []
    about = getattr(torch.get_device_module(kind), "get_device_name", None)
    found = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())]
    return [f"{name} ({about(name)})" if about else name for name in found]


def check_machine() -> Iterator[Check]:
    """Devices, threads, memory."""
    import psutil
    import torch

    yield Check(
        "cpu", True, f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    )
    yield Check("accelerators", True, ", ".join(accelerators()) or "none, the CPU is used")
    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    yield Check("memory", True, f"{total:.1f} GiB, {free:.1f} GiB free")


def check_base() -> Iterator[Check]:
    """Whether the shipped base loads, and is the one the shipped styles were learned on."""
    from osasis.base import load_base
    from osasis.config.catalogue import list_styles
    from osasis.formats.safetensors_file import read_manifest

    base = load_base(BASE)
    detail = f"{base.image_size} pixels, hash {base.hash}, computes on {base.device}"
    yield Check(f"base {BASE}", True, detail)
    for path in list_styles():
        manifest = read_manifest(path)
        if manifest.get("base_name") == base.name and manifest.get("base_hash") != base.hash:
            detail = f"was learned on a base with hash {manifest.get('base_hash')}"
            yield Check(f"style {path.stem}", False, detail, "install osasis again")


def broken_assets(folder: Path) -> Iterator[str]:
    """Shipped files that a table names (columns file, sha256) but that are absent or damaged."""
    for table in sorted(folder.rglob("*.tsv")):
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                path, digest = table.parent / (row.get("file") or ""), row.get("sha256")
                if not path.exists():
                    yield f"{path} is missing"
                elif digest and sha256(path) != digest:
                    yield f"{path} is damaged"


def check_assets() -> Iterator[Check]:
    """The shipped pictures and styles."""
    from osasis.config.catalogue import list_styles

    count = sum(path.is_file() for path in assets().rglob("*"))
    broken = list(broken_assets(assets()))
    detail = "; ".join(broken) or f"{count} files; learned styles: {len(list_styles())}"
    yield Check("assets", count > 0 and not broken, detail, "install osasis again")


def check_cache() -> Iterator[Check]:
    """Whether content banks can be kept."""
    from osasis.learn.content import cache_folder

    folder = cache_folder()
    # the folder may not exist yet: then the nearest one above it counts
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    fix = "set OSASIS_CACHE to a folder that you may write to"
    yield Check("cache", writable, str(folder), fix, core=False)


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_packages,
    check_machine,
    check_base,
    check_assets,
    check_cache,
)


def examine() -> Iterator[Check]:
    """All checks; one that fails is a finding, and the others still run."""
    for check in CHECKS:
        try:
            yield from check()
        except OsasisError as error:
            yield Check(_title(check), False, str(error), error.hint)
        except (ImportError, OSError) as error:
            yield Check(_title(check), False, f"{type(error).__name__}: {error}")


def _title(check: Callable[[], Iterator[Check]]) -> str:
    return check.__name__.removeprefix("check_")


def doctor() -> int:
    """Check this machine and installation; say what mends what is missing.

    Examples:
      osasis doctor

    The exit status is 0 when `learn` and `stylize` can work here, and 1 when they
    cannot.
    """
    works = True
    for check in examine():
        print("\n".join(check.lines()), flush=True)
        works = works and (check.ok or not check.core)
    print("osasis can work here" if works else "osasis cannot work here yet: see MISSING above")
    return 0 if works else 1
