"""Frozen judges of pictures: embedders and perceptual distances behind one protocol."""

from osasis.perception.judges import VggJudges, load_judges
from osasis.perception.protocol import Embedder
from osasis.perception.registry import DEFAULT_EMBEDDER, get_embedder

__all__ = ["DEFAULT_EMBEDDER", "Embedder", "VggJudges", "get_embedder", "load_judges"]
