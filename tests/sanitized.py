"""A pytest plugin: the C of a sanitized build in place of the installed one (make sanitize-engine).

pytest -p sanitized ..., with the compiler's sanitizer preloaded. Programs run on two threads, as ever.
"""

import importlib.util
import os
import sys

spec = importlib.util.spec_from_file_location("ggufpy._kernels", os.environ["GGUFPY_SANITIZED"])
assert spec and spec.loader
module = importlib.util.module_from_spec(spec)
sys.modules["ggufpy._kernels"] = module
spec.loader.exec_module(module)
