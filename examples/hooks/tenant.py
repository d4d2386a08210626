# acme.example.com is the tenant acme: told to the server, whatever the client says of it.


def on_request(request):
    tenant, _, rest = request.host.partition(".")
    if rest != "example.com" or tenant == "www":
        del request.headers["X-Tenant"]
    else:
        request.headers["X-Tenant"] = tenant
