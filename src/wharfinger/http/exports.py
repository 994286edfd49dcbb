"""The image list in other tools' formats, encoded part by part so that memory stays flat."""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from wharfinger.domain.errors import ExtraMissingError
from wharfinger.domain.history import PastImage
from wharfinger.domain.inventory import ListedImage
from wharfinger.http.api.wire import AttachmentItem, ImageItem, StreamEnd, listed_item, past_item
from wharfinger.http.cyclonedx import CYCLONEDX, SPEC_VERSION, BomEncoder
from wharfinger.service.exports import Export, Part

CSV = "text/csv"
NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"

# Rows of a row group: what a reader of Parquet has to hold at once, and so have we.
ROW_GROUP = 20_000
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Encoder(Protocol):
    """Writes one list. Each method returns the bytes that have come to be."""

    def begin(self, export: Export) -> bytes:
        """What stands before the first image."""
        ...

    def rows(self, part: Part) -> bytes:
        """Some images."""
        ...

    def end(self, images: int) -> bytes:
        """What stands after the last of so many images."""
        ...


class Format(msgspec.Struct, frozen=True):
    """A format: its name, media type and parameters, how its files end, and who writes it."""

    name: str
    media_type: str
    parameters: str
    suffix: str
    encoder: Callable[[], Encoder]


async def encoded(export: Export, encoder: Encoder) -> AsyncGenerator[bytes, None]:
    """The bytes of a list, in pieces. Without the last one something is missing."""
    images = 0
    if piece := encoder.begin(export):
        yield piece
    async for part in export.parts:
        images += len(part)
        # In a thread, so that a large part does not keep everybody else waiting.
        if piece := await asyncio.to_thread(encoder.rows, part):
            yield piece
    if piece := await asyncio.to_thread(encoder.end, images):
        yield piece


def items_of(part: Iterable[ListedImage | PastImage]) -> list[ImageItem]:
    """Images as our own API words them."""
    return [listed_item(i) if isinstance(i, ListedImage) else past_item(i) for i in part]


class NdjsonEncoder:
    """A line an image, and a last one that says that nothing is missing."""

    def __init__(self) -> None:
        self._json = msgspec.json.Encoder()

    def begin(self, export: Export) -> bytes:
        """Nothing stands first."""
        self._export = export
        return b""

    def rows(self, part: Part) -> bytes:
        """A line each."""
        return self._json.encode_lines(items_of(part))

    def end(self, images: int) -> bytes:
        """The last line."""
        export = self._export
        end = StreamEnd(end=True, images=images, as_of=export.as_of, verdict=export.verdict)
        return self._json.encode_lines([end])


class CsvEncoder:
    """RFC 4180 in UTF-8: a header, and a record an image.

    A cell that a spreadsheet would take for a formula gets an apostrophe before it, which makes
    it text there.
    """

    def begin(self, export: Export) -> bytes:  # noqa: ARG002 - the state has no place in CSV
        """The header, which is the same for every list."""
        return csv_records([COLUMNS])

    def rows(self, part: Part) -> bytes:
        """A record each."""
        return csv_records(map(csv_cells, items_of(part)))

    def end(self, images: int) -> bytes:  # noqa: ARG002 - CSV has no end
        """Nothing stands last."""
        return b""


COLUMNS = ImageItem.__struct_fields__


def csv_cells(item: ImageItem) -> list[str]:
    """The cells of one image, in the order of ``COLUMNS``."""
    values: dict[str, Any] = msgspec.to_builtins(item)
    labels = values["labels"] or {}
    values["labels"] = ";".join(f"{key}={value}" for key, value in sorted(labels.items()))
    values["attachments"] = ";".join(f"{a.kind}={a.digest}" for a in item.attachments or ())
    return [_cell(value) for value in values.values()]


def csv_records(records: Iterable[Sequence[str]]) -> bytes:
    """Some records as they are written."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(records)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


class ParquetEncoder:
    """Apache Parquet by pyarrow, a row group for every ``ROW_GROUP`` images.

    Raises:
        ExtraMissingError: pyarrow is not installed.
    """

    def __init__(self) -> None:
        self._arrow = optional_module("pyarrow", extra="parquet")
        self._parquet = optional_module("pyarrow.parquet", extra="parquet")
        self._sink = _Sink()
        self._waiting: list[ImageItem] = []

    def begin(self, export: Export) -> bytes:
        """The magic number; the state is told at the end, in the file's metadata."""
        self._schema = self._columns().with_metadata(_facts(export))
        self._writer = self._parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        return self._sink.taken()

    def rows(self, part: Part) -> bytes:
        """A row group, once there is enough for one."""
        self._waiting += items_of(part)
        if len(self._waiting) >= ROW_GROUP:
            self._write()
        return self._sink.taken()

    def end(self, images: int) -> bytes:  # noqa: ARG002 - the file counts its rows itself
        """The last row group, and the footer, without which nobody can read the file."""
        if self._waiting:
            self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        rows = [msgspec.structs.asdict(item) for item in self._waiting]
        self._waiting = []
        for row in rows:
            row["labels"] = None if row["labels"] is None else sorted(row["labels"].items())
            if row["attachments"] is not None:
                row["attachments"] = [msgspec.structs.asdict(one) for one in row["attachments"]]
        table = self._arrow.Table.from_pylist(rows, schema=self._schema)
        self._writer.write_table(table, row_group_size=ROW_GROUP)

    def _columns(self) -> Any:
        arrow = self._arrow
        text, moment = arrow.string(), arrow.timestamp("us", tz="UTC")
        other = {
            "id": arrow.int64(),
            "size": arrow.int64(),
            "updated_at": moment,
            "confirmed_at": moment,
            "latest": arrow.bool_(),
            "multi_arch": arrow.bool_(),
            "labels": arrow.map_(text, text),
            **dict.fromkeys(("signed", "has_sbom", "has_attestation"), arrow.bool_()),
            "attachments": arrow.list_(
                arrow.struct([(name, text) for name in AttachmentItem.__struct_fields__])
            ),
        }
        # What is not known of a past moment, and the tag of an untagged image.
        may_lack = {"tag", "confirmed_at", "latest", "labels", "attachments"}
        may_lack |= {"signed", "has_sbom", "has_attestation"}
        return arrow.schema(
            arrow.field(name, other.get(name, text), nullable=name in may_lack) for name in COLUMNS
        )


def _facts(export: Export) -> dict[str, str]:
    return {
        "wharfinger.project": export.project_id,
        "wharfinger.as_of": str(export.as_of),
        "wharfinger.at": export.at.isoformat(),
        "wharfinger.verdict": export.verdict.value,
    }


class _Sink(io.RawIOBase):
    """Takes what is written, until somebody takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def optional_module(name: str, *, extra: str) -> Any:
    """A module of an extra of this package.

    Raises:
        ExtraMissingError: the extra is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise ExtraMissingError(name.partition(".")[0], extra) from exc


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format("csv", CSV, "; charset=utf-8; header=present", "csv", CsvEncoder),
        Format("ndjson", NDJSON, "", "ndjson", NdjsonEncoder),
        Format("parquet", PARQUET, "", "parquet", ParquetEncoder),
        Format("cyclonedx", CYCLONEDX, f"; version={SPEC_VERSION}", "cdx.json", BomEncoder),
    )
}
