"""A certificate of an authority that nobody else knows."""

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> None:
    """Write ca.crt and ca.key, and server.crt and server.key for this machine, which any client may use as well."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    request = ["req", "-newkey", "rsa:2048", "-nodes"]
    openssl(*request, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(*request, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
