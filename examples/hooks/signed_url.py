# /files/a.zip?expires=1767225600&sign=...: the link is good until then, for that path only.
import hmac
import time

SECRET = b"change me"


def on_request(request):
    expires = request.query.get("expires", "")
    sign = request.query.get("sign", "")
    if not expires.isdigit() or len(expires) > 12 or int(expires) < time.time():
        return request.reject(410, "the link has expired")
    text = request.path + "\n" + expires
    wanted = hmac.new(SECRET, text.encode(), "sha1").hexdigest()
    if not hmac.compare_digest(sign, wanted):
        return request.reject(403, "the link is not signed")
    del request.query["expires"]
    del request.query["sign"]
    return None
