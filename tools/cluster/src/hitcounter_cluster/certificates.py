"""The certificate authority of a cluster: created by openssl for one cluster, and deleted with it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.errors import DevstackError

DAYS = 30
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for the parts of one cluster.

    Args:
        folder: where the authority and what it signs are kept; what is there already is used again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.own = self._pair("ca")
        if not self.own.certificate.exists():
            subject = ("-subj", "/CN=hitcounter-cluster")
            _openssl("req", "-x509", "-days", str(DAYS), *NEW_KEY, *subject, *_files(self.own))

    def issue(self, name: str, *, addresses: Sequence[str] = (), names: Sequence[str] = ()) -> Certificate:
        """Return a certificate for a server (by its addresses and names) or a client (by its common name)."""
        pair = self._pair(name)
        if not pair.certificate.exists():
            request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
            alternatives = [*(f"IP:{address}" for address in addresses), *(f"DNS:{host}" for host in [name, *names])]
            extensions.write_text(
                f"subjectAltName = {', '.join(alternatives)}\nextendedKeyUsage = serverAuth, clientAuth\n"
            )
            subject = ("-subj", f"/CN={name}")
            _openssl("req", "-new", *NEW_KEY, *subject, "-keyout", str(pair.key), "-out", str(request))
            signer = ("-CA", str(self.own.certificate), "-CAkey", str(self.own.key), "-CAcreateserial")
            wish = ("-in", str(request), "-extfile", str(extensions), "-days", str(DAYS))
            _openssl("x509", "-req", *wish, *signer, "-out", str(pair.certificate))
        return pair

    def signing_key(self, name: str) -> Path:
        """Return a bare key, as service accounts' tokens are signed with."""
        key = self._folder / f"{name}.key"
        if not key.exists():
            # In the older of two forms: from the newer one Kubernetes reads no public key.
            _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key))
            key.chmod(0o600)
        return key

    def _pair(self, name: str) -> Certificate:
        return Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")


def _files(pair: Certificate) -> tuple[str, ...]:
    return "-keyout", str(pair.key), "-out", str(pair.certificate)


def _openssl(*arguments: str) -> None:
    answer = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise DevstackError(f"openssl {arguments[0]} failed: {answer.stderr.strip()}")
