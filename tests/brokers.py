"""One real Kafka broker for tests and benchmarks, from whatever this machine has.

In this order: the cluster that KAFKA_BOOTSTRAP names; a container, where a Docker daemon answers and has or gets the
image; Kafka's own jars from Maven Central, where there are Java 17 and Maven. `python -m tests.brokers` starts one,
prints its address and stays until Ctrl-C.
"""

from __future__ import annotations

import base64
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

KAFKA_VERSION = "4.2.0"
SCALA_VERSION = "2.13"
IMAGE = f"apache/kafka:{KAFKA_VERSION}"
JAVA_MAJOR_MIN = 17
DOCKER_ANSWER_S_MAX = 3
READY_S_MAX = 60
STOP_S_MAX = 30

# Topics must be created by name, so that a topic that is not there stays so.
SETTINGS = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After a kill the controller admits the broker again only when its old session has ended.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",
}

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamstate.tests</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{SCALA_VERSION}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class BrokerUnavailableError(Exception):
    """This machine has no way to run Kafka; the message gives the reason for each way."""


class _Server(Protocol):
    """One Kafka server that can be stopped and started with its data and its address kept."""

    address: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def is_running(self) -> bool: ...

    def remove(self) -> None: ...

    def log_tail(self) -> str: ...


class Broker:
    """A running Kafka. Restarts keep its data and its address.

    Attributes:
        bootstrap_servers: the address, as clients want it.
        can_restart: False for a cluster that was given by KAFKA_BOOTSTRAP.
    """

    def __init__(self, bootstrap_servers: str, server: _Server | None = None) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.can_restart = server is not None
        self._server = server

    def admin(self) -> AdminClient:
        """A client for what a test needs beside topics; keep it alive until its results are there."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def group_offsets(self, group: str) -> dict[tuple[str, int], int]:
        """What lag tools see: the offsets of a consumer group, by topic and partition."""
        admin = self.admin()
        deadline = time.monotonic() + READY_S_MAX
        while True:
            answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
            try:
                found = answer.result(READY_S_MAX).topic_partitions or []
            except KafkaException as error:
                # A broker that has just started is still loading its groups.
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until clients can see all of its partitions."""
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result(30)
        deadline = time.monotonic() + READY_S_MAX
        while True:
            found = admin.list_topics(timeout=10).topics.get(name)
            if found is not None and found.error is None and len(found.partitions) == partitions:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {name} was created but did not appear within {READY_S_MAX} s")

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until clients no longer see it."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(30)
        deadline = time.monotonic() + READY_S_MAX
        while name in admin.list_topics(timeout=10).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {name} was deleted but did not go within {READY_S_MAX} s")

    def start(self) -> None:
        """Start after `stop` or `kill`, and wait until it answers a metadata request."""
        server = self._own()
        server.start()
        deadline = time.monotonic() + READY_S_MAX
        admin = self.admin()
        while True:
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException as error:
                if not server.is_running():
                    raise RuntimeError(f"Kafka ended while it started:\n{server.log_tail()}") from error
                if time.monotonic() > deadline:
                    reason = f"Kafka at {self.bootstrap_servers} did not answer within {READY_S_MAX} s"
                    raise RuntimeError(f"{reason}:\n{server.log_tail()}") from error

    def stop(self) -> None:
        """Stop in an orderly way."""
        self._own().stop()

    def kill(self) -> None:
        """End it at once, as a power cut of this one process would."""
        self._own().kill()

    def close(self) -> None:
        """Stop and remove the data; does nothing to a cluster that was given."""
        if self._server is not None:
            self._server.remove()

    def _own(self) -> _Server:
        if self._server is None:
            raise BrokerUnavailableError(f"{self.bootstrap_servers} comes from KAFKA_BOOTSTRAP and is not ours to stop")
        return self._server


