"""Host and Origin: what keeps the web pages of strangers out of a server on somebody's desk.

A browser lends every page the reach of its machine, so that a page can address a server on
127.0.0.1. What a page cannot do is lie about two headers. ``Host`` is the name in the address: a
name of the page's own that was pointed at this machine afterwards (DNS rebinding) still shows
there. ``Origin`` is the page that asks; browsers send it with every WebSocket and with every
request that is not a plain GET or HEAD (https://fetch.spec.whatwg.org/#origin-header).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vivavoce.errors import ForeignOrigin, SettingsError, UnknownHost
from vivavoce.settings import Settings

DEFAULT_PORTS = {"http": 80, "https": 443}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site by which a browser says that a page of another origin asks."""

NEVER_PUBLIC = (".localhost", ".local", ".internal", ".home.arpa")
"""Endings that no public name server answers for (RFC 6761, 6762, 8375; ICANN for .internal)."""

MAX_SHOWN_CHARS = 100
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]\\,]+)(?::(?P<port>\d{0,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.+)")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in lower case, without brackets or a last dot, and the port where one is said."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Authority | None:
        """``example.com``, ``127.0.0.1:8000``, ``[::1]:8000``; None for what is none.

        A port may be empty, which is the scheme's own (RFC 3986, section 3.2.3).
        """
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            return None
        host = found["host"].lower().strip("[]").removesuffix(".")
        return cls(host, int(found["port"]) if found["port"] else None)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The IP address that the host is, or None for a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme and where it leads; the port is never the scheme's own."""

    scheme: str
    authority: Authority

    @classmethod
    def parse(cls, text: str) -> Origin | None:
        """``https://app.example``; None for what is none, such as ``null``."""
        found = _ORIGIN.fullmatch(text)
        authority = Authority.parse(found["rest"]) if found else None
        if found is None or authority is None:
            return None
        scheme = found["scheme"].lower()
        port = None if authority.port == DEFAULT_PORTS.get(scheme) else authority.port
        return cls(scheme, Authority(authority.host, port))

    def __str__(self) -> str:
        """As browsers write it (RFC 6454, section 6.2)."""
        host, port = self.authority.host, self.authority.port
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}" + (f":{port}" if port is not None else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and nothing but it: localhost, 127.0.0.0/8, ::1."""
    address = Authority(host).address
    if address is None:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One entry of ``allowed_hosts``."""

    host: str
    port: int | None
    below: bool

    @classmethod
    def parse(cls, text: str) -> _Pattern:
        below = text.startswith("*.")
        authority = Authority.parse(text.removeprefix("*."))
        if text == "*":
            return cls("*", None, False)
        if authority is None or "*" in authority.host:
            raise SettingsError(
                f"allowed_hosts: {text!r} is no host name; write tts.example.com,"
                " tts.example.com:8443 or *.example.com.",
                param="allowed_hosts",
            )
        return cls(authority.host, authority.port, below)

    def matches(self, given: Authority) -> bool:
        if self.host == "*":
            return True
        named = given.host.endswith("." + self.host) if self.below else given.host == self.host
        # A browser leaves the scheme's own port out.
        known = (443, 80) if given.port is None else (given.port,)
        return named and (self.port is None or self.port in known)


@dataclass(frozen=True, slots=True)
class HostRule:
    """Which values of ``Host`` are answered.

    Always this machine's loopback names, the address bound and the settings' ``allowed_hosts``.
    On a public address without ``allowed_hosts`` also: any name where a key is needed, since a
    page that has no key gains nothing; else what no stranger can point elsewhere (addresses, names
    without a dot, names that no public name server answers for).
    """

    allowed: tuple[_Pattern, ...]
    bound: str

    @classmethod
    def of(cls, settings: Settings) -> HostRule:
        """Raises SettingsError for an entry that is no host name."""
        bound = settings.host.lower()
        return cls(tuple(_Pattern.parse(each) for each in settings.allowed_hosts), bound)

    def check(self, given: list[str], local: str | None, *, keyed: bool) -> None:
        """Raise UnknownHost; ``local`` is the address at which the connection came in.

        Clients that are no browsers may leave the header out, or empty.
        """
        if len(given) > 1 or not all(self._admits(each, local, keyed) for each in given if each):
            shown = ", ".join(given)[:MAX_SHOWN_CHARS]
            raise UnknownHost(
                f"This server does not answer for the host {shown!r}. Where that name is meant,"
                " list it in the setting allowed_hosts (VIVAVOCE_ALLOWED_HOSTS)."
            )

    def _admits(self, text: str, local: str | None, keyed: bool) -> bool:
        given = Authority.parse(text)
        if given is None:
            return False
        if is_loopback(given.host) or given.host in (self.bound, (local or "").lower()):
            return True
        if any(pattern.matches(given) for pattern in self.allowed):
            return True
        if self.allowed or is_loopback(self.bound):
            return False
        return keyed or _is_nobodys(given)


def _is_nobodys(given: Authority) -> bool:
    """Whether no stranger can point this host at another machine."""
    named = "." not in given.host or given.host.endswith(NEVER_PUBLIC)
    return named or given.address is not None


@dataclass(frozen=True, slots=True)
class OriginRule:
    """Which pages may call: the server's own and those of ``cors_origins``."""

    allowed: frozenset[Origin]
    any_page: bool

    @classmethod
    def of(cls, settings: Settings) -> OriginRule:
        """Raises SettingsError for an entry that no browser would ever send."""
        return cls(
            frozenset(_configured(each) for each in settings.cors_origins if each != "*"),
            "*" in settings.cors_origins,
        )

    @property
    def names(self) -> list[str]:
        """As browsers write them, for CORS."""
        return ["*"] if self.any_page else sorted(str(each) for each in self.allowed)

    def check(self, ask: Ask, of_token: str | None = None) -> None:
        """Raise ForeignOrigin for a page that may not ask this.

        ``of_token`` is the origin that the caller's client token is for, where it is for one.
        """
        if ask.origin is None and ask.site not in FOREIGN_SITES:
            if of_token is not None and not ask.safe:
                raise ForeignOrigin(f"This token is for pages of {of_token}.")
            return
        origin = Origin.parse(ask.origin or "")
        if of_token is not None:
            if origin is None or str(origin) != of_token:
                raise ForeignOrigin(f"This token is for pages of {of_token}.")
            return
        if ask.safe or self.any_page or origin in self.allowed or ask.comes_from(origin):
            return
        raise ForeignOrigin(
            f"Pages of {(ask.origin or 'another site')[:MAX_SHOWN_CHARS]!r} may not call this"
            " server; its setting cors_origins (VIVAVOCE_CORS_ORIGINS) names those that may."
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """What a browser says of a request: ``site`` is Sec-Fetch-Site, ``safe`` asks for nothing new.

    A WebSocket is never safe: the browser shows its answers to every page.
    """

    origin: str | None
    site: str | None
    host: str
    secure: bool
    safe: bool

    def comes_from(self, origin: Origin | None) -> bool:
        """Whether the page and the request share scheme, host and port.

        Behind a proxy that ends TLS the request is plain and the page is not, so https counts as
        the request's own scheme there, too; and the browser's own word, where it gives it, decides.
        """
        here = Authority.parse(self.host)
        if origin is None or here is None or self.site in FOREIGN_SITES:
            return False
        schemes = ("https",) if self.secure else ("http", "https")
        port = None if here.port == DEFAULT_PORTS.get(origin.scheme) else here.port
        return origin.scheme in schemes and origin.authority == Authority(here.host, port)


def parse_origins(texts: Iterable[str]) -> tuple[str, ...]:
    """Origins as browsers write them. Raises SettingsError."""
    return tuple(str(_configured(each)) for each in texts)


def _configured(text: str) -> Origin:
    origin = Origin.parse(text.removesuffix("/"))
    if origin is None:
        raise SettingsError(
            f"cors_origins: {text!r} is no origin; write https://app.example or"
            " http://localhost:3000, or * for every page.",
            param="cors_origins",
        )
    return origin
