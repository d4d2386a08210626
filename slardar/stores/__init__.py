"""Where changes made at run time are kept, one file a kind of store.

Third parties may ship files for this folder in packages of their own.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
