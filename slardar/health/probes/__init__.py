"""Probes of heartbeats, one file each; see ``base``.

Other distributions may ship files for this folder, see :mod:`slardar.model.folders`.
"""

from slardar.model.folders import opened

__path__ = opened(__path__, __name__)
