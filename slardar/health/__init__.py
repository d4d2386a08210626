"""Which servers are in service, judged by the results of requests and heartbeats."""
