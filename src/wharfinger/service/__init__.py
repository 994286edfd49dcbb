"""What a user can ask for. No HTTP, no SQL."""
