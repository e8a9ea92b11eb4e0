"""`osasis evaluate`: methods side by side, in numbers and pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from osasis.cli.options import Device, Output, Positive, command_line, make_writable
from osasis.progress import AGAIN, Progress, when_stopped


def evaluate(
    methods: Annotated[str, Parameter(name="METHODS")],
    /,
    *,
    output: Output = Path("report"),
    photos: Path | None = None,
    styles: Annotated[list[str] | None, Parameter(metavar="[NAME=]DIR")] = None,
    among: Annotated[list[Path] | None, Parameter(metavar="DIR")] = None,
    network: Annotated[list[str] | None, Parameter(metavar="NAME=FILE")] = None,
    size: Positive | None = None,
    preset: Literal["fast", "paper", "release"] | None = None,
    content: Path | None = None,
    embedder: str | None = None,
    base: str | None = None,
    device: Device = None,
) -> int:
    """Measure methods on the same photos and styles; write tables and a page.

    Args:
        methods: TOML file, or the name of a shipped experiment
        output: folder of the report
        photos: photos, instead of the file's
        styles: a source of style images, instead of the file's; may be given again
        among: style images among which styles are named, beside their own (default: the
            package's)
        network: a network that is not shipped; may be given again
        size: side in pixels at which all is measured
        preset: preset of all methods that have one
        content: photos on which all methods with a preset learn
        embedder: network that compares pictures while presets learn; see `osasis learn --help`
        base: base of the presets, by name or file

    Examples:
      osasis evaluate table1 --photos photos/ --styles aahq=a/ --styles metfaces=m/ -o report/
          one of the paper's experiments: table1, table2, fig3, fig5, fig8, fig9
      osasis evaluate methods.toml -o report/ --network sface=face_recognition_sface_2021dec.onnx
          your own comparison, identity included

    A TOML file names photos, styles and methods; folders in it are relative to it:
      photos = "photos"
      [styles]
      paintings = "paintings"
      [[methods]]
      name = "ours"
      preset = "fast"                      # learned and redrawn on the spot
      set = { spn = { lambda_spn = 0.5 } } # any setting of the preset
      content = "faces"                    # photos to learn on; without, the base draws them
      [[methods]]
      name = "theirs"
      folder = "theirs"                    # theirs/STYLE/PHOTO.png, of any program
      [[methods]]
      name = "NNST"
      peer = "nnst"                        # or gatys, adain, colour; photo and style: the two ends

    Networks that are not shipped come from `osasis models fetch`, or with --network
    NAME=FILE, NAME one of inception, art-inception, lpips, sface, arcface, dino,
    clip, resnet18, adain. Ctrl-C keeps everything; the same command goes on.
    """
    from osasis.config.catalogue import experiments, find_named

    path = find_named(methods, experiments(), "experiment")
    from osasis.evaluate.config import load_evaluation, parse_styles
    from osasis.evaluate.networks import parse_networks

    config = load_evaluation(
        path,
        photos=photos,
        styles=parse_styles(styles or []),
        size=size,
        base=base,
        preset=preset,
        content=content,
        embedder=embedder,
        among=among or [],
    )
    networks = parse_networks(network or [])
    make_writable(output)

    from osasis.device import choose_device
    from osasis.evaluate.report import write_report
    from osasis.evaluate.run import Evaluation

    evaluation = Evaluation(config, output, networks, choose_device(device))
    kept = f"stopped; everything so far is kept in {output}\n{AGAIN}"
    with when_stopped(lambda: kept), Progress() as progress:
        progress.follow(evaluation.steps())
    written = write_report(evaluation, command_line(sys.argv[1:]))
    print(f"wrote {', '.join(str(p) for p in written)}")
    if evaluation.skipped:
        print(f"not computed, their networks were not given: {', '.join(evaluation.skipped)}")
    return 0
