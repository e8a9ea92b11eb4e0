"""The controls of the page, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from osasis.base import Base
from osasis.studio.config import AMOUNTS, LIMITS, MAX_TEXT, Settings, settings_from

_FITS = [
    ("every chosen face, the rest stays", "auto"),
    ("the middle square, as a square", "crop"),
    ("everything, in overlapping squares", "tiles"),
    ("everything at once", "whole"),
]
_OWN = "as the style says"
_T0 = [(_OWN, _OWN), *((str(t), t) for t in (100, 200, 300, 400, 500, 700, 900, 1000))]


@dataclass
class Components:
    """The components by the name of their setting; attributes by the name of the attribute."""

    settings: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def second(self) -> Any:
        """The second style of a mix."""
        return self.settings["second"]

    @property
    def inputs(self) -> list[Any]:
        """All components, in a fixed order."""
        return [*self.settings.values(), *self.attributes.values()]

    def chosen(self, style: str, values: Sequence[Any]) -> Settings:
        """The settings that the components' values stand for.

        Raises:
            UserError: one is out of range.
        """
        count = len(self.settings)
        raw = dict(zip(self.settings, values[:count], strict=True))
        amounts = dict(zip(self.attributes, values[count:], strict=True))
        raw = {name: value for name, value in raw.items() if value is not None}
        levels, t0 = raw.pop("style_levels", _OWN), raw.pop("t0", _OWN)
        if levels != _OWN:
            raw["style_levels"] = [] if levels == "none" else [int(n) for n in levels.split(",")]
        if t0 != _OWN:
            raw["t0"] = t0
        attributes = {name: amount for name, amount in amounts.items() if amount}
        return settings_from({**raw, "style": style, "attributes": attributes})


def add_controls(base: Base, clip_hint: str) -> Components:
    """Add the controls, folded away but for the strength.

    Args:
        base: says which levels and attributes there are.
        clip_hint: what to run for CLIP; empty where it is there.
    """
    controls = Components()
    s, plain = controls.settings, Settings()
    s["strength"] = _slider(
        "strength", 0.05, "Strength",
        "0 is your photo as the base draws it, 1 the style as learned, more exaggerates it.",
    )  # fmt: skip
    with gr.Accordion("More control", open=False):
        s["spn_factor"] = _slider(
            "spn_factor", 0.25, "Lines (SPN)",
            "How firmly your photo's lines are held: times what the style was learned with.",
        )  # fmt: skip
        s["t0"] = gr.Dropdown(
            _T0, value=_OWN, label="Freedom (t0)",
            info="How far the photo is taken apart before it is drawn again. Less keeps more.",
        )  # fmt: skip
        s["style_levels"] = gr.Dropdown(
            [_OWN, "none", *(",".join(map(str, range(n + 1))) for n in range(base.num_levels))],
            value=_OWN, label="Style levels",
            info="Which levels of the network see the style's code. 0 draws the finest detail.",
        )  # fmt: skip
        s["swap_codes"] = gr.Checkbox(
            plain.swap_codes, label="Swap codes",
            info="The style's code where your photo's belongs, and the other way round.",
        )  # fmt: skip
        s["variation"] = _slider(
            "variation", 0.05, "Variation",
            "Part of the drawing is left to chance. 0 gives the same result every time.",
        )  # fmt: skip
        s["seed"] = gr.Number(
            plain.seed, precision=0, minimum=0, maximum=LIMITS["seed"].high, label="Seed",
            info="Another seed, another chance; it counts only with variation.",
        )  # fmt: skip
        s["fit"] = gr.Dropdown(_FITS, value=plain.fit, label="What is redrawn")
        s["detail"] = _slider(
            "detail", 0.05, "Fine detail",
            "How much of your photo's own detail is added, where the base draws too few pixels.",
        )  # fmt: skip
        s["match_color"] = gr.Checkbox(
            plain.match_color, label="Match colours at the edge",
            info="Colours turn into the photo's towards the edge of a face.",
        )  # fmt: skip
    with gr.Accordion("Mix with a second style", open=False):
        s["second"] = gr.Dropdown([("none", "")], value="", label="Second style")
        s["share"] = _slider("share", 0.05, "Its share", "0 is all the first style.")
    with gr.Accordion("Change what the photo shows", open=False):
        _edits(base, clip_hint, controls)
    return controls


def _edits(base: Base, clip_hint: str, controls: Components) -> None:
    for name in sorted(base.directions):
        controls.attributes[name] = gr.Slider(
            AMOUNTS.low, AMOUNTS.high, 0, step=0.25, label=name.capitalize().replace("_", " ")
        )
    if base.directions:
        gr.HTML(
            '<p class="hint">1 is the way from faces without it to faces with it; below 0 goes '
            "back. Edits show more with Freedom at 1000 and Guidance above 1.</p>"
        )
    controls.settings["guidance"] = _slider(
        "guidance", 0.5, "Guidance",
        "How much of the edit's effect is taken. 0 chooses what was measured to suit.",
    )  # fmt: skip
    if clip_hint:
        gr.HTML(
            '<p class="hint">Changing photos by a description needs CLIP. Whoever runs this studio '
            f"gets it with: <code>{clip_hint}</code></p>"
        )
        return
    controls.settings["text"] = gr.Textbox(
        label="What it should show", placeholder="a smiling face", max_length=MAX_TEXT,
        info="Minutes a photo without a GPU.",
    )  # fmt: skip
    controls.settings["text_from"] = gr.Textbox(
        Settings().text_from, label="What it shows", max_length=MAX_TEXT
    )


def _slider(name: str, step: float, label: str, info: str) -> Any:
    """A slider over the range of a setting, at its default."""
    limits = LIMITS[name]
    return gr.Slider(
        limits.low, limits.high, getattr(Settings(), name), step=step, label=label, info=info
    )
