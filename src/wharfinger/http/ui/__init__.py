"""The web console: pages for people over the services that the APIs call."""
