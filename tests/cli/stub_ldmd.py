"""A stand-in for ldmd on a real Unix socket."""

import json
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

Answers = Callable[[str, dict[str, Any]], Iterator[Mapping[str, Any]]]


class StubLdmd(ThreadingMixIn, UnixStreamServer):
    """Speaks docs/reference/api.md; ``answers`` yields the documents of one command."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """The client closes as soon as it knows the end; that is no error of a test."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: Answers = lambda _verb, _arguments: iter(({"result": {}},))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StubLdmd

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((order["verb"], order["arguments"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for document in self.server.answers(order["verb"], order["arguments"]):
            # Split in the middle: a line may come in several chunks.
            line = json.dumps(document).encode() + b"\n"
            for part in (line[:5], line[5:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True
