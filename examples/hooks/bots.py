# Robots that do not behave, and those that do not say who they are.
import re

BAD = re.compile(r"(?i)\b(ahrefsbot|semrushbot|mj12bot|python-requests|scrapy)\b")


def on_request(request):
    agent = request.headers.get("User-Agent", "")
    if (not agent or BAD.search(agent)) and request.path != "/robots.txt":
        request.reject(403, "no robots")
