"""The size of a request's head: a server that reads headers without end is out of memory before anyone is asked."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_BYTES = 64 * 1024  # request line and headers; nginx, before a service in containers, takes less
REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, but that a head of more than MAX_BYTES is answered with 431, and its connection closed."""

    _num_bytes = 0  # of the head so far; none once it is complete

    def data_received(self, data: bytes) -> None:
        self._num_bytes += len(data)
        super().data_received(data)
        if self._num_bytes > MAX_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:  # else the end of a chunked body has no end
                self.transport.write(REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._num_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_bytes = 0
        super().on_body(body)
