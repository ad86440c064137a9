"""Hatchling's hook that compiles what mypyc can't do justice to; pyproject.toml says when."""

import tempfile
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension

NGHTTP2 = "rtb.server.http2.nghttp2"
"""Left out where the library is not: then h2 does its work."""

MODULES = {
    NGHTTP2: "rtb/server/http2/nghttp2.pyx",
    "rtb.openrtb.scan": "rtb/openrtb/scan.pyx",  # sixteen bytes at a time
    # fields of protobuf, as C finds them; its types: rtb_request.pxd
    "rtb.openrtb.rtb_request": "rtb/openrtb/rtb_request.py",
    # bits of a TC string; its types: vendor_section.pxd
    "rtb.consent.vendor_section": "rtb/consent/vendor_section.py",
    # additions in shared memory; its types: shared_counters.pxd
    "rtb.server.metrics.shared_counters": "rtb/server/metrics/shared_counters.py",
}


class CompileCython(BuildHookInterface):
    """Leaves each module beside its source, as the other hook does, and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; hatchling calls it before it collects files."""
        with tempfile.TemporaryDirectory() as scratch:
            extensions = [
                Extension(
                    name,
                    [source],
                    extra_compile_args=["-O3"],
                    libraries=["nghttp2"] if name == NGHTTP2 else [],
                    optional=name == NGHTTP2,
                )
                for name, source in MODULES.items()
            ]
            modules = cythonize(
                extensions,
                build_dir=scratch,
                quiet=True,
                # Hints are for mypy: a `float` of theirs may be None, one of Cython's not.
                compiler_directives={"annotation_typing": False},
            )
            build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
            build.build_temp = scratch
            build.inplace = True
            build.ensure_finalized()
            build.run()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"] += [f"/{name.replace('.', '/')}.*.so" for name in MODULES]
