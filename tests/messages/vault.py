"""A Vault server for one case: prints its port, then says LOGIN to whoever logs in and SECRET to who reads.

It is also whatever else answers in place of a gateway; with the status 0 it hangs up."""

import http.server
import os
import sys


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        login = "/auth/" in self.path
        said = os.environ.get("LOGIN", '200 {"data":{"ttl":0,"renewable":false}}') if login else os.environ["SECRET"]
        status, _, body = said.partition(" ")
        if status == "0":
            self.close_connection = True
            return
        self.send_response(int(status))
        if status.startswith("30"):
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port)
sys.stdout.flush()
server.serve_forever()
