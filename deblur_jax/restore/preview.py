"""A page on this machine that shows live pictures: MJPEG, which every browser plays without a script."""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.restore.compare import side_by_side
from deblur_jax.restore.images import encode_image

__all__ = ["Preview"]

_PAGE = b"""<!doctype html><meta charset=utf-8><title>deblur live</title>
<style>body { margin: 0; background: #111; color: #ccc; font: 14px/1.5 system-ui, sans-serif; text-align: center }
img { max-width: 100vw; max-height: 92vh }</style>
<img src=stream alt="before and after"><p id=said>before, and after
<script>setInterval(async () => { const s = await (await fetch('achieved')).json();
said.textContent = `${s.frames_per_second} frames a second, ${Math.round(1000 * s.latency_median)} ms behind, ` +
  `${s.dropped} of ${s.arrived} dropped` }, 1000)</script>"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a browser that went away is none of ours
            super().handle_error(request, client_address)


class Preview:
    """Serves the newest pair; nobody who watches slows down what is shown."""

    def __init__(self, port: int, achieved: Callable[[], dict[str, Any]]) -> None:
        self._there = threading.Condition()
        self._jpeg, self._number, self._watched, self._closed = b"", 0, 0, False
        preview = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    self._send("text/html", _PAGE)
                elif self.path == "/achieved":
                    self._send("application/json", json.dumps(achieved()).encode())
                elif self.path == "/stream":
                    preview.stream(self)
                else:
                    self.send_error(404)

            def _send(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise UserError(f"--port {port}: cannot be opened: {error.strerror}") from None
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def show(self, before: np.ndarray, after: np.ndarray) -> None:
        if not self._watched:
            return  # compressing for nobody takes time too
        jpeg = encode_image(side_by_side(before, after), ".jpg", quality=85)
        with self._there:
            self._jpeg, self._number = jpeg, self._number + 1
            self._there.notify_all()

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        with self._there:
            self._watched += 1
        seen = 0
        try:
            while True:
                with self._there:
                    if not self._closed and self._number == seen:
                        self._there.wait(1.0)
                    jpeg, number = self._jpeg, self._number
                if self._closed:
                    return
                if number > seen:
                    seen = number
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    handler.wfile.write(head.encode() + jpeg + b"\r\n")
        finally:
            with self._there:
                self._watched -= 1

    def close(self) -> None:
        with self._there:
            self._closed = True
            self._there.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
