"""A call that asks for what its route does not know is refused, not answered with everything."""

from __future__ import annotations

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.api.call import ApiCall, api_call
from wharfinger.http.api.described import API
from wharfinger.http.described import Operation
from wharfinger.http.failures import AnyRequest
from wharfinger.http.services import TheServices


async def known_call(request: AnyRequest, services: TheServices) -> ApiCall:
    """Authenticate a call, and see that its route knows every parameter of the query.

    A filter with a slip in its name would otherwise keep everything, which looks like an answer.

    Raises:
        InvalidParameterError: the description of the route lacks a parameter; besides, what
            ``api_call`` raises.
    """
    call = await api_call(request, services)
    operation = API.described.get(request.route_handler.fn.__name__, Operation())
    common = () if operation.on_its_own else API.query
    known = {parameter.name for parameter in (*common, *operation.query)}
    for name in call.query.names():
        if name not in known:
            raise InvalidParameterError(name, f"is unknown here; known are {_list(known)}")
    return call


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))
