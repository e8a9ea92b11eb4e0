"""Stylizers that are not ours, to stand beside: each written from its paper."""
