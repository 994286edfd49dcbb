"""What a list of a million images costs to read, and what writing one costs its readers."""
