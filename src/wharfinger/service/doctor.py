"""A dry run of a registry: every step of a sync is tried once, and nothing is stored."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from wharfinger.domain.advice import ADVICE
from wharfinger.domain.errors import (
    CredentialsNeededError,
    NotFoundError,
    NotTrustedError,
    SourceError,
)
from wharfinger.domain.examination import Contact, Examination, Exchange, Finding, Grade
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
        """Examine a registry, given by name or id, for a minute at most.

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


def _without_secret(status: RegistryStatus, error: CredentialsNeededError) -> Examination:
    """What can be said of a registry whose secret is not to be had: nothing else."""
    findings = [
        Finding(check=check, grade=Grade.SKIPPED, message="needs what has failed")
        for check in CHECKS
    ]
    findings[CHECKS.index("authentication")] = Finding(
        check="authentication",
        grade=Grade.FAILED,
        message=str(error),
        advice=ADVICE[error.code],
        facts={"error_code": error.code},
    )
    return Examination(
        registry=status.name,
        kind=status.kind,
        ok=False,
        findings=tuple(findings),
        requests=0,
        seconds=0.0,
    )


class _Round:
    """One examination; the checks in the order in which a sync would meet them."""

    def __init__(self, status: RegistryStatus, patient: Patient) -> None:
        self._status = status
        self._patient = patient
        self._findings: list[Finding] = []
        self._repositories: list[RepositoryRef] = []
        self._total: int | None = None
        self._pages = 0
        self._sampled: list[_Sample] = []

    async def make(self) -> Examination:
        began = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._examine()
        except TimeoutError:
            self._add(
                self._next(), Grade.FAILED, f"no end after {LONGEST_S:.0f} s", ADVICE["unreachable"]
            )
        done = {finding.check for finding in self._findings}
        for check in CHECKS:
            if check not in done:
                self._add(check, Grade.SKIPPED, "needs what has failed")
        order = sorted(self._findings, key=lambda finding: CHECKS.index(finding.check))
        return Examination(
            registry=self._status.name,
            kind=self._status.kind,
            ok=all(finding.grade is not Grade.FAILED for finding in order),
            findings=tuple(order),
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
                self._add("reach", Grade.OK, "the host answers")
                self._failed("encryption", error)
            else:
                self._failed("reach", error)
            return False
        ms = round(contact.seconds * 1000, 1)
        where = ", ".join(contact.addresses)
        self._add(
            "reach",
            Grade.OK,
            f"{contact.host} ({where}) answers in {ms} ms",
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
                self._add("authentication", Grade.OK, "the registry did not refuse the credentials")
            self._failed("authentication" if refused else "catalog", error)
            return False
        self._add("authentication", Grade.OK, "the registry accepts the credentials")
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
            self._add("tags", Grade.SKIPPED, "there is no repository to read")
            return []
        paths = [_path(sample.repository) for sample in self._sampled]
        self._add(
            "tags",
            Grade.OK,
            f"{len(tags)} tags of {len(paths)} repositories were read",
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
            self._add(
                "encryption",
                Grade.NOTE,
                "nothing is encrypted: names, tags and credentials can be read on the way",
                "Use https, with registry set --ca-file for a CA of your own.",
            )
            return
        left = certificate.ends_at - dt.datetime.now(dt.UTC)
        soon = left < CERTIFICATE_ENDS_SOON
        self._add(
            "encryption",
            Grade.NOTE if soon else Grade.OK,
            f"{certificate.version}, certificate of {certificate.issuer}, ends in {left.days} days",
            "Have the registry's certificate renewed." if soon else None,
            facts={
                "version": certificate.version,
                "issuer": certificate.issuer,
                "ends_at": certificate.ends_at,
            },
        )

    def _judge_catalog(self) -> None:
        found = len(self._repositories)
        known, more = (found, " or more") if self._total is None else (self._total, "")
        nothing = known == 0
        self._add(
            "catalog",
            Grade.NOTE if nothing else Grade.OK,
            "the registry lists no repository"
            if nothing
            else f"the registry lists {known}{more} repositories",
            "If it has some, the credentials may not list them." if nothing else None,
            facts={"repositories": known, "is_exact": not more},
        )

    def _judge_paging(self, page: Page[RepositoryRef]) -> None:
        if page.next is None:
            self._add("paging", Grade.OK, "the whole list fits on one page")
            return
        cursor = page.next
        facts = {"api": cursor.api, "page_size": cursor.page_size, "sort": cursor.sort}
        if cursor.resumable:
            message = "pages follow a marker: an interrupted listing goes on where it was"
            self._add("paging", Grade.OK, message, facts=facts)
            return
        self._add(
            "paging",
            Grade.NOTE,
            "pages go by offset: a listing during which the registry changes begins again",
            "Nothing to do; of a registry that changes all the time, sync at a quieter hour.",
            facts=facts,
        )

    def _judge_digests(self, tags: Sequence[TagRef]) -> None:
        if not tags:
            self._add("digests", Grade.SKIPPED, "there is no tag to look at")
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
                "the registry does not name the digests of manifests: each is read and hashed",
                "A newer version of the registry, or a proxy that passes Docker-Content-Digest on,"
                " would save that.",
                facts={"manifests": len(manifests), "without_header": len(bare)},
            )
            return
        how = "with each manifest" if manifests else "in its list of tags"
        self._add("digests", Grade.OK, f"the registry names digests {how}")

    def _judge_clock(self) -> None:
        skews = [
            (exchange.server_time - exchange.at).total_seconds()
            for exchange in self._patient.exchanges
            if exchange.server_time is not None
        ]
        if not skews:
            self._add("clock", Grade.NOTE, "the registry does not tell the time")
            return
        skew_s = round(statistics.median(skews), 1)
        off = abs(skew_s) > SKEW_NOTED_S
        signs = self._status.credential_kind == "access_key"
        fatal = abs(skew_s) > SKEW_FATAL_S and signs
        self._add(
            "clock",
            Grade.FAILED if fatal else Grade.NOTE if off else Grade.OK,
            f"the registry's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
            if off
            else "the registry's clock and ours agree",
            "Set this machine's clock, or the registry's; signatures end 15 minutes off."
            if off
            else None,
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
        words = [
            f"{refused} requests were refused" if refused else "",
            f"{rate:.1f} requests a second were learned to be borne" if rate is not None else "",
            "the registry states a limit" if stated else "",
        ]
        told = "; ".join(word for word in words if word)
        self._add(
            "rate",
            Grade.NOTE if limited else Grade.OK,
            told or f"no limit was met with {len(self._patient.exchanges)} requests",
            ADVICE["throttled"] if limited else None,
            facts={"refused": refused, "per_second": rate, "stated": stated},
        )

    def _judge_fingerprint_trust(self) -> None:
        status = self._status
        facts = {"lies": status.fingerprint_lies, "flickers": status.flickers}
        if status.fingerprint_lies:
            self._add(
                "fingerprints",
                Grade.NOTE,
                f"{status.fingerprint_lies} changes stood behind an unchanged row: every sync reads"
                " everything",
                "Nothing to do; syncs of this registry take longer.",
                facts=facts,
            )
        elif status.read_at is None:
            message = "not known before the first syncs"
            self._add("fingerprints", Grade.OK, message, facts=facts)
        else:
            message = "no change was ever found behind an unchanged row"
            self._add("fingerprints", Grade.OK, message, facts=facts)

    def _estimate(self) -> None:
        if not self._sampled:
            if not self._repositories:
                self._add("size", Grade.OK, "0 images", facts={"images": 0})
                self._add("first_sync", Grade.OK, "nothing to read", facts={"requests": 1})
            return
        repositories = self._total or len(self._repositories)
        images = round(repositories * statistics.mean(s.count for s in self._sampled))
        least = "" if self._total is not None else "at least "
        self._add(
            "size",
            Grade.OK,
            f"{least}about {images:,} images in {repositories:,} repositories, going by"
            f" {len(self._sampled)} of them",
            facts={"images": images, "repositories": repositories, "sampled": len(self._sampled)},
        )
        page = max(1, len(self._repositories) // self._pages)
        each = statistics.mean(s.requests for s in self._sampled)
        requests = round(-(-repositories // page) + repositories * each)
        seconds = self._seconds_of(requests)
        self._add(
            "first_sync",
            Grade.OK,
            f"{least}about {requests:,} requests, {_duration(seconds)}",
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
        advice = ADVICE.get(error.code, "See the message.")
        self._add(check, Grade.FAILED, str(error)[:400], advice, facts={"error_code": error.code})

    def _next(self) -> str:
        done = {finding.check for finding in self._findings}
        return next((check for check in CHECKS if check not in done), CHECKS[-1])

    def _add(
        self,
        check: str,
        grade: Grade,
        message: str,
        advice: str | None = None,
        *,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self._findings.append(
            Finding(check=check, grade=grade, message=message, advice=advice, facts=facts or {})
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


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes"
