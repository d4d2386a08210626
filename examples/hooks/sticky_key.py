# For an upstream with mode hash: the same session always gets the same server.


def on_request(request):
    session = request.cookies.get("session")
    request.hash_key = session or request.client
