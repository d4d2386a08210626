# For an upstream with named clusters: the reader's own data centre first, and the only one
# that writes for what changes something.
HOME = {"de": "fra", "fr": "fra", "us": "nyc"}


def on_request(request):
    if request.method not in ("GET", "HEAD"):
        request.cluster_key = "fra"
        return
    home = HOME.get(request.headers.get("X-Country", "").lower(), "nyc")
    request.cluster_key = [home, "fra" if home == "nyc" else "nyc"]
