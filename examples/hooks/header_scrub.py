# Headers by which only we speak to our servers, and those that say too much to the world.
INTERNAL = ("X-User", "X-Tenant", "X-Admin", "X-Debug")
TELLTALE = ("Server", "X-Powered-By", "X-AspNet-Version", "X-Runtime")


def on_request(request):
    for name in INTERNAL:
        request.headers.remove(name)


def on_response(request, response):
    for name in TELLTALE:
        response.headers.remove(name)
