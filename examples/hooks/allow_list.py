# The back office is for these networks.
import ipaddress

ALLOWED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("192.0.2.128/25")]


def on_request(request):
    if request.path.startswith("/admin"):
        address = ipaddress.ip_address(request.client)
        if not any(address in network for network in ALLOWED):
            request.reject(403)
