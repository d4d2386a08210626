"""Probes of heartbeats, one file each; see ``base``.

Third parties may ship files for this folder in packages of their own.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
