"""The import of torch for a process that must be ready soon."""

import importlib
import sys
from importlib.abc import MetaPathFinder
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
    """Finds nothing, but imports what was postponed before the first module that needs it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Return None, so that the other finders look for the module."""
        if name not in (*_NEED_THEM, *_POSTPONED) or self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        for postponed in _POSTPONED:
            importlib.import_module(postponed)
