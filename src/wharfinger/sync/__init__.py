"""Bring the stored list level with one registry; the only place that decides what is retired."""
