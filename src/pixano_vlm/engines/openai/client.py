"""The client library's client for one server, and what an error of its connection means. Asks nothing itself."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from urllib.request import getproxies

__all__ = ["connection_hint", "open_client", "without_query"]

_SCHEMES = ("all://", "http://", "https://")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def open_client(openai: Any, base_url: str, key: str | None, timeout: Any) -> Any:
    """An asynchronous client that tries nothing again by itself.

    Args:
        openai: The package.
        base_url: The address; a query in it goes along with every request.
        key: Sent as a bearer token; None where the server wants none.
        timeout: Of one attempt.
    """
    query = dict(parse_qsl(urlsplit(base_url).query))
    http = openai.DefaultAsyncHttpxClient(
        # A redirected POST becomes a GET, and could carry the key to another host.
        follow_redirects=False,
        timeout=timeout,
        # A proxy of the environment does not know what runs on this machine.
        mounts=dict.fromkeys(_SCHEMES) if _is_here(base_url) else None,
    )
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=without_query(base_url),
        max_retries=0,
        timeout=timeout,
        default_query=query or None,
        # What is asked by a version in the query (Azure's deployments) reads its key from this header alone.
        default_headers={"api-key": key} if key and "api-version" in query else None,
        http_client=http,
    )
    if key is None:
        # A server that wants no key is not told whose others are: the client has that from OPENAI_*.
        client.organization = client.project = None
    return client


def without_query(url: str) -> str:
    """The address alone."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


def connection_hint(base_url: str, reason: str) -> str | None:
    """What to do about a server that cannot be reached; None: nothing that the reason says."""
    if base_url.startswith("https:") and "CERTIFICATE" in reason.upper():
        return (
            "Its certificate is not one that this machine trusts: set SSL_CERT_FILE to a file of certificates that "
            "holds its issuer's, or use http where the server offers it."
        )
    if base_url.startswith("https:") and "SSL" in reason.upper():
        return "Does it speak http? Correct `base_url` in the model's config."
    proxies = {} if _is_here(base_url) else getproxies()
    if proxies.get(urlsplit(base_url).scheme) or proxies.get("all"):
        names = ", ".join(_PROXIES)
        host = urlsplit(base_url).hostname
        return f"It is asked through the proxy that {names} name: NO_PROXY={host} goes past it."
    return None


def _is_here(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
