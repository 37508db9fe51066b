"""The target of the load: a server on this machine, and never another one."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """The address of the API, and the bytes of requests to it."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as one would paste it."""
        return f"http://{self._authority}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def get(self, path: str) -> bytes:
        """Build a GET request."""
        return f"GET {path} HTTP/1.1\r\nHost: {self._authority}\r\n\r\n".encode()

    def post(self, path: str, body: bytes) -> bytes:
        """Build a POST request with a JSON body."""
        head = (
            f"POST {path} HTTP/1.1\r\n"
            f"Host: {self._authority}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def counts_path(hit_id: str) -> str:
    """Return the path of an id's counts; everything but unreserved characters is percent-encoded, slashes too."""
    return f"/analytics/{quote(hit_id, safe='')}"


def parse_target(url: str) -> Target:
    """Read a target from its URL.

    Raises:
        ValueError: It is not plain HTTP, or not on this machine; the message is a sentence for the user.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{url!r} is not of the form http://127.0.0.1:8001")
    if not _is_loopback(parts.hostname):
        raise ValueError(f"{parts.hostname!r} is not this machine: load is only sent to 127.0.0.1, ::1 or localhost")
    return Target(parts.hostname, parts.port or 80)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # other names would have to be resolved, and may resolve to anything
