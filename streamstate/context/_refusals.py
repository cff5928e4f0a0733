"""Everything of an event loop that would wait for the outside world: refused, with the line and the remedy."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from streamstate.errors import ForeignAwaitError


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refused(self: RefusingLoop, *_args: object, **_kwargs: object) -> NoReturn:
        self.refuse(f"called {name} of the event loop")

    return refused


class RefusingLoop(asyncio.AbstractEventLoop):
    """A loop without I/O.

    Attributes:
        is_touched: there may be callbacks, tasks, numbers or a violation.
    """

    is_touched = False

    @abstractmethod
    def violate(self, what: str) -> ForeignAwaitError:
        """Remember what the handler did that it must not; the turn ends as a fault, whatever the handler does then."""

    def refuse(self, what: str) -> NoReturn:
        """Remember it, and raise it."""
        raise self.violate(what)

    add_reader: Any = _refusal("add_reader")
    add_signal_handler: Any = _refusal("add_signal_handler")
    add_writer: Any = _refusal("add_writer")
    close: Any = _refusal("close")
    connect_accepted_socket: Any = _refusal("connect_accepted_socket")
    connect_read_pipe: Any = _refusal("connect_read_pipe")
    connect_write_pipe: Any = _refusal("connect_write_pipe")
    create_connection: Any = _refusal("create_connection")
    create_datagram_endpoint: Any = _refusal("create_datagram_endpoint")
    create_server: Any = _refusal("create_server")
    create_unix_connection: Any = _refusal("create_unix_connection")
    create_unix_server: Any = _refusal("create_unix_server")
    default_exception_handler: Any = _refusal("default_exception_handler")
    get_exception_handler: Any = _refusal("get_exception_handler")
    get_task_factory: Any = _refusal("get_task_factory")
    getaddrinfo: Any = _refusal("getaddrinfo")
    getnameinfo: Any = _refusal("getnameinfo")
    remove_reader: Any = _refusal("remove_reader")
    remove_signal_handler: Any = _refusal("remove_signal_handler")
    remove_writer: Any = _refusal("remove_writer")
    run_forever: Any = _refusal("run_forever")
    run_in_executor: Any = _refusal("run_in_executor")
    run_until_complete: Any = _refusal("run_until_complete")
    sendfile: Any = _refusal("sendfile")
    set_default_executor: Any = _refusal("set_default_executor")
    set_exception_handler: Any = _refusal("set_exception_handler")
    set_task_factory: Any = _refusal("set_task_factory")
    shutdown_asyncgens: Any = _refusal("shutdown_asyncgens")
    shutdown_default_executor: Any = _refusal("shutdown_default_executor")
    sock_accept: Any = _refusal("sock_accept")
    sock_connect: Any = _refusal("sock_connect")
    sock_recv: Any = _refusal("sock_recv")
    sock_recv_into: Any = _refusal("sock_recv_into")
    sock_recvfrom: Any = _refusal("sock_recvfrom")
    sock_recvfrom_into: Any = _refusal("sock_recvfrom_into")
    sock_sendall: Any = _refusal("sock_sendall")
    sock_sendfile: Any = _refusal("sock_sendfile")
    sock_sendto: Any = _refusal("sock_sendto")
    start_tls: Any = _refusal("start_tls")
    stop: Any = _refusal("stop")
    subprocess_exec: Any = _refusal("subprocess_exec")
    subprocess_shell: Any = _refusal("subprocess_shell")
