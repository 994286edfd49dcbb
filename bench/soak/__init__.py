"""Half an hour of bad days at once, and what is left afterwards. ``python -m bench.soak``."""
