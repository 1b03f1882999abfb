"""A CUDA device for machines without one: tensors that say `cuda:0`, compute really, on the CPU, and refuse what CUDA refuses.

A `CudaTensor` holds a CPU tensor inside. As on a real card, an operation that mixes it with a CPU tensor of one or more dimensions
raises, `.numpy()` raises, `.cpu()` and `.item()` work, and CPU tensors may index it. Random numbers come from the CPU's generator, so
that results equal those of the CPU. Autocast does nothing to it; speed, memory and cuDNN's own rounding are not simulated either.

To torch's own C++ the tensors lie on `meta`, since its autograd would ask a card for streams; only Python sees `cuda:0`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda:0")
HERE = ("cuda", "meta")
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default, aten.lift_fresh.default}
INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
}  # argument 1: indices
NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
SAID = {
    torch.Tensor.device.__get__: CUDA,
    torch.Tensor.is_cuda.__get__: True,
    torch.Tensor.is_meta.__get__: False,
    torch.Tensor.is_cpu.__get__: False,
    torch.Tensor.get_device: 0,
}


class CudaTensor(torch.Tensor):
    """A tensor on the simulated device. inside: the CPU tensor that holds its values."""

    has_float64 = True  # MPS has not

    @staticmethod
    def __new__(cls, inside: torch.Tensor):
        if inside.dtype is torch.float64 and not cls.has_float64:
            raise TypeError("Cannot convert a tensor to float64 dtype: the device does not support it.")
        own = torch.Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(), dtype=inside.dtype, device="meta"
        )
        own.inside = inside
        return own

    def __repr__(self) -> str:
        return f"CudaTensor({self.inside})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in SAID:
            return SAID[func]
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(NO_NUMPY)
        if func is torch.Tensor.tolist:  # torch knows it for its own classes only
            return args[0].inside.tolist()
        if func is torch.Tensor.__format__:
            return format(args[0].item(), args[1])
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):  # torch would put lists on `meta`, which holds no values
            place = tuple(torch.tensor(p) if isinstance(p, list) else p for p in (args[1] if isinstance(args[1], tuple) else (args[1],)))
            args = (args[0], place, *args[2:])
        if func is torch.Tensor.new_tensor:
            return torch.tensor(*args[1:], dtype=args[0].dtype, device=CUDA)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            other = self.detach().clone().requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                other._is_param = True
            memo[id(self)] = other
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        """Saved as it is loaded again with map_location="cpu"."""
        return self.inside.detach().__reduce_ex__(protocol)


def mapped(change: Callable, part: object) -> object:
    """`part` with every tensor in its tuples, lists and dicts changed; torch's own `tree_map` is several times slower."""
    if isinstance(part, torch.Tensor):
        return change(part)
    if isinstance(part, (tuple, list)):
        return type(part)([mapped(change, inner) for inner in part])
    return {name: mapped(change, inner) for name, inner in part.items()} if isinstance(part, dict) else part


def tensors_in(*parts: object) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    mapped(seen.append, parts)
    return seen


def check_devices(func, args: tuple, kwargs: dict) -> None:
    """Raise as CUDA does where an operation mixes devices."""
    if func in MOVES:
        return
    if func in INDEXED:
        if not isinstance(args[0], CudaTensor) and any(isinstance(index, CudaTensor) for index in args[1]):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        args = (args[0], *args[2:])
    tensors = tensors_in(args, kwargs)
    assert all(isinstance(t, CudaTensor) or t.device.type == "cpu" for t in tensors), f"{func} got a tensor without values"
    if any(isinstance(t, CudaTensor) for t in tensors) and any(not isinstance(t, CudaTensor) and t.ndim for t in tensors):
        shapes = ", ".join(f"{'cuda:0' if isinstance(t, CudaTensor) else 'cpu'}{tuple(t.shape)}" for t in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices! {func}: {shapes}")


def run(func, args: tuple, kwargs: dict):
    """Do an operation on the values inside, and wrap what comes out if it belongs on the device."""
    check_devices(func, args, kwargs)
    owners = {id(t.inside): t for t in tensors_in(args, kwargs) if isinstance(t, CudaTensor)}
    device = kwargs.get("device")
    if func is aten.copy_.default:
        here = isinstance(args[0], CudaTensor)
    else:
        here = bool(owners) if device is None else torch.device(device).type in HERE
    args, kwargs = mapped(lambda t: t.inside if isinstance(t, CudaTensor) else t, (args, kwargs))
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    if not here:
        return func(*args, **kwargs)
    with torch.inference_mode(False):  # a view made in that mode of a tensor made outside must be like those outside
        result = func(*args, **kwargs)
        return mapped(lambda t: owners[id(t)] if id(t) in owners else CudaTensor(t), result)


class FakeCuda(TorchDispatchMode):
    """Factories with device="cuda" and `.to("cuda")` give a `CudaTensor`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run_thread_here(start) -> object:
    """`threading.Thread.run` under the device: modes belong to a thread."""

    def run_thread(thread: threading.Thread) -> None:
        with FakeCuda():
            start(thread)

    return run_thread


@contextmanager
def fake_cuda(bf16: bool = True, float64: bool = True) -> Iterator[torch.device]:
    """A machine with one simulated CUDA device, for this thread and all that start inside. bf16: whether the card has it itself,
    instead of by emulation. float64: False for a device that lacks it, as MPS does."""
    torch._C._ensureCUDADeviceGuardSet()  # where there is no card, one that does nothing
    lifted, overwrite = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
    card = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda including_emulation=True: bf16 or including_emulation,
    }
    with ExitStack() as stack:
        for name, value in card.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(CudaTensor, "has_float64", float64))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run_thread_here(threading.Thread.run)))
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a Parameter takes no data of another class
        stack.enter_context(FakeCuda())
        yield CUDA
