"""Torch tensors as numpy arrays, and whether the memory below one is nobody else's.

torch is never imported here: whoever holds a tensor has it. Called by its neighbours here.
"""

from __future__ import annotations

import functools
import sys
import weakref
from typing import Any


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_dense(tensor: Any) -> Any:
    """`tensor` without its gradient, its quantization and its sparse layout. Raises RuntimeError, NotImplementedError
    if it has no numbers to give (a meta or a nested tensor)."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return tensor if tensor.layout is _torch().strided else tensor.to_dense()


def as_array(tensor: Any) -> Any:
    """A numpy array of the same numbers, over the tensor's own memory where numpy can read that.

    bfloat16 and the 8-bit floats, which numpy has not, become float32.
    Raises RuntimeError, NotImplementedError or TypeError if there is none.
    """
    torch = _torch()
    tensor = as_dense(tensor)
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.cpu().resolve_conj().resolve_neg().numpy()


def as_private_array(tensor: Any, *, is_sole: bool) -> tuple[Any, bool]:
    """(`as_array`, whether nobody else can change its memory).

    is_sole: nobody else holds `tensor` itself. Must be called before anything makes an alias of the tensor.
    """
    is_private = is_sole and _has_own_memory(tensor)
    array = as_array(tensor)
    return array, is_private or not _is_over(array, tensor)


def _is_over(array: Any, tensor: Any) -> bool:
    """Whether `array` lies in the tensor's memory: else it was converted, or copied from a device, just now."""
    if tensor.device.type != "cpu" or tensor.layout is not _torch().strided:
        return False
    return bool(tensor.data_ptr() == array.ctypes.data)


def _has_own_memory(tensor: Any) -> bool:
    """Whether the tensor's memory has no other holder: tensor, storage, array, graph of gradients, DLPack capsule.

    False whenever that cannot be proved, such as for a view, which outside of inference mode holds the tensor it was
    cut from. What cannot be seen: an address that was taken (`data_ptr()`).
    """
    if type(tensor) is not _torch().Tensor or tensor.device.type != "cpu" or tensor.layout is not _torch().strided:
        return False
    alone = _counts_of_alone()
    return alone is not None and not weakref.getweakrefcount(tensor) and _counts(tensor) == alone


def _counts(tensor: Any) -> tuple[Any, ...]:
    """All that differs between a fresh tensor and one whose memory is shared. Raises what torch raises."""
    storage = tensor.untyped_storage()
    return (
        tensor._use_count(),  # holders in C++, such as a DLPack capsule
        _torch()._C._storage_Use_Count(storage._cdata),  # other tensors over the same storage
        sys.getrefcount(storage),  # the storage itself in Python's hands
        storage.resizable(),  # False: the memory is, or was lent to, numpy's, a file's, another library's
        storage.is_shared(),  # with another process
    )


@functools.cache
def _counts_of_alone() -> tuple[Any, ...] | None:
    """`_counts` of a tensor that nobody else has; None if this torch does not tell a shared one from it.

    Two of the calls are torch's own (2.13); without them, or should they come to mean something else, all is copied.
    """
    torch = _torch()
    try:
        alone = _counts(torch.empty(2))
        shared = torch.empty(2)
        part, storage = shared[:1], torch.empty(2).untyped_storage()
        owner = torch.empty(0).set_(storage)
        can_tell = alone not in (_counts(part), _counts(shared), _counts(owner))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return alone if can_tell else None


def _torch() -> Any:
    return sys.modules["torch"]
