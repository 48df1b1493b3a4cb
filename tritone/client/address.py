"""A server's address: as people type it, and whether it is on this machine, where no proxy can help."""

from __future__ import annotations

import ipaddress
import re

from tritone.client.errors import SpeechError

PORTS = {"grpc": 8001, "http": 8000}
"""The usual port of each protocol."""
SCHEMES = {"http": "http", "grpc": "grpc", "https": "", "grpcs": "", "grpc+tls": ""}
"""The protocol of each scheme that people write before an address; "" for those that need TLS."""
NAMES = {"http": "HTTP", "grpc": "gRPC"}
LIMIT = 2**31 - 1
"""Largest gRPC message; Triton's client has no limit of its own either."""


def server_address(url: str | None, protocol: str) -> str:
    """Return an address as tritonclient takes it: "host:port", without a scheme or a path, or a socket of gRPC.

    Raises SpeechError for an address of the other protocol, one that needs TLS, and one that is none.
    """
    if not url:
        return f"localhost:{PORTS[protocol]}"
    if re.match(r"(unix(-abstract)?|dns|ipv4|ipv6):", url) and protocol == "grpc":
        return url
    scheme, found, rest = url.rpartition("://")
    kind = SCHEMES.get(scheme.lower()) if found else protocol
    other = "leave out --http" if protocol == "http" else "add --http"
    if kind == "":
        raise SpeechError(f"--url {url}: this client speaks without TLS; give host:port of a server without it")
    if kind is None:
        raise SpeechError(f"--url {url}: unknown scheme {scheme}; give host:port, such as localhost:{PORTS[protocol]}")
    if kind != protocol:
        raise SpeechError(
            f"--url {url} is an address of {NAMES[kind]}, and {NAMES[protocol]} was chosen; {other}, or give host:port "
            f"of {NAMES[protocol]}"
        )
    place, slash, path = rest.partition("/")
    if path.strip("/"):
        raise SpeechError(f"--url {url}: has the path {slash}{path}; give host:port alone")
    bare_ipv6 = place.count(":") > 1 and not place.startswith("[")
    host, colon, port = (f"[{place}]", "", "") if bare_ipv6 else place.rpartition(":")
    if not colon or port.endswith("]"):
        host, colon, port = host if bare_ipv6 else place, "", ""
    if not host or re.search(r"[\s@?#]", place):
        raise SpeechError(f"--url {url}: is no address; give host:port, such as localhost:{PORTS[protocol]}")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise SpeechError(f"--url {url}: {port!r} is not a port number (1 to 65535)")
    return f"{host}:{port or PORTS[protocol]}"


def on_this_machine(url: str) -> bool:
    """Return True if the address names this machine itself: localhost, a loopback address, or a socket file.

    Args:
        url: "host:port" with an optional scheme, as gRPC and HTTP clients take it.
    """
    if re.match(r"unix(-abstract)?:", url):
        return True
    place = re.sub(r"^(https?://|(dns|ipv4|ipv6):(//[^/]*/)?)", "", url).partition("/")[0]
    if place.startswith("["):
        host = place[1:].partition("]")[0]
    else:
        host = place.partition(":")[0] if place.count(":") == 1 else place
    host = host.partition("%")[0]
    if host in ("ip6-localhost", "ip6-loopback") or re.fullmatch(r"(.*\.)?localhost(\.localdomain)?\.?", host, re.I):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def grpc_options(url: str) -> list[tuple[str, int]] | None:
    """Return the gRPC channel's options: none of the environment's proxies to this machine itself.

    None stands for the defaults, with which another machine is reached through a proxy.
    """
    if not on_this_machine(url):
        return None
    return [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", LIMIT),
        ("grpc.max_receive_message_length", LIMIT),
    ]
