"""Frozen judges of pictures: embedders and perceptual distances behind one protocol."""

from osasis.perception.judges import Embedder, VggJudges, get_embedder, load_judges

__all__ = ["Embedder", "VggJudges", "get_embedder", "load_judges"]
