"""Fetches one http(s) URL within limits of size and time, from public addresses only.

The host is resolved here and the connection goes to an address that was checked, on every redirect too, so
that neither a redirect nor a name server that changes its mind can lead to a private address. Proxies named in
the environment are not used: behind one, it would be the proxy that resolves. Knows nothing of images.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from pixano_vlm.errors import ImageError
from pixano_vlm.media.formats import sniff
from pixano_vlm.media.sources import shortened
from pixano_vlm.models.limits import Limits

MAX_REDIRECTS = 5
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long, up to `MAX_WAIT`."""
MAX_WAIT = 20.0

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK = 200
_NAT64 = IPv6Network("64:ff9b::/96")
_SMALLER = "Make it smaller, or raise --max-image-bytes."
_deadline = threading.local()


class _Passing(Exception):
    """A failure that may pass: `wait` is how long the server asks to wait, in seconds."""

    def __init__(self, cause: str, wait: float | None = None) -> None:
        super().__init__(cause)
        self.wait = wait


class _Refused(Exception):
    """The address may not be reached."""


def fetch(url: str, limits: Limits) -> bytes:
    """The body behind `url`.

    Args:
        url: http or https; redirects are followed, at most five.
        limits: `max_image_bytes`, `fetch_timeout` seconds for everything together, `fetch_attempts` tries,
            `allow_private_hosts`.

    Raises:
        ImageError: Naming the URL, the cause, and how often it was tried.
    """
    end = time.monotonic() + limits.fetch_timeout
    wait = FIRST_WAIT
    for attempt in range(1, limits.fetch_attempts + 1):
        try:
            return _fetch_once(url, limits, end)
        except _Passing as error:
            tries = "" if attempt == 1 else f" after {attempt} tries"
            pause = error.wait if error.wait is not None else wait * random.uniform(0.75, 1.25)
            if attempt == limits.fetch_attempts or time.monotonic() + pause >= end:
                raise ImageError(
                    f"{shortened(url)} cannot be fetched{tries}: {error}.", hint="Try again later."
                ) from None
            time.sleep(pause)
            wait = min(2 * wait, MAX_WAIT)
    raise ImageError(f"{shortened(url)} cannot be fetched: no try is allowed.", hint="Raise fetch_attempts.")


