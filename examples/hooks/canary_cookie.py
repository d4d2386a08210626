# Who has the cookie canary=1 gets the new version; everybody else stays.


def on_request(request):
    if request.cookies.get("canary") == "1":
        request.upstream = "new." + request.host
