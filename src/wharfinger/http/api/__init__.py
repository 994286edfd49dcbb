"""Our own API, version 1: keyset pages, the change feed, the past, held images."""
