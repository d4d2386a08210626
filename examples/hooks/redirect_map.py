# What has moved, and where to.
MOVED = {
    "/old": "/new",
    "/about.html": "/about/",
    "/shop": "https://shop.example.com/",
}


def on_request(request):
    target = MOVED.get(request.path)
    if target is not None:
        if request.query_string:
            target += "?" + request.query_string
        request.redirect(target, 301)
