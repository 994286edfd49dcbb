"""Brings the stored list level with one registry."""
