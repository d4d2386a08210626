"""Service catalogues, one file each: they list the servers of services; see `base`."""
