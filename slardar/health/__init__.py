"""Which servers are in service, judged by what requests and heartbeats meet."""
