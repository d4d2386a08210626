# Pictures are for our own pages: a Referer from elsewhere gets none.
OURS = ("example.com", "example.org")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".mp4")


def on_request(request):
    referer = request.headers.get("Referer")
    if referer is None or not request.path.lower().endswith(PICTURES):
        return
    host = referer.partition("://")[2].partition("/")[0].partition(":")[0].lower()
    if not any(host == ours or host.endswith("." + ours) for ours in OURS):
        request.reject(403, "this picture is shown on our pages only")
