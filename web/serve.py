"""Serve the page that upscales in a browser:  python web/serve.py [-p PORT]

With the two headers without which a browser gives WebAssembly no threads. Nobody but this machine is answered.
"""

import argparse
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).parent
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Handler(SimpleHTTPRequestHandler):
    """Files with the headers, and with types that browsers insist on, whatever this system's tables say."""

    extensions_map = {  # noqa: RUF012 (so does its base class)
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json",
        ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml", ".onnx": "application/octet-stream",
    }  # fmt: skip

    def end_headers(self) -> None:
        """The last that is done before the content."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_request(self, *_) -> None:
        """What goes well is not told; errors are, by `log_error`."""


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page that upscales in a browser.")
    parser.add_argument("-p", "--port", type=int, default=8000, help="of http://localhost (default 8000; 0: any)")
    options = parser.parse_args()
    if not (FOLDER / "node_modules" / "onnxruntime-web").is_dir():
        print("error: onnxruntime-web is not there: run `npm ci` in web/ once", file=sys.stderr)
        return 1
    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.port), partial(Handler, directory=FOLDER))
    except (OSError, OverflowError) as error:
        print(f"error: port {options.port}: {error}; choose another with -p", file=sys.stderr)
        return 1
    print(f"http://localhost:{server.server_port}/ (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
