"""Rows of a stored list, written by SQL and not by the code under test."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

import psycopg

AT = dt.datetime(2026, 11, 24, 1, 2, 3, 456789, dt.UTC)
AT_MS = 1795482123456


@dataclass
class Rows:
    """Writes rows of one project as the owner of the tables."""

    id: str
    sql: psycopg.Connection

    def registry(self, name="swr", kind="SwrPrivate", **columns) -> str:
        given = {
            "verdict": "complete",
            "confirmed_at": AT,
            # The rows have a date of their own, whatever the date of the test.
            "stale_after": "10000 days",
            "address": "https://swr.example/root",
        }
        return self._insert(
            "registry", {"project_id": self.id, "name": name, "kind": kind} | given | columns
        )

    def repository(self, registry, namespace="team", name="app", **columns) -> int:
        given = {"verdict": "complete", "listed_at": AT - dt.timedelta(hours=1)}
        return self._insert(
            "repository",
            {"project_id": self.id, "registry_id": registry, "namespace": namespace, "name": name}
            | given
            | columns,
        )

    def image(self, registry, repository, tag="v1", latest=False, **columns) -> int:
        digest = "sha256:" + uuid.uuid5(uuid.NAMESPACE_OID, f"{repository}/{tag}").hex * 2
        given = {"digest": digest, "image_id": "c" * 64, "size": 1000, "updated_at": AT}
        image = self._insert(
            "image",
            {
                "project_id": self.id,
                "registry_id": registry,
                "repository_id": repository,
                "tag": tag,
            }
            | given
            | columns,
        )
        if columns.get("retired_at") is None and not columns.get("artifact_type"):
            self.sql.execute(
                "UPDATE repository SET live_images = live_images + 1,"
                " latest_image_id = CASE WHEN %s THEN %s ELSE latest_image_id END WHERE id = %s",
                (latest, image, repository),
            )
        return image

    def published(self) -> None:
        """Say that the list has changed, as every batch does that changes it."""
        self.sql.execute(
            "INSERT INTO tenant_feed (project_id, revision) VALUES (%s, 1)"
            " ON CONFLICT (project_id) DO UPDATE SET revision = tenant_feed.revision + 1",
            (self.id,),
        )

    def _insert(self, table, columns):
        names = ", ".join(columns)
        marks = ", ".join(["%s"] * len(columns))
        cursor = self.sql.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id", tuple(columns.values())
        )
        return cursor.fetchone()[0]
