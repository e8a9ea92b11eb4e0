"""Fixtures that several unit tests share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from osasis.base import Base
from osasis.formats.style_file import Style
from osasis.learn.learner import StyleLearner

from ..conftest import picture
from .test_style import QUICK, run


@pytest.fixture(scope="session")
def tiny_style(tiny_base: Base) -> Style:
    """A style: learning it takes longer than what the tests do with it."""
    learner = StyleLearner(tiny_base, picture(1), QUICK)
    run(learner)
    return learner.style()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP in the hub's layout."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = letters + [f"{c}</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    shared |= {"num_hidden_layers": 2, "projection_dim": 12}
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    text = {"vocab_size": len(tokens), "max_position_embeddings": 10, **ends}
    config = transformers.CLIPConfig(
        text_config=shared | text,
        vision_config=shared | {"image_size": 28, "patch_size": 7},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    return folder
