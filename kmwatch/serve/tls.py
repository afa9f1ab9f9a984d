"""TLS by the standard library, as prometheus-client's own server sets it up; and who may scrape, by certificate."""

import ssl

from kmwatch.errors import BadInputError
from kmwatch.serve.config import ServeConfig


def context(config: ServeConfig) -> ssl.SSLContext | None:
    """The context that the configuration asks for, None without a certificate; BadInputError where a file is bad."""
    if not config.tls_certificate:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password to give, OpenSSL would ask the terminal for the one of an encrypted key.
        made.load_cert_chain(config.tls_certificate, config.tls_key, password=lambda: "")
        if config.tls_client_ca:
            made.load_verify_locations(config.tls_client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        files = ", ".join(str(path) for path in (config.tls_certificate, config.tls_key, config.tls_client_ca) if path)
        raise BadInputError(f"cannot use {files} for TLS: {words}") from error
    return made
