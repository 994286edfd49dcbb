"""What a scrape brought, read by the reader of Prometheus's own client library."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

OPEN = "application/openmetrics-text; version=1.0.0"


class Scrape:
    """Samples by name and labels."""

    def __init__(self, text: str, content_type: str = "text/plain") -> None:
        self.text = text
        self.content_type = content_type
        read = open_metrics if content_type.startswith("application/openmetrics") else plain
        self.families = list(read(text))
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((f"wharfinger_{name}", tuple(sorted(labels.items()))))

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of a name: the values of its labels, in the order of the labels' names."""
        return {
            tuple(value for _, value in labels): found
            for (one, labels), found in self.samples.items()
            if one == f"wharfinger_{name}"
        }


async def scrape(session, url, *, token=None, accept="") -> Scrape:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with session.get(f"{url}/metrics", headers={**headers, "Accept": accept}) as answer:
        assert answer.status == 200, (answer.status, await answer.text())
        return Scrape(await answer.text(), answer.headers["Content-Type"])