class _NativeServer:
    """Kafka as a Java process of this machine, in KRaft mode, with its data in a temporary directory."""

    def __init__(self, jars: Path) -> None:
        self._jars = jars
        self._directory = Path(tempfile.mkdtemp(prefix="streamstate-kafka-"))
        self._log_file = self._directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller_port = _free_ports(2)
        self.address = f"127.0.0.1:{port}"
        controller = f"127.0.0.1:{controller_port}"
        settings = SETTINGS | {
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": str(self._directory / "data"),
        }
        self._settings = self._directory / "server.properties"
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        formatting = ["kafka.tools.StorageTool", "format", "--cluster-id", _cluster_id(), "--config"]
        done = subprocess.run(
            [*self._java("-Xmx256m"), *formatting, str(self._settings)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise RuntimeError(f"formatting Kafka's storage failed: {done.stderr.strip()[-500:]}")

    def start(self) -> None:
        command = [*self._java("-Xmx512m", "-Xms256m"), "kafka.Kafka", str(self._settings)]
        with self._log_file.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal must reach Python first, which then stops Kafka in order.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def log_tail(self) -> str:
        return self._log_file.read_text(errors="replace")[-2000:] if self._log_file.exists() else "(no log)"

    def _java(self, *heap: str) -> list[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *heap, quiet, "-Djava.awt.headless=true", "-cp", f"{self._jars}/*"]

    def _end(self, sign: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(sign)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class _ContainerServer:
    """Kafka in a container, on a fixed port of this machine so that a restart keeps the address."""

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        (port,) = _free_ports(1)
        self.address = f"127.0.0.1:{port}"
        settings = SETTINGS | {
            "controller.quorum.voters": "1@localhost:9093",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
        }
        environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}
        self._container = DockerContainer(IMAGE).with_envs(**environment).with_bind_ports(9092, port)
        self._is_created = False

    def start(self) -> None:
        if self._is_created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._is_created = True

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=STOP_S_MAX)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def is_running(self) -> bool:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")

    def remove(self) -> None:
        if self._is_created:
            self._container.stop()

    def log_tail(self) -> str:
        return str(self._container.get_wrapped_container().logs(tail=30), errors="replace")


def start_broker() -> Broker:
    """Start a broker, or take the one that KAFKA_BOOTSTRAP names.

    Raises BrokerUnavailableError with the reason for each way that did not work.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        return Broker(given)
    reasons = []
    for way in (_container_server, _native_server):
        try:
            server = way()
        except BrokerUnavailableError as error:
            reasons.append(str(error))
            continue
        broker = Broker(server.address, server)
        try:
            broker.start()
        except BaseException:
            broker.close()
            raise
        return broker
    raise BrokerUnavailableError("no Kafka here: " + "; ".join(reasons) + "; or set KAFKA_BOOTSTRAP=host:port")


def _container_server() -> _Server:
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise BrokerUnavailableError("containers need testcontainers: pip install testcontainers") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker's client leaves its socket open where nobody answers
        try:
            docker.from_env(timeout=DOCKER_ANSWER_S_MAX).ping()
        except DockerException as error:
            reason = f"no Docker daemon answers ({str(error)[:200]})"
        else:
            reason = ""
        gc.collect()
    if reason:
        raise BrokerUnavailableError(reason)
    server = _ContainerServer()
    try:
        server.start()
    except (DockerException, OSError) as error:
        raise BrokerUnavailableError(f"the image {IMAGE} cannot be started: {str(error)[:200]}") from None
    return server


def _native_server() -> _Server:
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        raise BrokerUnavailableError(f"java {JAVA_MAJOR_MIN} or newer and mvn are not both on PATH")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version.group(1)) < JAVA_MAJOR_MIN:
        raise BrokerUnavailableError(f"Kafka {KAFKA_VERSION} needs Java {JAVA_MAJOR_MIN}: {shown.splitlines()[:1]}")
    return _NativeServer(_jars(maven))


def _jars(maven: str) -> Path:
    """Kafka's jars; fetched once, and moved into place whole so that an interrupted download is not taken for one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamstate"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        Path(scratch, "pom.xml").write_text(POM)
        fetched = Path(scratch, "jars")
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"]
        done = subprocess.run([maven, "-q", "-B", *goal], cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerUnavailableError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {done.stdout.strip()[-500:]}")
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():  # otherwise another run was faster, with the same jars
                raise
    return jars


def _cluster_id() -> str:
    # A fixed first byte: an id that begins with a dash is taken for an option.
    return base64.urlsafe_b64encode(b"K" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """One broker for the whole run; tests use topics of their own and leave it running."""
    try:
        broker = start_broker()
    except BrokerUnavailableError as error:
        pytest.skip(str(error))
    yield broker
    broker.close()


def main() -> None:
    """Start a broker, print its address, stop it at Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        broker = start_broker()
    except BrokerUnavailableError as error:
        sys.exit(str(error))
    print(broker.bootstrap_servers, flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("stopping Kafka", file=sys.stderr)
    finally:
        broker.close()


if __name__ == "__main__":
    main()
