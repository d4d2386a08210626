"""What clients notice of a server's fault, through slardar and through other proxies."""
