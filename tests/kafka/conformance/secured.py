"""A broker in a container with TLS, SASL and transactions, which the broker of all tests does not have."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.brokers import IMAGE, READY_S_MAX, SETTINGS

USER = "alice-of-shop"
PLAIN_PASSWORD = "pa55word-in-plain"
SCRAM_PASSWORD = "pa55word-in-scram"
SCRAM = "SCRAM-SHA-512"
MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Secured:
    """Where it is, and how to get in."""

    bootstrap_servers: str
    authority: str

    def options(self, mechanism: str, password: str) -> dict[str, str | int | float | bool]:
        """One configuration for every client."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.authority,
            "sasl.mechanism": mechanism,
            "sasl.username": USER,
            "sasl.password": password,
        }

    def admin(self) -> AdminClient:
        options = self.options("PLAIN", PLAIN_PASSWORD)
        return AdminClient({**options, "bootstrap.servers": self.bootstrap_servers, "log_level": 0})


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Skips where there are no containers."""
    testcontainers = pytest.importorskip("testcontainers.core.container")
    docker = pytest.importorskip("docker")
    try:
        docker.from_env(timeout=3).ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"a broker with TLS needs containers: {error}")
    authority = _certificate(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = testcontainers.DockerContainer(IMAGE).with_envs(**_environment(port)).with_bind_ports(9094, port)
    container.with_volume_mapping(str(folder), "/certificates", "ro")
    broker = Secured(f"127.0.0.1:{port}", authority)
    try:
        container.start()
    except (docker.errors.DockerException, OSError) as error:
        pytest.skip(f"the image {IMAGE} cannot be started: {str(error)[:200]}")
    try:
        _wait(broker)
        yield broker
    finally:
        container.stop()


def _certificate(folder: Path) -> str:
    """Both the broker's and the authority of itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    both = folder / "broker.pem"
    both.write_text(key.read_text() + certificate.read_text())
    folder.chmod(0o755)
    both.chmod(0o644)  # the broker runs as another user
    return str(certificate)


def _environment(port: int) -> dict[str, str]:
    secured = "listener.name.secured"
    settings = SETTINGS | {
        "controller.quorum.voters": "1@localhost:9093",
        # A transaction's coordinator connects to its own broker, which has the outer port only outside.
        "listeners": "INTERNAL://:29092,SECURED://:9094,CONTROLLER://:9093",
        "advertised.listeners": f"INTERNAL://localhost:29092,SECURED://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,SECURED:SASL_SSL",
        "inter.broker.listener.name": "INTERNAL",
        f"{secured}.sasl.enabled.mechanisms": f"PLAIN,{SCRAM}",
        f"{secured}.plain.sasl.jaas.config": (
            f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PLAIN_PASSWORD}";'
        ),
        f"{secured}.{SCRAM.lower()}.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
        f"{secured}.ssl.keystore.type": "PEM",
        f"{secured}.ssl.keystore.location": "/certificates/broker.pem",
    }
    return {"KAFKA_" + name.upper().replace("-", "___").replace(".", "_"): value for name, value in settings.items()}


def _wait(broker: Secured) -> None:
    """Until it answers, and knows the user of both mechanisms."""
    admin = broker.admin()
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            admin.list_topics(timeout=1)
            break
        except KafkaException:
            if time.monotonic() > deadline:
                raise
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
    change = UserScramCredentialUpsertion(USER, scram, SCRAM_PASSWORD.encode())
    admin.alter_user_scram_credentials([change])[USER].result(30)
