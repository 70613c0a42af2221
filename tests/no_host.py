"""A dispatch mode that fails on whatever waits for the device."""

from torch.utils._python_dispatch import TorchDispatchMode


class NoHost(TorchDispatchMode):
    """Fails on what a capture would fail on, or would silently leave behind on the host."""

    forbidden = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "item")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.__name__.split(".")[0], kwargs or {}
        assert name not in self.forbidden, f"{name} waits for the device: a round trip to the host"
        assert name != "_to_copy" or "device" not in kwargs, "copy to a device: a round trip"
        if name in ("copy_", "_copy_from"):
            assert args[0].device == args[1].device, f"copy {args[1].device} -> {args[0].device}"
        return func(*args, **kwargs)
