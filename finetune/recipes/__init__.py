"""Recipes: what documents and sources become before they are token ids: gaps, passages, quotes."""
