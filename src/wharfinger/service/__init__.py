"""What a user can ask for; no HTTP, no SQL."""
