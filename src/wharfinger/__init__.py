"""Wharfinger keeps the list of every container image in every registry a team owns."""

__version__ = "0.1.0"
