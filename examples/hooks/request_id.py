# An id that we have made ourselves: a client's own is kept beside it, if it is one.
import re
import time

GOOD = re.compile(r"^[A-Za-z0-9-]{8,64}$")


def on_request(request):
    theirs = request.headers.get("X-Request-Id", "")
    if GOOD.match(theirs):
        request.headers["X-Client-Request-Id"] = theirs
    made = f"{time.time():.6f}-{request.client}"
    request.headers["X-Request-Id"] = made
    request.context["id"] = made


def on_response(request, response):
    response.headers["X-Request-Id"] = request.context["id"]
