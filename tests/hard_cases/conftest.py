"""Registries that misbehave as real ones have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from stages import OciRegistry


@pytest.fixture
async def registry() -> AsyncIterator[OciRegistry]:
    """An OCI registry without a login."""
    async with OciRegistry() as running:
        yield running


@pytest.fixture
async def guarded() -> AsyncIterator[OciRegistry]:
    """An OCI registry that wants tokens."""
    async with OciRegistry(auth="bearer") as running:
        yield running
