"""An upstream that answers, now and then with an error; writes its port into the file that it is told."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

LIMITED = count()


class Omni(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out in one piece: in two, the second would wait for the first one's receipt.
    wbufsize = 1 << 16

    def answer(self, status, body=b"{}", **fields):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "status=" in self.path:
            self.answer(int(self.path.rsplit("status=", 1)[1]))
        elif "limited" in self.path and next(LIMITED) == 0:
            self.answer(429, Retry_After="1")
        else:
            self.answer(200)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Omni)
with open(sys.argv[1], "w") as file:
    file.write(str(server.server_port))
server.serve_forever()