def _fetch_once(url: str, limits: Limits, end: float) -> bytes:
    _deadline.end = end
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        target = _parse(place, url)
        try:
            with _pool(limits.allow_private_hosts).stream(
                "GET", target, headers=_headers(target), extensions={"timeout": _timeouts(end)}
            ) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in headers:
                    place = urljoin(place, headers[b"location"].decode("latin-1"))
                    continue
                _check_status(url, response.status, headers)
                return _body(url, response.iter_stream(), headers, limits, end)
        except _Refused as error:
            raise ImageError(
                f"{shortened(url)} may not be fetched: {error}.",
                hint="Only public addresses may be, unless private ones are allowed.",
            ) from None
        except (httpcore.TimeoutException, TimeoutError):
            raise _Passing(f"no complete answer within {limits.fetch_timeout:g} seconds") from None
        except ssl.SSLError as error:
            raise ImageError(f"{shortened(url)} cannot be fetched: {error.reason or error}.") from None
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
                raise ImageError(f"{shortened(url)} cannot be fetched: {error}.") from None
            raise _Passing(f"no connection: {error}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise _Passing(f"the connection broke: {str(error) or type(error).__name__}") from None
    raise ImageError(
        f"{shortened(url)} cannot be fetched: more than {MAX_REDIRECTS} redirects.",
        hint="Give its final URL.",
    )


def _parse(place: str, url: str) -> httpcore.URL:
    came = "" if place == url else f" redirects to {place[:200]}, which"
    try:
        parts = urlsplit(place)
        host, port = parts.hostname, parts.port
        name = (host or "").encode("ascii" if (host or "").isascii() else "idna")
    except (ValueError, UnicodeError) as error:
        raise ImageError(f"{shortened(url)}{came} is not a URL: {error}.") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ImageError(
            f"{shortened(url)}{came} is a {parts.scheme}: URL.",
            hint="Give an http:, https:, s3:, gs: or data: URL, or a path.",
        )
    if not name:
        raise ImageError(f"{shortened(url)}{came} names no host.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return httpcore.URL(scheme=parts.scheme.lower().encode(), host=name, port=port, target=path.encode())


def _headers(target: httpcore.URL) -> list[tuple[bytes, bytes]]:
    host = b"[" + target.host + b"]" if b":" in target.host else target.host
    if target.port is not None:
        host += b":%d" % target.port
    return [
        (b"Host", host),
        (b"User-Agent", b"pixano-vlm"),
        (b"Accept", b"image/*, */*;q=0.5"),
        (b"Accept-Encoding", b"identity"),
    ]


def _timeouts(end: float) -> dict[str, float]:
    left = _left(end)
    return {"connect": left, "read": left, "write": left, "pool": left}


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _check_status(url: str, status: int, headers: dict[bytes, bytes]) -> None:
    if status in _PASSING:
        raise _Passing(f"the server answers {status}", _retry_after(headers.get(b"retry-after")))
    if status != _OK:
        raise ImageError(
            f"{shortened(url)} cannot be fetched: the server answers {status}.", hint="Check the URL."
        )


def _retry_after(value: bytes | None) -> float | None:
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    try:
        if text.isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _body(
    url: str, stream: Iterable[bytes], headers: dict[bytes, bytes], limits: Limits, end: float
) -> bytes:
    most = limits.max_image_bytes
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if encoding != b"identity":
        raise ImageError(
            f"{shortened(url)} cannot be fetched: the server packs it as {encoding.decode('latin-1')}."
        )
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise ImageError(
            f"{shortened(url)} holds {int(length):,} bytes, and the limit is {most:,}.", hint=_SMALLER
        )
    pieces, total = [], 0
    for piece in stream:
        pieces.append(piece)
        total += len(piece)
        if total > most:
            raise ImageError(f"{shortened(url)} holds more bytes than the limit of {most:,}.", hint=_SMALLER)
        _left(end)
    data = b"".join(pieces)
    kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
    if (kind.startswith("text/") or kind == "application/json") and sniff(data) is None:
        raise ImageError(
            f"{shortened(url)} is not an image: the server sends {kind}.", hint="Give the image's own URL."
        )
    return data


# --- connections ---


@lru_cache(maxsize=2)
def _pool(allow_private: bool) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        max_connections=64, max_keepalive_connections=16, keepalive_expiry=15.0,
        network_backend=_CheckedNetwork(allow_private),
    )  # fmt: skip


def is_public(address: str) -> bool:
    """Whether an IP address, or the one that is wrapped in it, is one of the open internet's."""
    ip: IPv4Address | IPv6Address = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, IPv6Address):
        inner = (
            ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        )
        teredo = ip.teredo
        if inner is not None:
            return is_public(str(inner))
        if teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to the address that it has checked; every wait ends with the fetch's deadline."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known ({error.strerror or error})") from None
        except UnicodeError:
            raise _Refused(f"{host!r:.60} is not a host name") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if self._allow_private or is_public(address)]
        if not allowed:
            raise _Refused(
                f"{host} leads to the private address {addresses[0] if addresses else 'of nothing'}"
            )
        failure: Exception | None = None
        for address in allowed[:4]:
            try:
                return _DeadlineStream(
                    self._plain.connect_tcp(address, port, _bounded(timeout), local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise _Refused("unix sockets are not fetched from")

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)


def _bounded(timeout: float | None) -> float:
    left: float = _left(_deadline.end)
    return left if timeout is None else min(left, timeout)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection on which a server that sends a byte now and then gains no time."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _bounded(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _bounded(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
