"""Certificates that a CA signs by itself, for clients' TLS (ACME, RFC 8555).

:mod:`~slardar.acme.rules` says when what is done, :mod:`~slardar.acme.orders` does it,
:mod:`~slardar.acme.ca` speaks to the CA, and :mod:`~slardar.acme.keys` makes keys and certificates.
"""
