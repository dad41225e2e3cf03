"""Which hosts and origins are ours."""

from __future__ import annotations

import pytest

from vivavoce.errors import ForeignOrigin, SettingsError, UnknownHost
from vivavoce.serving.origins import Ask, HostRule, Origin, OriginRule, is_loopback
from vivavoce.settings import Settings

OWN = ["localhost", "localhost:8000", "LOCALHOST", "localhost.", "127.0.0.1:8000", "127.8.9.1"]
OWN += ["localhost:", "127.0.0.1:", "[::1]:"]  # an empty port is the scheme's own
OWN += ["[::1]", "[::1]:9000", "[::ffff:127.0.0.1]"]
FOREIGN = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"]
FOREIGN += ["192.168.1.5", "0.0.0.0", "[::]", "[fe80::1]", "printer", "nas.local", "::1", "[::1"]
FOREIGN += ["evil.example:", ":", ":80", "localhost::", "localhost:80:"]
FOREIGN += ["127.0.0.1@evil.example", "evil.example#localhost", "localhost:80:80", "local host"]


def admits(rule: HostRule, host: str, *, keyed: bool = False, local: str = "127.0.0.1") -> bool:
    try:
        rule.check([host], local, keyed=keyed)
    except UnknownHost:
        return False
    return True


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "localhost"])
def test_a_loopback_server_answers_for_its_own_names_only(bound: str, keyed: bool) -> None:
    rule = HostRule.of(Settings(host=bound))
    assert [host for host in OWN if not admits(rule, host, keyed=keyed)] == []
    assert [host for host in FOREIGN if admits(rule, host, keyed=keyed)] == []


def test_the_hint_names_the_setting_and_quotes_little() -> None:
    rule = HostRule.of(Settings())
    with pytest.raises(UnknownHost, match=r"evil\.example.*allowed_hosts"):
        rule.check(["evil.example"], None, keyed=False)
    with pytest.raises(UnknownHost) as refused:
        rule.check(["x" * 10_000], None, keyed=False)
    assert len(refused.value.message) < 400


def test_no_host_is_no_browser_and_two_are_no_request() -> None:
    rule = HostRule.of(Settings())
    rule.check([], None, keyed=False)
    rule.check([""], None, keyed=False)
    with pytest.raises(UnknownHost):
        rule.check(["localhost", "localhost"], None, keyed=False)


def test_allowed_hosts_with_wildcards_and_ports() -> None:
    settings = Settings(allowed_hosts="tts.example.com, *.lan.example, [fd00::7], api.example:8443")
    rule = HostRule.of(settings)
    allowed = ["tts.example.com", "TTS.example.com:1", "a.lan.example", "a.b.lan.example:80"]
    allowed += ["[fd00::7]:80", "api.example:8443", "localhost"]
    assert [host for host in allowed if not admits(rule, host)] == []
    refused = ["example.com", "x.tts.example.com", "lan.example", "evillan.example", "api.example"]
    refused += ["api.example:80", "tts.example.com.evil.example", "10.0.0.1"]
    assert [host for host in refused if admits(rule, host)] == []
    for port, said in ((443, True), (80, True), (81, False), (442, False)):
        assert admits(HostRule.of(Settings(allowed_hosts=f"a.example:{port}")), "a.example") is said
    assert admits(HostRule.of(Settings(allowed_hosts="*")), "evil.example")


@pytest.mark.parametrize("entry", ["https://a.example", "a.example/x", "*.*.example", "a*", "a b"])
def test_an_allowed_host_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match="allowed_hosts"):
        HostRule.of(Settings(allowed_hosts=(entry,)))


def test_on_a_public_address_a_key_protects_whatever_the_name() -> None:
    public = HostRule.of(Settings(host="0.0.0.0"))
    assert admits(public, "tts.example.com", keyed=True)
    named = HostRule.of(Settings(host="0.0.0.0", allowed_hosts="tts.example.com"))
    assert not admits(named, "evil.example", keyed=True)
    # A load balancer asks by the address that it reaches.
    assert admits(named, "10.0.0.4:8000", keyed=True, local="10.0.0.4")
    assert not admits(named, "10.0.0.5:8000", keyed=True, local="10.0.0.4")


