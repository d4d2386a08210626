# The API may be called from the pages of these sites.
ORIGINS = {"https://app.example.com", "https://admin.example.com"}
ALLOW = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


def on_request(request):
    origin = request.headers.get("Origin")
    if origin not in ORIGINS:
        return
    request.context["origin"] = origin
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        request.respond(204, "", {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **ALLOW})


def on_response(request, response):
    origin = request.context.get("origin")
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers.add("Vary", "Origin")
