"""What both editions of SWR share on the wire: parameters, and the bodies of errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from wharfinger.testing.faults import Answer, json_answer


class SwrRefusedError(Exception):
    """SWR refuses the request: a status, a code behind ``SVCSTG.SWR.``, a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = f"SVCSTG.SWR.{code}"
        self.message = message


def error_answer(status: int, code: str, message: str, *, generation: int = 3) -> Answer:
    """An error body of SWR.

    Args:
        status: the HTTP status.
        code: the whole code, ``SVCSTG.SWR.…``.
        message: its text.
        generation: 1 the old array, 2 its wrapper, 3 the current shape (``swr.md`` 2.3).
    """
    old = {"errorCode": code, "errorMessage": message, "detail": ""}
    if generation == 1:
        return json_answer([old], status=status)
    if generation == 2:
        return json_answer({"errors": [old]}, status=status)
    body: dict[str, object] = {
        "errors": [old],
        "error_code": code,
        "error_msg": message,
        "details": [{"error_code": code, "error_msg": message}],
    }
    if status == 403:
        body["encoded_authorization_message"] = ""
    return json_answer(body, status=status)


def number(
    wishes: Mapping[str, str], name: str, default: int, error: Callable[[], SwrRefusedError]
) -> int:
    """A parameter that is a whole number, or its default."""
    text = wishes.get(name)
    if text is None:
        return default
    if re.fullmatch(r"-?[0-9]{1,12}", text) is None:
        raise error()
    return int(text)


def boolean(name: str, text: str) -> bool:
    """A parameter that is ``true`` or ``false``."""
    if text not in {"true", "false"}:
        raise bad_query(f"{name} must be true or false")
    return text == "true"


def bad_query(message: str) -> SwrRefusedError:
    """The error for a parameter that SWR does not take."""
    return SwrRefusedError(400, "4001025", f"Invalid query parameters: {message}")
