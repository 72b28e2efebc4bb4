"""The import of torch for a process that must be ready soon."""

import sys
from types import ModuleType

# A third of the time of `import torch` goes into these: Python implementations of operations on meta and fake tensors,
# which `torch.compile` and `torch.export` need.
_POSTPONED = ("torch._meta_registrations", "torch.distributed._meta_registrations")


def import_torch() -> None:
    """Import torch, if it is not imported yet, without the operations on meta and fake tensors.

    Whatever needs them later and imports them finds the real modules.
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
