"""What the stored list says: images, registries, and how much they can be believed."""

from __future__ import annotations

from wharfinger.domain.inventory import (
    Facets,
    ImageFilter,
    ImagePage,
    ListedImage,
    RegistryFilter,
    RegistryPage,
    RegistryScope,
    Worth,
)
from wharfinger.domain.model import Caller
from wharfinger.store.reading import Reading


class Inventory:
    """Answers about the list, within what the caller may see."""

    def __init__(self, reader: Reading) -> None:
        self._reader = reader

    async def images(
        self,
        caller: Caller,
        wanted: ImageFilter,
        *,
        offset: int,
        limit: int,
        descending: bool = False,
    ) -> ImagePage:
        """List images in the order of their ids, which is the order in which they were seen."""
        return await self._reader.images(
            caller.project_id, wanted, offset=offset, limit=limit, descending=descending
        )

    async def images_after(
        self,
        caller: Caller,
        wanted: ImageFilter,
        *,
        after_id: int,
        limit: int,
        worth: Worth | None = None,
    ) -> tuple[ListedImage, ...]:
        """List the images whose ids follow ``after_id``: the whole list, however long, in turns.

        Stable under change: an image that stays is never skipped and never comes twice. ``worth``
        is what was told of the scope right before, where it was.
        """
        return await self._reader.images_after(
            caller.project_id, wanted, after_id=after_id, limit=limit, worth=worth
        )

    async def no_images(self, caller: Caller, scope: RegistryScope) -> ImagePage:
        """Answer what no stored image can match, and still say what the list is worth."""
        worth = await self.worth(caller, scope)
        return ImagePage(total=0, items=(), as_of=worth.as_of, verdict=worth.verdict)

    async def worth(self, caller: Caller, scope: RegistryScope) -> Worth:
        """Tell what the list of a scope is worth, and whether it is still the same."""
        return await self._reader.worth(caller.project_id, scope)

    async def facets(self, caller: Caller, wanted: ImageFilter) -> Facets:
        """Count what matches by registry, kind, enterprise project and namespace."""
        return await self._reader.facets(caller.project_id, wanted)

    async def count_images(self, caller: Caller, scope: RegistryScope) -> ImagePage:
        """Count the images of a scope; the answer is a page without rows."""
        return await self._reader.count_images(caller.project_id, scope)

    async def registries(
        self, caller: Caller, wanted: RegistryFilter, *, offset: int, limit: int
    ) -> RegistryPage:
        """List registries by name."""
        return await self._reader.registries(caller.project_id, wanted, offset=offset, limit=limit)
