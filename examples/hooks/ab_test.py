# One in five visitors sees variant b, and always the same one: the cookie is theirs, or made
# of their address and browser, and sent with the reply.
import hashlib

SHARE = 20


def on_request(request):
    variant = request.cookies.get("ab")
    if variant not in ("a", "b"):
        text = request.client + request.headers.get("User-Agent", "")
        number = int(hashlib.md5(text.encode()).hexdigest()[:8], 16) % 100
        variant = "b" if number < SHARE else "a"
        request.context["ab"] = variant
    request.headers["X-Variant"] = variant


def on_response(request, response):
    variant = request.context.get("ab")
    if variant is not None:
        response.headers.add("Set-Cookie", f"ab={variant}; Path=/; Max-Age=2592000")
