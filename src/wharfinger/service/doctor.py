"""A dry run of a registry: every step of a sync is tried once, and nothing is stored."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from wharfinger.domain.advice import ADVICE
from wharfinger.domain.errors import (
    CredentialsNeededError,
    NotFoundError,
    NotTrustedError,
    SourceError,
)
from wharfinger.domain.examination import (
    Contact,
    Diagnosis,
    Examination,
    Exchange,
    Grade,
    Observation,
    Phrase,
)
from wharfinger.domain.findings import in_english
from wharfinger.domain.model import (
    Caller,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.service.held import find_registry
from wharfinger.store import registries
from wharfinger.store.database import Database
from wharfinger.store.registries import RegistryStatus, Seals
from wharfinger.sync.engine import OpenSource, Resolve, as_stored

LONGEST_S = 60.0
# So many repositories are read, of so many pages of tags at most.
SAMPLE_REPOSITORIES = 5
SAMPLE_PAGES = 3
SAMPLE_DESCRIBED = 5
COUNTED_PAGES = 3
CERTIFICATE_ENDS_SOON = dt.timedelta(days=14)
# A second is what a Date header leaves out; a signature is refused a quarter of an hour off.
SKEW_NOTED_S, SKEW_FATAL_S = 5.0, 900.0

CHECKS = (
    "reach",
    "encryption",
    "authentication",
    "catalog",
    "paging",
    "tags",
    "digests",
    "clock",
    "rate",
    "fingerprints",
    "size",
    "first_sync",
)


class Patient(OpenSource, Protocol):
    """A source whose exchanges are watched."""

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What went over the wire so far."""
        ...

    @property
    def refused(self) -> int:
        """Answers so far that told us to slow down, in whatever words the kind knows."""
        ...

    @property
    def concurrency(self) -> int:
        """Requests at once that a sync begins with."""
        ...

    async def contact(self) -> Contact:
        """Reach the registry's host without asking it anything."""
        ...

    def learned_rate(self) -> float | None:
        """Requests a second that the host bears, if it has been seen to refuse more."""
        ...


Admit = Callable[[RegistryRef, RegistryCredential], Patient]


