"""The import of torch for a process that must be ready soon."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# A third of the time of `import torch` goes into these: Python implementations of operations on meta and fake tensors,
# which `torch.compile` and `torch.export` need.
_POSTPONED = ("torch._meta_registrations", "torch.distributed._meta_registrations")
# Modules that take for granted that the postponed ones are there, in part since they import each other in a circle.
_NEED_THEM = (
    "torch._decomp",
    "torch._dynamo",
    "torch._inductor",
    "torch._prims",
    "torch._refs",
    "torch.fx.experimental.symbolic_shapes",
    "torch.utils._content_store",
)


def import_torch() -> None:
    """Import torch, if it is not imported yet, without the operations on meta and fake tensors.

    They are imported when something that needs them is.
    """
    if "torch" in sys.modules:
        return
    empty = {name: ModuleType(name) for name in _POSTPONED if name not in sys.modules}
    sys.modules |= empty
    try:
        import torch
    finally:
        for name, module in empty.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if getattr(sys.modules.get(parent), child, None) is module:
                delattr(sys.modules[parent], child)
    assert torch
    sys.meta_path.insert(0, _Later())


class _Later(MetaPathFinder):
    """Imports what was postponed before the first module that needs it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to find the module if it came along with what was postponed, else None: others look for it."""
        if name not in (*_NEED_THEM, *_POSTPONED) or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        for postponed in _POSTPONED:
            importlib.import_module(postponed)
        if (module := sys.modules.get(name)) is None:
            return None
        # Executed once more, it would register its operations twice. Python prefers the spec that the module has.
        spec = ModuleSpec(name, _There(module))
        module.__spec__ = spec
        return spec


class _There(Loader):
    """Gives a module that is imported already."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is, with the spec that it had."""
        module.__spec__ = self._spec
