# Uploads may be large, everything else may not.
SMALL = 64 * 1024
LARGE = 100 * 1024 * 1024


def on_request(request):
    limit = LARGE if request.path.startswith("/upload/") else SMALL
    length = request.headers.get("Content-Length")
    if length is None:
        if "Transfer-Encoding" in request.headers:
            request.reject(411, "say how long it is")
    elif int(length) > limit:
        request.reject(413, f"at most {limit} bytes")