def test_public_without_a_key_is_no_door_for_rebound_names() -> None:
    rule = HostRule.of(Settings(host="0.0.0.0", allow_public_without_key=True))
    for host in ("192.168.1.5:8000", "nas", "nas.local", "host.docker.internal", "[fe80::1]"):
        assert admits(rule, host), host
    for host in ("evil.example", "192.168.1.5.evil.example", "local.evil.example"):
        assert not admits(rule, host), host


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_compared_as_browsers_write_them(text: str, canonical: str) -> None:
    assert str(Origin.parse(text)) == canonical


@pytest.mark.parametrize(
    "text", ["null", "", "app.example", "https://", "https://a.example/path", "https://a@b", "://a"]
)
def test_what_is_no_origin(text: str) -> None:
    assert Origin.parse(text) is None
    with pytest.raises(SettingsError, match="cors_origins"):
        OriginRule.of(Settings(cors_origins=(text or "null",)))


def ask(origin: str | None, host: str = "127.0.0.1:8000", **more: object) -> Ask:
    fields = {"site": None, "secure": False, "safe": False} | more
    return Ask(origin=origin, host=host, **fields)  # type: ignore[arg-type]


OWN_PAGES = [
    ask(None),
    ask(None, site="none"),
    ask(None, site="same-origin"),
    ask("http://127.0.0.1:8000"),
    ask("http://127.0.0.1:8000", site="same-origin"),
    ask("http://localhost", host="localhost:80"),
    ask("https://tts.example", host="tts.example"),  # a proxy ends TLS
    ask("https://tts.example", host="tts.example:443", secure=True),
    ask("https://app.example"),
    ask("https://app.example:443", site="cross-site"),
]
FOREIGN_PAGES = [
    ask("https://evil.example"),
    ask("null"),
    ask(""),
    ask("http://127.0.0.1:3000"),
    ask("http://localhost:8000"),
    ask("http://127.0.0.1"),
    ask("https://127.0.0.1.evil.example:8000"),
    ask("http://app.example"),
    ask("https://app.example.evil"),
    ask(None, site="cross-site"),
    ask(None, site="same-site"),
    ask("http://tts.example", host="tts.example:443", secure=True),
    ask("http://tts.example", host="tts.example", site="cross-site"),
]


def test_own_pages_and_named_ones_may_call() -> None:
    rule = OriginRule.of(Settings(cors_origins="https://app.example/"))
    for each in OWN_PAGES:
        rule.check(each)


@pytest.mark.parametrize("each", FOREIGN_PAGES, ids=str)
def test_other_pages_may_not(each: Ask) -> None:
    rule = OriginRule.of(Settings(cors_origins="https://app.example"))
    with pytest.raises(ForeignOrigin, match="cors_origins"):
        rule.check(each)
    OriginRule.of(Settings(cors_origins="*")).check(each)


def test_reading_is_left_to_the_browser_which_hides_the_answer() -> None:
    rule = OriginRule.of(Settings())
    rule.check(ask("https://evil.example", safe=True))
    rule.check(ask(None, site="cross-site", safe=True))


def test_a_token_for_an_origin_opens_that_one_alone() -> None:
    rule = OriginRule.of(Settings(cors_origins="https://other.example"))
    rule.check(ask("https://app.example"), "https://app.example")
    for origin in ("https://other.example", "http://127.0.0.1:8000", "null", None):
        with pytest.raises(ForeignOrigin, match=r"https://app\.example"):
            rule.check(ask(origin), "https://app.example")
    rule.check(ask(None, safe=True), "https://app.example")


def test_loopback_addresses() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.255.0.1", "::1"))
    assert not any(is_loopback(host) for host in ("", "0.0.0.0", "::", "example.org", "10.0.0.1"))
