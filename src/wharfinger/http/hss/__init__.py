"""The routes and wire shapes of HSS v5."""
