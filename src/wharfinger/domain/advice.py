"""What to do about each reason why a list is not complete, in words a user can act on."""

from __future__ import annotations

from wharfinger.domain.history import Advised
from wharfinger.domain.model import Reason

ADVICE = {
    "unreachable": "Check the address, the network and the certificate: wharfinger registry test.",
    "throttled": "Nothing to do: the rate was lowered and the next run goes on. If it stays, lower"
    " WHARFINGER_HOST_CONCURRENCY or ask the registry's operator for a higher limit.",
    "upstream_failure": "The registry itself is failing; look at its health, then sync again.",
    "malformed": "What answers may not be the registry: look for a proxy or a login page at the"
    " address.",
    "list_moved": "The list changed faster than it could be read; sync again at a quieter time.",
    "unauthorised": "The registry refuses the credentials: give good ones with wharfinger registry"
    " set.",
    "credentials_needed": "Give the secret with wharfinger registry set, or repair the place that"
    " --secret-from names; the worker's log says what is wrong there.",
    "forbidden": "The credentials are known but may not read this: grant them the permission to"
    " list repositories and tags.",
    "missing": "Gone, or hidden from these credentials: see that they may read the repository.",
    "unsupported": "The registry offers no such listing: name the repositories with wharfinger"
    " registry set --repository NAME.",
    "cursor_refused": "The registry forgot its own page; sync again.",
    "list_loop": "The registry's paging goes round in circles: report it to its operator.",
    "address_refused": "The address is in a network that is not allowed: see"
    " WHARFINGER_ALLOW_NETWORKS.",
    "too_large": "The answer was larger than any honest one: look at what answers at the address.",
    "unexpected": "The registry answered in a way its protocol does not know: report it.",
    "held": "Look at what would be retired with wharfinger registry held, then accept it or repair"
    " the registry.",
    "suspiciously_empty": "The registry listed nothing where images were: see what the credentials"
    " can list. If it is empty indeed, say so with wharfinger registry accept.",
    "second_look": "Nothing to do: the next sync decides. The registry has contradicted itself"
    " before; see --two-strikes of wharfinger registry set.",
    "referrers_unread": "The list is right; only signatures, SBOMs and attestations may be older"
    " than it. The next sync asks again. If it stays, see that the credentials may pull, or have"
    " nobody ask: wharfinger registry set --option referrers=false.",
    "internal": "A fault of Wharfinger's own: the worker's log has it; please report it.",
    "removed": "The registry was removed while it was read.",
}


def advised(reason: Reason) -> Advised:
    """A reason with its advice."""
    return Advised(
        code=reason.code,
        message=reason.message,
        repository=reason.repository,
        advice=ADVICE.get(reason.code, "See the message; sync again once it is dealt with."),
    )
