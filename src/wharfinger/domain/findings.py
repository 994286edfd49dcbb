"""What the doctor found, in English words: those of the command line and of our own API."""

from __future__ import annotations

from wharfinger.domain.advice import ADVICE
from wharfinger.domain.examination import Diagnosis, Examination, Finding, Observation, Phrase

SENTENCES = {
    "needs_failed": "needs what has failed",
    "no_end": "no end after {seconds} s",
    # reach
    "host_answers": "the host answers",
    "answers_in": "{host} ({addresses}) answers in {milliseconds} ms",
    # encryption
    "nothing_encrypted": "nothing is encrypted: names, tags and credentials can be read on the way",
    "certificate": "{version}, certificate of {issuer}, ends in {days} days",
    # authentication
    "not_refused": "the registry did not refuse the credentials",
    "accepted": "the registry accepts the credentials",
    # catalog
    "lists_nothing": "the registry lists no repository",
    "lists": "the registry lists {count} repositories",
    "lists_or_more": "the registry lists {count} or more repositories",
    # paging
    "one_page": "the whole list fits on one page",
    "by_marker": "pages follow a marker: an interrupted listing goes on where it was",
    "by_offset": "pages go by offset: a listing during which the registry changes begins again",
    # tags
    "no_repository": "there is no repository to read",
    "tags_read": "{tags} tags of {repositories} repositories were read",
    # digests
    "no_tag": "there is no tag to look at",
    "digests_unnamed": "the registry does not name the digests of manifests: each is read and"
    " hashed",
    "digests_with_manifests": "the registry names digests with each manifest",
    "digests_in_list": "the registry names digests in its list of tags",
    # clock
    "clock_untold": "the registry does not tell the time",
    "clock_ahead": "the registry's clock is {seconds} s ahead",
    "clock_behind": "the registry's clock is {seconds} s behind",
    "clock_agrees": "the registry's clock and ours agree",
    # rate
    "refused": "{count} requests were refused",
    "learned": "{rate} requests a second were learned to be borne",
    "limit_stated": "the registry states a limit",
    "no_limit": "no limit was met with {count} requests",
    # fingerprints
    "lies": "{count} changes stood behind an unchanged row: every sync reads everything",
    "fingerprints_unknown": "not known before the first syncs",
    "fingerprints_hold": "no change was ever found behind an unchanged row",
    # size, first_sync
    "no_images": "0 images",
    "images_about": "about {images} images in {repositories} repositories, going by {sampled} of"
    " them",
    "images_at_least": "at least about {images} images in {repositories} repositories, going by"
    " {sampled} of them",
    "nothing_to_read": "nothing to read",
    "requests_about": "about {requests} requests, {duration}",
    "requests_at_least": "at least about {requests} requests, {duration}",
    "under_a_second": "less than a second",
    "seconds": "{count} s",
    "minutes": "{count} minutes",
}
# What to do about what is no reason of a list that is not complete.
STEPS = {
    "encrypt": "Use https, with registry set --ca-file for a CA of your own.",
    "renew_certificate": "Have the registry's certificate renewed.",
    "may_not_list": "If it has some, the credentials may not list them.",
    "quieter_hour": "Nothing to do; of a registry that changes all the time, sync at a quieter"
    " hour.",
    "name_digests": "A newer version of the registry, or a proxy that passes Docker-Content-Digest"
    " on, would save that.",
    "set_clock": "Set this machine's clock, or the registry's; signatures end 15 minutes off.",
    "longer_syncs": "Nothing to do; syncs of this registry take longer.",
    "see_message": "See the message.",
}


def in_english(found: Diagnosis) -> Examination:
    """Put what was found into words."""
    return Examination(
        registry=found.registry,
        kind=found.kind,
        ok=found.ok,
        findings=tuple(_finding(one) for one in found.observations),
        requests=found.requests,
        seconds=found.seconds,
    )


def _finding(one: Observation) -> Finding:
    advice = None if one.advice is None else (STEPS.get(one.advice) or ADVICE[one.advice])
    message = one.told or "; ".join(_worded(phrase) for phrase in one.said)
    return Finding(
        check=one.check, grade=one.grade, message=message, advice=advice, facts=one.facts
    )


def _worded(phrase: Phrase) -> str:
    values = {
        name: _worded(value) if isinstance(value, Phrase) else value
        for name, value in phrase.values.items()
    }
    return SENTENCES[phrase.code].format(**values)