class Doctor:
    """Examines registries."""

    def __init__(
        self, database: Database, seals: Seals, admit: Admit, *, resolve: Resolve = as_stored
    ) -> None:
        self._database = database
        self._seals = seals
        self._admit = admit
        self._resolve = resolve

    async def examine(self, caller: Caller, registry: str) -> Examination:
        """Examine a registry, given by name or id, for a minute at most; told in English.

        Raises:
            NotFoundError: there is no such registry.
        """
        return in_english(await self.diagnose(caller, registry))

    async def diagnose(self, caller: Caller, registry: str) -> Diagnosis:
        """Examine a registry, for whoever has words of their own.

        Raises:
            NotFoundError: there is no such registry.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, _ = await find_registry(tx, caller, registry)
            known = [r for r in await registries.list_registries(tx, caller) if r.id == registry_id]
            ref, credential = await registries.open_registry(
                tx, caller.project_id, registry_id, seals=self._seals
            )
        if not known or ref.enterprise_project_id not in caller.enterprise_projects:
            raise NotFoundError(f"there is no registry {registry!r}")
        try:
            patient = self._admit(ref, await self._resolve(credential))
        except CredentialsNeededError as error:
            return _without_secret(known[0], error)
        try:
            return await _Round(known[0], patient).make()
        finally:
            await patient.aclose()


def _without_secret(status: RegistryStatus, error: CredentialsNeededError) -> Diagnosis:
    """What can be said of a registry whose secret is not to be had: nothing else."""
    found = [_skipped(check) for check in CHECKS]
    found[CHECKS.index("authentication")] = _failure("authentication", error)
    return Diagnosis(
        registry=status.name,
        kind=status.kind,
        observations=tuple(found),
        requests=0,
        seconds=0.0,
    )


def _skipped(check: str) -> Observation:
    said = (Phrase(code="needs_failed"),)
    return Observation(check=check, grade=Grade.SKIPPED, said=said)


def _failure(check: str, error: SourceError | CredentialsNeededError) -> Observation:
    return Observation(
        check=check,
        grade=Grade.FAILED,
        advice=error.code if error.code in ADVICE else "see_message",
        error_code=error.code,
        told=str(error)[:400],
        facts={"error_code": error.code},
    )


class _Round:
    """One examination; the checks in the order in which a sync would meet them."""

    def __init__(self, status: RegistryStatus, patient: Patient) -> None:
        self._status = status
        self._patient = patient
        self._found: list[Observation] = []
        self._repositories: list[RepositoryRef] = []
        self._total: int | None = None
        self._pages = 0
        self._sampled: list[_Sample] = []

    async def make(self) -> Diagnosis:
        began = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._examine()
        except TimeoutError:
            no_end = Phrase(code="no_end", values={"seconds": f"{LONGEST_S:.0f}"})
            self._add(self._next(), Grade.FAILED, no_end, advice="unreachable")
        done = {one.check for one in self._found}
        self._found += [_skipped(check) for check in CHECKS if check not in done]
        return Diagnosis(
            registry=self._status.name,
            kind=self._status.kind,
            observations=tuple(sorted(self._found, key=lambda one: CHECKS.index(one.check))),
            requests=self._patient.take_requests(),
            seconds=round(time.monotonic() - began, 3),
        )

    async def _examine(self) -> None:
        self._judge_fingerprint_trust()
        if not await self._reach():
            return
        if await self._list():
            self._judge_digests(await self._sample())
            self._estimate()
        self._judge_clock()
        self._judge_rate()

    # --- the steps ---

    async def _reach(self) -> bool:
        try:
            contact = await self._patient.contact()
        except SourceError as error:
            if isinstance(error, NotTrustedError):
                self._add("reach", Grade.OK, Phrase(code="host_answers"))
                self._failed("encryption", error)
            else:
                self._failed("reach", error)
            return False
        ms = round(contact.seconds * 1000, 1)
        self._add(
            "reach",
            Grade.OK,
            Phrase(
                code="answers_in",
                values={
                    "host": contact.host,
                    "addresses": ", ".join(contact.addresses),
                    "milliseconds": str(ms),
                },
            ),
            facts={"addresses": list(contact.addresses), "milliseconds": ms},
        )
        self._judge_encryption(contact)
        return True

    async def _list(self) -> bool:
        first: Page[RepositoryRef] | None = None
        try:
            async for page in self._patient.source.repositories(None):
                first = first or page
                self._repositories += page.items
                self._pages += 1
                self._total = page.total
                if page.total is not None or page.next is None or self._pages == COUNTED_PAGES:
                    self._total = len(self._repositories) if page.next is None else page.total
                    break
        except SourceError as error:
            refused = error.code in ("unauthorised", "credentials_needed")
            if not refused:
                self._add("authentication", Grade.OK, Phrase(code="not_refused"))
            self._failed("authentication" if refused else "catalog", error)
            return False
        self._add("authentication", Grade.OK, Phrase(code="accepted"))
        self._judge_catalog()
        self._judge_paging(first or Page(items=(), next=None))
        return True

    async def _sample(self) -> list[TagRef]:
        tags: list[TagRef] = []
        try:
            for repository in _spread(self._repositories, SAMPLE_REPOSITORIES):
                sample = await self._read(repository)
                self._sampled.append(sample)
                tags += sample.tags
        except SourceError as error:
            self._failed("tags", error)
            return []
        if not self._sampled:
            self._add("tags", Grade.SKIPPED, Phrase(code="no_repository"))
            return []
        paths = [_path(sample.repository) for sample in self._sampled]
        self._add(
            "tags",
            Grade.OK,
            Phrase(code="tags_read", values={"tags": len(tags), "repositories": len(paths)}),
            facts={"repositories": paths, "tags": len(tags)},
        )
        return tags

    async def _read(self, repository: RepositoryRef) -> _Sample:
        sample = _Sample(repository)
        with self._patient.counting() as count:
            async for page in self._patient.source.tags(repository, None):
                sample.tags += page.items
                sample.whole = page.next is None
                sample.total = page.total
                sample.pages += 1
                if sample.pages == SAMPLE_PAGES:
                    break
            sample.listing_requests = count.requests
            bare = [tag for tag in sample.tags if tag.image is None][:SAMPLE_DESCRIBED]
            if bare:
                async for _ in self._patient.source.describe(repository, bare):
                    sample.described += 1
            sample.describing_requests = count.requests - sample.listing_requests
        return sample

    # --- the judgements ---

    def _judge_encryption(self, contact: Contact) -> None:
        certificate = contact.certificate
        if certificate is None:
            nothing = Phrase(code="nothing_encrypted")
            self._add("encryption", Grade.NOTE, nothing, advice="encrypt")
            return
        left = certificate.ends_at - dt.datetime.now(dt.UTC)
        soon = left < CERTIFICATE_ENDS_SOON
        told = {"version": certificate.version, "issuer": certificate.issuer}
        self._add(
            "encryption",
            Grade.NOTE if soon else Grade.OK,
            Phrase(code="certificate", values={**told, "days": left.days}),
            advice="renew_certificate" if soon else None,
            facts={**told, "ends_at": certificate.ends_at},
        )

    def _judge_catalog(self) -> None:
        exact = self._total is not None
        known = len(self._repositories) if self._total is None else self._total
        code = "lists" if exact else "lists_or_more"
        self._add(
            "catalog",
            Grade.OK if known else Grade.NOTE,
            Phrase(code=code, values={"count": known}) if known else Phrase(code="lists_nothing"),
            advice=None if known else "may_not_list",
            facts={"repositories": known, "is_exact": exact},
        )

    def _judge_paging(self, page: Page[RepositoryRef]) -> None:
        if page.next is None:
            self._add("paging", Grade.OK, Phrase(code="one_page"))
            return
        cursor = page.next
        facts = {"api": cursor.api, "page_size": cursor.page_size, "sort": cursor.sort}
        if cursor.resumable:
            self._add("paging", Grade.OK, Phrase(code="by_marker"), facts=facts)
            return
        by_offset = Phrase(code="by_offset")
        self._add("paging", Grade.NOTE, by_offset, advice="quieter_hour", facts=facts)

    def _judge_digests(self, tags: Sequence[TagRef]) -> None:
        if not tags:
            self._add("digests", Grade.SKIPPED, Phrase(code="no_tag"))
            return
        manifests = [
            exchange
            for exchange in self._patient.exchanges
            if "/manifests/" in exchange.url and exchange.status == 200
        ]
        bare = [e for e in manifests if "docker-content-digest" not in e.headers]
        if bare:
            self._add(
                "digests",
                Grade.NOTE,
                Phrase(code="digests_unnamed"),
                advice="name_digests",
                facts={"manifests": len(manifests), "without_header": len(bare)},
            )
            return
        code = "digests_with_manifests" if manifests else "digests_in_list"
        self._add("digests", Grade.OK, Phrase(code=code))

    def _judge_clock(self) -> None:
        skews = [
            (exchange.server_time - exchange.at).total_seconds()
            for exchange in self._patient.exchanges
            if exchange.server_time is not None
        ]
        if not skews:
            self._add("clock", Grade.NOTE, Phrase(code="clock_untold"))
            return
        skew_s = round(statistics.median(skews), 1)
        off = abs(skew_s) > SKEW_NOTED_S
        signs = self._status.credential_kind == "access_key"
        fatal = abs(skew_s) > SKEW_FATAL_S and signs
        self._add(
            "clock",
            Grade.FAILED if fatal else Grade.NOTE if off else Grade.OK,
            Phrase(
                code="clock_ahead" if skew_s > 0 else "clock_behind",
                values={"seconds": f"{abs(skew_s):.0f}"},
            )
            if off
            else Phrase(code="clock_agrees"),
            advice="set_clock" if off else None,
            facts={"seconds": skew_s},
        )

    def _judge_rate(self) -> None:
        refused = self._patient.refused
        stated = {
            name: value
            for exchange in self._patient.exchanges
            for name, value in exchange.headers.items()
            if "ratelimit" in name
        }
        rate = self._patient.learned_rate()
        limited = refused > 0 or rate is not None
        said = []
        if refused:
            said.append(Phrase(code="refused", values={"count": refused}))
        if rate is not None:
            said.append(Phrase(code="learned", values={"rate": f"{rate:.1f}"}))
        if stated:
            said.append(Phrase(code="limit_stated"))
        asked = len(self._patient.exchanges)
        self._add(
            "rate",
            Grade.NOTE if limited else Grade.OK,
            *(said or [Phrase(code="no_limit", values={"count": asked})]),
            advice="throttled" if limited else None,
            facts={"refused": refused, "per_second": rate, "stated": stated},
        )

    def _judge_fingerprint_trust(self) -> None:
        status = self._status
        facts = {"lies": status.fingerprint_lies, "flickers": status.flickers}
        if status.fingerprint_lies:
            lies = Phrase(code="lies", values={"count": status.fingerprint_lies})
            self._add("fingerprints", Grade.NOTE, lies, advice="longer_syncs", facts=facts)
            return
        known = status.read_at is not None
        said = Phrase(code="fingerprints_hold" if known else "fingerprints_unknown")
        self._add("fingerprints", Grade.OK, said, facts=facts)

    def _estimate(self) -> None:
        if not self._sampled:
            if not self._repositories:
                self._add("size", Grade.OK, Phrase(code="no_images"), facts={"images": 0})
                nothing = Phrase(code="nothing_to_read")
                self._add("first_sync", Grade.OK, nothing, facts={"requests": 1})
            return
        repositories = self._total or len(self._repositories)
        images = round(repositories * statistics.mean(s.count for s in self._sampled))
        how_sure = "about" if self._total is not None else "at_least"
        self._add(
            "size",
            Grade.OK,
            Phrase(
                code=f"images_{how_sure}",
                values={
                    "images": f"{images:,}",
                    "repositories": f"{repositories:,}",
                    "sampled": len(self._sampled),
                },
            ),
            facts={"images": images, "repositories": repositories, "sampled": len(self._sampled)},
        )
        page = max(1, len(self._repositories) // self._pages)
        each = statistics.mean(s.requests for s in self._sampled)
        requests = round(-(-repositories // page) + repositories * each)
        seconds = self._seconds_of(requests)
        self._add(
            "first_sync",
            Grade.OK,
            Phrase(
                code=f"requests_{how_sure}",
                values={"requests": f"{requests:,}", "duration": _duration(seconds)},
            ),
            facts={"requests": requests, "seconds": round(seconds)},
        )

    def _seconds_of(self, requests: int) -> float:
        """How long requests take: by the answers' own time, and by the rate the host bears."""
        answers = [exchange.seconds for exchange in self._patient.exchanges]
        by_time = requests * statistics.median(answers) / self._patient.concurrency
        rate = self._patient.learned_rate()
        return by_time if rate is None else max(by_time, requests / rate)

    # --- writing it down ---

    def _failed(self, check: str, error: SourceError) -> None:
        self._found.append(_failure(check, error))

    def _next(self) -> str:
        done = {one.check for one in self._found}
        return next((check for check in CHECKS if check not in done), CHECKS[-1])

    def _add(
        self,
        check: str,
        grade: Grade,
        *said: Phrase,
        advice: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._found.append(
            Observation(check=check, grade=grade, said=said, advice=advice, facts=facts or {})
        )


class _Sample:
    """What reading one repository told."""

    def __init__(self, repository: RepositoryRef) -> None:
        self.repository = repository
        self.tags: list[TagRef] = []
        self.total: int | None = None
        self.pages = 0
        self.whole = False
        self.listing_requests = 0
        self.described = 0
        self.describing_requests = 0

    @property
    def count(self) -> int:
        """How many images it has: as read, or as its list or its row say."""
        if self.whole:
            return len(self.tags)
        return max(len(self.tags), self.total or self.repository.images or 0)

    @property
    def requests(self) -> float:
        """How many requests reading all of it takes."""
        listing = self.listing_requests * self.count / max(1, len(self.tags))
        describing = self.describing_requests / max(1, self.described)
        bare = sum(tag.image is None for tag in self.tags) / max(1, len(self.tags))
        return max(self.listing_requests, listing) + describing * bare * self.count


def _spread(found: Sequence[RepositoryRef], most: int) -> list[RepositoryRef]:
    """Some of a list, from its beginning to its end."""
    if len(found) <= most:
        return list(found)
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]


def _path(repository: RepositoryRef) -> str:
    parts = (repository.namespace, repository.name)
    return "/".join(part for part in parts if part)


def _duration(seconds: float) -> Phrase:
    if seconds < 1:
        return Phrase(code="under_a_second")
    if seconds < 120:
        return Phrase(code="seconds", values={"count": f"{seconds:.0f}"})
    return Phrase(code="minutes", values={"count": f"{seconds / 60:.0f}"})
