"""Build what is compiled, which is in ext/; everything else is in pyproject.toml.

Each Cython source becomes the module its one door in pfsmtp/ imports. With PFSMTP_CYTHON_CHECKS=1
in the environment, indices are checked as they are used (docs/testing.md). The C source becomes
programs, which are installed like scripts.
"""

import os
import shlex

from Cython.Build import cythonize
from setuptools import Extension, setup

# isort: split
# Part of setuptools, which has to be imported first.
from distutils.ccompiler import new_compiler
from distutils.command.build_scripts import build_scripts
from distutils.sysconfig import customize_compiler

MODULES = {
    "ext/durable.pyx": "pfsmtp._durable",
    "ext/logline.pyx": "pfsmtp._logline",
    "ext/wire.pyx": "pfsmtp.smtp._wire",
    "ext/path.pyx": "pfsmtp.smtp._path",
    "ext/reply.pyx": "pfsmtp.smtp.client._reply",
    "ext/socketio.pyx": "pfsmtp.net._socketio",
    "ext/slot.pyx": "pfsmtp.mailqueue._slot",
}

PROGRAMS = {
    "pfsmtp": ("ext/front.c", []),
    "pfsmtp-sendmail": ("ext/front.c", [("SENDMAIL", None)]),
}

CHECKS = os.environ.get("PFSMTP_CYTHON_CHECKS") == "1"


class BuildPrograms(build_scripts):
    """Puts the compiled programs where scripts go, which are text for setuptools."""

    def run(self):
        compiler = new_compiler()
        customize_compiler(compiler)
        between = self.get_finalized_command("build").build_temp
        for name, (source, macros) in PROGRAMS.items():
            objects = compiler.compile(
                [source],
                output_dir=os.path.join(between, name),
                macros=macros,
                extra_postargs=["-O2", "-Wall", "-Wextra"],
            )
            compiler.link_executable(
                objects,
                name,
                output_dir=self.build_dir,
                # Which distutils heeds for libraries only.
                extra_preargs=shlex.split(os.environ.get("LDFLAGS", "")),
            )


setup(
    scripts=sorted({source for source, _ in PROGRAMS.values()}),
    cmdclass={"build_scripts": BuildPrograms},
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
    ),
)
