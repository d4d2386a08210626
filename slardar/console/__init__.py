"""The commands of ``slardar``, with which an operator talks to a running slardar."""
