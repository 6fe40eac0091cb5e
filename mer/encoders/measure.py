"""What a network of another package gives, and which of its parameters have a part in that, found without computing it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mer.errors import UserError

_FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, AttributeError, KeyError)


def measure(module: nn.Module, encode: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> torch.Size:
    """Shape of `encode(x)` for an x of this shape; parameters of `module` that it does not depend on stop training.

    The module runs on torch's meta device, where tensors have shapes and no values. A network that cannot do that runs
    once as it is, and keeps all its parameters in training.

    Raises:
        UserError: it does not take such an input.
    """
    training = module.training
    module.eval()
    try:
        probe = _Probe(module, encode)
        hollow = {
            name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
            for name, tensor in (*probe.named_parameters(), *probe.named_buffers())
        }
        try:
            with torch.enable_grad():
                answer = torch.func.functional_call(probe, hollow, (torch.empty(shape, device="meta"),))
                answer.sum().backward()
            idle = {name for name, tensor in hollow.items() if tensor.requires_grad and tensor.grad is None}
        except _FAILURES:
            with torch.no_grad():
                answer, idle = encode(torch.zeros(shape)), set()
    except _FAILURES as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the network takes no input {shape[1:]} ({type(error).__name__}: {reason})",
            "Give the size, and the number of frames, that it is made for",
        ) from None
    finally:
        module.train(training)
    for name, parameter in probe.named_parameters():
        if name in idle:
            parameter.requires_grad_(False)
    return answer.shape


class _Probe(nn.Module):
    def __init__(self, module: nn.Module, encode: Callable[[Tensor], Tensor]):
        super().__init__()
        self.module, self.encode = module, encode

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)
