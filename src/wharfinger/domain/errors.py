"""The whole tree of errors. A parent says what to do; a child says what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wharfinger.domain.model import Caller


class WharfingerError(Exception):
    """Anything Wharfinger raises on purpose. ``str()`` is fit to be shown to the caller."""

    code = "error"


# --- the caller's mistakes -----------------------------------------------------------------


class CallerError(WharfingerError):
    """The call cannot be carried out as asked; repeating it changes nothing."""

    code = "invalid"


class InvalidParameterError(CallerError):
    """A parameter is missing, malformed or out of its range.

    Args:
        parameter: the parameter's name on the wire.
        rule: what would be accepted, in words ("must be 1 to 200").
    """

    code = "invalid_parameter"

    def __init__(self, parameter: str, rule: str) -> None:
        super().__init__(f"{parameter}: {rule}")
        self.parameter = parameter
        self.rule = rule


class NotFoundError(CallerError):
    """What was asked for does not exist, or is another tenant's."""

    code = "not_found"


class HiddenError(NotFoundError):
    """It is another's, and answered like what does not exist; only the audit tells them apart."""


class NotConfiguredError(NotFoundError):
    """The project lacks a configuration; the message names the command that makes it."""

    code = "not_configured"


class NotOfferedError(NotFoundError):
    """The cloud has this operation, and Wharfinger does not."""

    code = "not_offered"

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"{operation} is not offered by this service, which keeps the list of images and"
            " neither scans them nor watches hosts and containers"
        )
        self.operation = operation


class NotGrantedError(CallerError):
    """The caller is known, but this is not theirs to ask for."""

    code = "not_granted"


class NotAllowedError(NotGrantedError):
    """No policy of the caller allows the action, or one denies it."""

    code = "not_allowed"

    def __init__(self, action: str) -> None:
        super().__init__(f"the policies of the caller do not allow {action}")
        self.action = action


class ConflictError(CallerError):
    """The name or id is taken."""

    code = "conflict"


class ExtraMissingError(CallerError):
    """It needs an extra of this package that is not installed."""

    code = "extra_missing"

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs {module}, which is not installed; run: pip install 'wharfinger[{extra}]'"
        )


class HistoryForgottenError(CallerError):
    """What was asked about lies before the retention horizon: it is not empty, it is forgotten."""

    code = "history_forgotten"


class NotAuthenticatedError(WharfingerError):
    """The credentials are missing, malformed, unknown or wrong.

    Args:
        detail: what is wrong, for the caller.
        reason: a word for it, for the audit; the error's code by default.
        caller: whose credentials they are, where that is known.
        proven: whether the caller has shown to be that, and is refused for something else.
    """

    code = "not_authenticated"

    def __init__(
        self,
        detail: str,
        *,
        reason: str = "",
        caller: Caller | None = None,
        proven: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.code
        self.caller = caller
        self.proven = proven


class TokenExpiredError(NotAuthenticatedError):
    """The token was good once; a new one is needed."""

    code = "token_expired"


class LoginRefusedError(NotAuthenticatedError):
    """No such user, or another password: the answer does not tell which."""

    code = "login_refused"


class ScopeRefusedError(NotAuthenticatedError):
    """The project or account a token is asked for is not the user's, or does not exist."""

    code = "scope_refused"


class LockedError(NotAuthenticatedError):
    """Too many wrong secrets in a row from one address; the right one is not looked at either."""

    code = "locked"


class UserLockedError(LockedError):
    """Too many wrong passwords in a row from one address."""

    code = "user_locked"


class ProjectUnavailableError(WharfingerError):
    """A good token is of a project that is not kept here."""

    code = "project_unavailable"


class IdentityUnavailableError(WharfingerError):
    """The identity service does not answer, so nobody can tell whether the token is good."""

    code = "identity_unavailable"


class OverRateError(WharfingerError):
    """More requests than are let through; ``retry_after_s`` is when the next one may come."""

    code = "over_rate"

    def __init__(self, policy: str, per_minute: int, retry_after_s: int) -> None:
        super().__init__(f"policy {policy} over ratelimit,limit:{per_minute},time:1 minute")
        self.retry_after_s = retry_after_s


# --- the registry's answers ------------------------------------------------------------------


class SourceError(WharfingerError):
    """A registry did not answer as a complete listing needs. Nothing may be concluded from it."""

    code = "source"


class TemporarySourceError(SourceError):
    """The same request may succeed later; ``retry_after_s`` is the registry's own wish."""

    code = "temporary"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnreachableError(TemporarySourceError):
    """No connection, no name, no answer in time, or an answer cut short."""

    code = "unreachable"


class NotTrustedError(UnreachableError):
    """The host is there, but its certificate is not one this registry's settings trust."""


class ThrottledError(TemporarySourceError):
    """The registry asked us to slow down (429, SWR's 403 throttling codes, ECR's 400)."""

    code = "throttled"


class UpstreamFailureError(TemporarySourceError):
    """The registry answered 5xx."""

    code = "upstream_failure"


class MalformedAnswerError(TemporarySourceError):
    """The answer is not what the protocol says: truncated, not JSON, HTML from a proxy."""

    code = "malformed"


class ListMovedError(TemporarySourceError):
    """The list changed while its pages were read, so absence cannot be told; read it again."""

    code = "list_moved"


class CredentialsError(SourceError):
    """Fix the credentials or the permissions they carry."""

    code = "credentials"


class UnauthorisedError(CredentialsError):
    """401: the registry does not accept the credentials."""

    code = "unauthorised"


class ForbiddenError(CredentialsError):
    """403: the credentials are known but lack the permission."""

    code = "forbidden"


class CredentialsNeededError(CredentialsError):
    """No secret is stored, or the place where it is kept does not give it."""

    code = "credentials_needed"


class MissingError(SourceError):
    """404: gone, or hidden from these credentials; the protocol cannot tell which."""

    code = "missing"


class NameUnknownError(MissingError):
    """404 in the registry's own words: it knows no repository of a name that its catalog lists."""


class UnsupportedError(SourceError):
    """The registry does not offer this operation (no catalog, 405, 501)."""

    code = "unsupported"


class CursorRefusedError(SourceError):
    """The cursor belongs to another configuration, or the registry no longer knows it."""

    code = "cursor_refused"


class ListLoopError(SourceError):
    """The registry gave a cursor it had given before; following it would never end."""

    code = "list_loop"


class AddressRefusedError(SourceError):
    """The address is in a network that this registry may not reach."""

    code = "address_refused"


class TooLargeError(SourceError):
    """The answer is larger than any honest answer would be."""

    code = "too_large"


class UnexpectedAnswerError(SourceError):
    """A status the protocol does not provide for."""

    code = "unexpected"


# --- ourselves ---------------------------------------------------------------------------------


class FencedError(WharfingerError):
    """This attempt was given up for dead and another has taken its place; write nothing."""

    code = "fenced"


class StoreUnavailableError(WharfingerError):
    """The database does not answer."""

    code = "store_unavailable"


class StoreBusyError(StoreUnavailableError):
    """The database gave this transaction up for another one's sake; the same may succeed now."""

    code = "store_busy"


class SetupError(WharfingerError):
    """The installation is wrong; the message says what to change."""

    code = "setup"
