"""The stores, one file each: they keep the changes that are made at run time.

Other distributions may ship files for this folder, see :mod:`slardar.model.folders`.
"""

from slardar.model.folders import opened

__path__ = opened(__path__, __name__)
