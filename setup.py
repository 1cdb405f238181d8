"""Build the compiled modules of ext/; everything else is in pyproject.toml.

Each source in ext/ becomes the module its one door in pfsmtp/ imports. With PFSMTP_CYTHON_CHECKS=1
in the environment, indices are checked as they are used (docs/testing.md).
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = {
    "ext/durable.pyx": "pfsmtp._durable",
    "ext/wire.pyx": "pfsmtp.smtp._wire",
    "ext/socketio.pyx": "pfsmtp.net._socketio",
    "ext/slot.pyx": "pfsmtp.mailqueue._slot",
}

CHECKS = os.environ.get("PFSMTP_CYTHON_CHECKS") == "1"

setup(
    ext_modules=cythonize(
        [
            Extension(module, [source], extra_compile_args=["-O2", "-Wall"], libraries=["pthread"])
            for source, module in MODULES.items()
        ],
        include_path=["ext"],
        compiler_directives={
            "language_level": "3",
            "boundscheck": CHECKS,
            "wraparound": False,
            "embedsignature": True,
        },
    )
)
