"""A module that is loaded when somebody looks at what is in it, and what of other packages a device keeps so.

One rule: who asks gets the real thing. What stands in for a module becomes the module itself at the first
look at anything it does not have.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# (package, module) that something imports at its top and does not use in a device: websockets for versions of
# itself that are not released, and for proxies in the environment.
UNUSED = (("importlib", "metadata"), ("urllib", "request"))
# They give numpy's compiled functions the texts of help(), and nothing else.
HELP_TEXTS = ("numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars")


class LazyModule(ModuleType):
    """A module that runs its code when something it lacks is asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__loader__ = spec.loader
        self.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        # inspect and pytest look at every module's dunders; that is no reason to load one.
        if spec is None or spec.loader is None or (name.startswith("__") and name != "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        part = f"{self.__name__}.{name}"
        if spec.submodule_search_locations and PathFinder.find_spec(part, spec.submodule_search_locations):
            return importlib.import_module(part)  # `from package import module` needs that module only
        # An ordinary module from now on, and the code it runs sees itself as one.
        object.__setattr__(self, "__class__", ModuleType)
        spec.loader.exec_module(self)
        return getattr(self, name)


def keep_unloaded() -> None:
    """Put the stand-ins in place, before the device is loaded; what is loaded already stays as it is.

    Only for a process that is a device and nothing else: nobody asks it for help.
    """
    for package, name in UNUSED:
        full = f"{package}.{name}"
        if full in sys.modules:
            continue
        spec = importlib.util.find_spec(full)
        if spec is not None:
            sys.modules[full] = LazyModule(spec)
            # The import system binds a submodule to its parent only when it loaded it itself.
            vars(sys.modules[package])[name] = sys.modules[full]
    if "numpy" not in sys.modules:
        sys.modules.update({name: ModuleType(name) for name in HELP_TEXTS})
