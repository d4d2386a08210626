# What every reply should say, and what a page of ours may do.
ALWAYS = {
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}


def on_response(request, response):
    for name, value in ALWAYS.items():
        response.headers[name] = value
    if response.headers.get("Content-Type", "").startswith("text/html"):
        response.headers["X-Frame-Options"] = "DENY"
    if request.path.startswith("/static/") and response.status == 200:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
