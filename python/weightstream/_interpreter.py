"""Which interpreters work, looked at before anything else is imported."""

import sysconfig

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError(
        "weightstream needs an interpreter with the global lock; this is a free-threaded build of Python, on "
        "which it was never tested. Passes in several threads overlap all the same: PyTorch lets the lock go"
    )
