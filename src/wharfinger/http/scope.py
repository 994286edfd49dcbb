"""What the edge writes into the scope of a request, for those further in."""

from __future__ import annotations

REQUEST_ID = "wharfinger.request_id"
# The method as it was sent: a HEAD is routed as a GET.
METHOD = "wharfinger.method"
