# The country by the client's network, for servers that want to know.
import ipaddress

NETWORKS = [
    (ipaddress.ip_network("192.0.2.0/24"), "DE"),
    (ipaddress.ip_network("198.51.100.0/24"), "FR"),
    (ipaddress.ip_network("2001:db8::/32"), "JP"),
]


def on_request(request):
    address = ipaddress.ip_address(request.client)
    for network, country in NETWORKS:
        if address in network:
            request.headers["X-Country"] = country
            return
    request.headers["X-Country"] = "ZZ"
