"""How operators change a running slardar: each operation once, and its channels."""
