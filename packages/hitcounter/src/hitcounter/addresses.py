"""Checks addresses and TLS files in the settings. Nothing here opens a connection.

The client libraries parse addresses leniently: a part that they do not understand becomes a default, a host name, or an
argument that fails at the first connection. This module rejects an address unless there is exactly one way to read it.
No message contains any part of the address, because it may contain a password.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_PORT_MAX: Final = 65_535
_HOST_MAX_CHARACTERS: Final = 253
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
"""RFC 1123, and underscores, which names of containers have. A longer label raises UnicodeError when it is resolved."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address, decoded."""

    scheme: str
    host: str
    port: int | None
    username: str | None
    password: str | None
    path: str
    options: dict[str, str]


def read_host(text: str) -> str:
    """Return the host, without the brackets that an IPv6 address has in a URL.

    Raises:
        ValueError: it is neither an IP address nor a host name.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if bare != text or len(bare) > _HOST_MAX_CHARACTERS or not _NAME.fullmatch(bare):
            raise ValueError("must be an IP address or a host name") from None
    return bare


def read_host_and_port(text: str) -> tuple[str, int]:
    """Return host and port of the text host:port; an IPv6 address has brackets.

    Raises:
        ValueError: it has another form.
    """
    host, _, port = text.rpartition(":")
    if ":" in host and not host.startswith("["):
        raise ValueError("an IPv6 address must have brackets")
    return read_host(host), _read_port(port)


def read_address(text: str, schemes: Collection[str]) -> Address:
    """Return the parts of an address.

    Raises:
        ValueError: there is no way to read it, or more than one.
    """
    if _UNPRINTABLE.search(text):
        raise ValueError("must not contain spaces or control characters")
    try:
        parts = urlsplit(text)
    except ValueError:  # unbalanced brackets; its message quotes the host
        raise ValueError("is not an address") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    user_information, has_user, location = parts.netloc.rpartition("@")
    if "@" in user_information or "@" in parts.path + parts.query or "#" in text:
        raise ValueError("is ambiguous: in a user name or password, percent-encode @ / # and ?")
    username, has_password, password = user_information.partition(":")
    host, port = _split_port(location)
    return Address(
        scheme=parts.scheme,
        host=host,
        port=port,
        username=_decode(username) if has_user else None,
        password=_decode(password) if has_password else None,
        path=parts.path,
        options=_read_options(parts.query),
    )


def find_tls_fault(ca_file: str | None, cert_file: str | None, key_file: str | None) -> tuple[str, str] | None:
    """Load the files as the client will. Return the name of a wrong one and the reason; None if all can be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path in {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}.items():
        if path is not None and not _is_file(path):
            return name, "must be the path of a file that can be read"
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError:  # ssl.SSLError is one
            return "ca_file", "must be a file with a certificate in PEM form that can be read"
    if key_file is not None and cert_file is None:
        return "key_file", "is set without a certificate"
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_encrypted_key)
        except (OSError, ValueError):
            wrong = "cert_file" if key_file is None else "key_file"
            return wrong, "certificate and key must be readable, in PEM form, not encrypted, and belong together"
    return None


def find_option_fault(options: Mapping[str, str], allowed: Mapping[str, str]) -> str | None:
    """Return what is wrong with the options of an address.

    Args:
        options: the options of the address.
        allowed: for each allowed option, the pattern of its value.
    """
    for name, value in options.items():
        if name not in allowed:
            return f"has an option that is not supported; supported are {', '.join(allowed)}"
        if not re.fullmatch(allowed[name], value):
            return f"has a wrong value for the option {name}"
    return None


def _split_port(location: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", location)
    if match is None:
        raise ValueError("must have a host, with brackets if it is an IPv6 address")
    if not match[1]:
        raise ValueError("must have a host")
    return read_host(match[1]), None if match[2] is None else _read_port(match[2])


def _read_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= _PORT_MAX:
        raise ValueError(f"must have a port from 1 to {_PORT_MAX}")
    return int(text)


def _read_options(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # its message quotes the query
        raise ValueError("has options that are not of the form ?name=value") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ValueError("has an option twice")
    return options


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has a user name or password that is not percent-encoded UTF-8") from None


def _is_file(path: str) -> bool:
    # A pipe or a terminal could block the start for ever.
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long; a surrogate
        return False


def _refuse_encrypted_key() -> str:
    """Replace OpenSSL's password prompt, which would wait for input."""
    raise ValueError("the key is encrypted")
