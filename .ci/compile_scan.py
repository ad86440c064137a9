"""Hatchling's hook that compiles `rtb/openrtb/scan.pyx`; pyproject.toml says when."""

import tempfile
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension


class CompileScan(BuildHookInterface):
    """Leaves the module beside its source, as the other hook does, and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; hatchling calls it before it collects files."""
        source = "rtb/openrtb/scan.pyx"
        with tempfile.TemporaryDirectory() as scratch:
            extension = Extension("rtb.openrtb.scan", [source], extra_compile_args=["-O3"])
            modules = cythonize([extension], build_dir=scratch, quiet=True)
            build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
            build.build_temp = scratch
            build.inplace = True
            build.ensure_finalized()
            build.run()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append("/rtb/openrtb/scan.*.so")
