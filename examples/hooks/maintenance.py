# Closed for work, but not for us.
STAFF = {"192.0.2.10", "192.0.2.11"}
PAGE = """<!doctype html>
<title>Back soon</title>
<h1>We are back in a few minutes.</h1>
"""


def on_request(request):
    if request.client not in STAFF and request.path != "/health":
        headers = {"Content-Type": "text/html; charset=utf-8", "Retry-After": "300"}
        request.respond(503, PAGE, headers)
