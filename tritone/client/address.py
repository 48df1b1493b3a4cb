"""Tells whether a server's address is on this machine, where the proxies of the environment cannot help."""

from __future__ import annotations

import ipaddress
import re

LIMIT = 2**31 - 1
"""Largest gRPC message; Triton's client has no limit of its own either."""


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
