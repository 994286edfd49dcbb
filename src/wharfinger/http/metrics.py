"""The route of the metrics, for whoever brings the token of the monitoring."""

from __future__ import annotations

from litestar import Response, get

from wharfinger.domain.errors import NotAuthenticatedError
from wharfinger.http.failures import AnyRequest
from wharfinger.http.services import TheServices


@get("/metrics")
async def show_metrics(request: AnyRequest, services: TheServices) -> Response[bytes]:
    """Everything for Prometheus; needs the token of the monitoring."""
    exposition = services.exposition
    given = request.headers.get("authorization", "")
    if exposition is None or not exposition.admits(given):
        raise NotAuthenticatedError(
            "metrics need the bearer token of the monitoring", reason="metrics_token"
        )
    text, content_type = await exposition.word(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})
