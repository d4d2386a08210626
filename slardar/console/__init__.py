"""The commands of ``slardar``: what an operator types to talk to a running one."""
