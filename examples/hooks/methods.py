# Nothing is deleted from outside.
ALLOWED = {"GET", "HEAD", "POST", "OPTIONS"}


def on_request(request):
    if request.method not in ALLOWED:
        request.respond(405, "not here\n", {"Allow": ", ".join(sorted(ALLOWED))})
