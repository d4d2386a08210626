# Only who knows the token gets in.  The digest is kept here and not the token itself.
import hashlib
import hmac

TOKENS = {
    # sha256 of "letmein", and who has it
    "1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032": "ops",
}


def on_request(request):
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    digest = hashlib.sha256(token.encode()).hexdigest()
    for known, owner in TOKENS.items():
        if kind == "Bearer" and hmac.compare_digest(digest, known):
            request.headers["X-User"] = owner
            del request.headers["Authorization"]
            return
    request.respond(401, "a token, please\n", {"WWW-Authenticate": "Bearer"})
