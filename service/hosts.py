"""The names that a service answers to, and whose pages may change something.

A web page may point a name of its own to this machine (DNS rebinding). For the browser it then is of the same origin as
the service, so neither CORS nor the content type keeps it out; only the name in `Host` tells it from a caller that is
meant. Where keys are required, such a page has none.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.errors import ApiError, Forbidden
from service.settings import Settings

__all__ = ["host_names", "refused_source"]

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_READS = ("GET", "HEAD", "OPTIONS")


def host_names(settings: Settings) -> frozenset[str] | None:
    """The names that requests may be sent to; None: any. Without `allowed_hosts`, only a service on loopback that
    requires no key limits them.
    """
    own = _LOOPBACK | {settings.host.lower()} if settings.loopback else frozenset()
    if settings.allowed_hosts:
        return own | {name.lower() for name in settings.allowed_hosts}
    return own if own and not (settings.api_keys or settings.keys_file) else None


def refused_source(
    headers: Headers, method: str, names: Collection[str] | None, *, origins: Collection[str] = (), keys: bool
) -> ApiError | None:
    """Why a request must not be answered, whoever sends it: its host name is none of `names`, or, where no `keys` are
    required, another site than `origins` asks for a change. None if neither is so.

    Where the service is not on loopback, an address in place of a name passes: rebinding needs a name.
    """
    if names is not None:
        name = _name(headers.get("host", ""))
        if name not in names and not ("localhost" not in names and _is_address(name)):
            said = "this service does not answer to the host name of this request; see `allowed_hosts`"
            return Forbidden(said, code="host_not_allowed")
    foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("origin") not in origins
    if not keys and method not in _READS and foreign:
        return Forbidden("without keys, a page of another site may change nothing here", code="cross_site")
    return None


def _name(host: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return ""
    return "" if parts.netloc != host or "@" in host else (parts.hostname or "").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
