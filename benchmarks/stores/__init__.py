"""Measures slardar with a store that several nodes share, beside others that follow Consul."""
