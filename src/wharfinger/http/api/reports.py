"""The route of a run's report, for people and for programs."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from wharfinger.domain.report import RunReport, as_markdown
from wharfinger.http.api.call import TheApiCall
from wharfinger.http.services import TheServices
from wharfinger.service.report import report_of

REPORT_FORMATS = ("json", "markdown")


@get("/runs/{run_id:str}/report", action="wharfinger:runs:get")
async def show_report(
    call: TheApiCall, services: TheServices, run_id: FromPath[str]
) -> Response[RunReport]:
    """A run in words: its verdict, what changed, what went wrong and what to do."""
    form = call.query.choice("format", REPORT_FORMATS)
    registry = call.query.text("registry_id", longest=64)
    report = await report_of(services.history, call.caller, run_id, registry=registry)
    if form == "markdown":
        text = as_markdown(report).encode()
        return Response(text, media_type="text/markdown")  # type: ignore[arg-type]
    return Response(report)
