"""The controls of stylizing: ranges in one place, and tables of files."""

from __future__ import annotations

import math
from typing import Any

import pytest

from osasis.config.controls import Controls, strained
from osasis.config.tables import from_table
from osasis.device import choose_device
from osasis.errors import UserError


@pytest.mark.parametrize("name", ["strength", "lambda_spn", "guidance"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_amounts_are_0_or_more(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} must be 0 or more"):
        Controls(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"strength": 1e300}, {"seed": 10**20}, {"lambda_spn": 1e30}])
def test_numbers_that_no_network_can_hold_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="at most"):
        Controls(**wrong)


def test_a_device_that_cannot_compute_is_refused() -> None:
    for name in ("meta", "nowhere", "cuda:99"):
        with pytest.raises(UserError, match="cannot be used"):
            choose_device(name)


@pytest.mark.parametrize(
    "wrong", [{"variation": 1.1}, {"variation": math.nan}, {"t0": 0}, {"t0": 1001}]
)
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must lie between"):
        Controls(**wrong)


def test_tables_of_files() -> None:
    read = from_table(Controls, {"strength": 0.5, "style_levels": [0, 1]}, what="control")
    assert read == Controls(strength=0.5, style_levels=(0, 1))
    with pytest.raises(UserError, match="no control 'strenght'") as caught:
        from_table(Controls, {"strenght": 0.5}, what="control")
    assert "strength" in caught.value.hint
    with pytest.raises(UserError, match="strength must be a number"):
        from_table(Controls, {"strength": "much"})


def test_what_falls_apart_is_warned_of() -> None:
    assert strained(Controls(strength=1.5, guidance=2, attributes=(("smiling", -2.0),))) == []
    amounts = (("smiling", -100.0), ("age", 1.0))
    said = strained(Controls(strength=20, guidance=40, attributes=amounts))
    assert [line.partition(":")[0] for line in said] == [
        "style-strength 20",
        "guidance 40",
        "smiling 100",
    ]
