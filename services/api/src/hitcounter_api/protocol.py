"""uvicorn's HTTP protocol with one difference: what is not HTTP gets a problem, too."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hitcounter_api.problems import MEDIA_TYPE, Kind, Problem


class ApiProtocol(HttpToolsProtocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that cannot be parsed, such as a path that is not ASCII, and hang up."""
        body = Problem(Kind.MALFORMED_REQUEST, f"{msg} Bytes outside of ASCII must be percent-encoded.").render()
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[Kind.MALFORMED_REQUEST.status] + head.encode() + body)
        self.transport.close()
