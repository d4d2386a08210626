"""A hook of the outer slardar: whoever uploads needs the token."""


def on_request(request):
    if request.method == "PUT" and request.headers.get("Authorization") != "Bearer let-me-in":
        request.reject(403, "uploads need the token")
