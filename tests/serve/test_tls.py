"""HTTPS with a certificate made for the test, and every way a certificate can be useless."""

import shutil
import socket
import ssl
import subprocess
import sys
import threading

import httpx
import pytest
from litestar import Litestar, get

from serve.config import AccessSettings, load
from serve.errors import AccessError, ConfigError
from serve.server import Server
from serve.tls import certificate

OPENSSL = shutil.which("openssl")
NEW = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
NAMED = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]


def make(folder, name, *more):
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [OPENSSL, *NEW, *NAMED, "-keyout", key, "-out", cert, *(more or ["-nodes"])]
    subprocess.run(command, check=True, capture_output=True)
    return AccessSettings(tls_cert=str(cert), tls_key=str(key))


@pytest.fixture
def access(tmp_path):
    if OPENSSL is None:
        pytest.skip("the openssl command is needed to make a certificate")
    return make(tmp_path, "a")


@get("/")
async def greet() -> str:
    return "hello"


def test_the_server_speaks_https_to_those_who_trust_its_certificate(access):
    server = Server(
        Litestar([greet]),
        grace_seconds=0,
        end_answers=lambda: None,
        certificate=certificate(access),
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            trust = ssl.create_default_context(cafile=access.tls_cert)
            url = f"https://127.0.0.1:{sock.getsockname()[1]}/"
            assert httpx.get(url, verify=trust, timeout=10).text == "hello"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()


def test_without_a_certificate_it_is_plain_http():
    assert certificate(AccessSettings()) is None


def test_one_without_the_other_is_refused():
    with pytest.raises(ConfigError, match="go together"):
        load(None, ["access.tls_cert=cert.pem"])


def test_a_missing_file_is_named(tmp_path):
    files = {"tls_cert": str(tmp_path / "none.pem"), "tls_key": str(tmp_path / "none.key")}
    with pytest.raises(AccessError, match=r"none\.pem: No such file"):
        certificate(AccessSettings(**files))


def test_a_key_of_another_certificate_is_refused(access, tmp_path):
    other = make(tmp_path, "b")
    with pytest.raises(AccessError, match="belong together"):
        certificate(AccessSettings(tls_cert=access.tls_cert, tls_key=other.tls_key))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(access, tmp_path):
    locked = make(tmp_path, "c", "-passout", "pass:secret")
    with pytest.raises(AccessError, match="no passphrase"):
        certificate(locked)


def test_what_is_no_pem_is_refused(access, tmp_path):
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(AccessError, match="must be PEM"):
        certificate(AccessSettings(tls_cert=str(text), tls_key=str(text)))


def test_the_command_refuses_a_certificate_it_cannot_use_with_one_line(tmp_path):
    flags = ["--tls-cert", str(tmp_path / "none.pem"), "--tls-key", str(tmp_path / "none.key")]
    command = [sys.executable, "-m", "serve", "--port", "0", *flags]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("serve: cannot read")
    assert len(process.stderr.splitlines()) == 1
