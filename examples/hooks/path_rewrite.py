# /v1/users/7 is what the server knows as /users/7?api=1; /blog goes to another upstream.
import re

VERSION = re.compile(r"^/v([0-9]+)(/.*)$")


def on_request(request):
    found = VERSION.match(request.path)
    if found:
        request.path = found.group(2)
        request.query["api"] = found.group(1)
    elif request.path == "/blog" or request.path.startswith("/blog/"):
        request.path = request.path[len("/blog") :] or "/"
        request.host = "blog.example.com"
