"""Where and how exactly a network computes: device, precision, and the processes that torchrun starts."""

import ctypes
import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from imaging.console import UsageError, UserError


def choose_device(cpu: bool = False) -> torch.device:
    """CUDA if there is one, then Apple's MPS, then the CPU; the CPU at once if asked for.

    Under torchrun each process has a GPU of its own. Raises UsageError where there are too few.
    """
    torch.backends.cudnn.allow_tf32 = False  # or NVIDIA's GPUs would give what we call float32 ten bits, not 23
    if not cpu and torch.cuda.is_available():
        number = int(os.environ.get("LOCAL_RANK", 0))
        if number >= torch.cuda.device_count():
            raise UsageError(f"--nproc-per-node: is more than the {torch.cuda.device_count()} GPUs of this machine")
        return torch.device("cuda", number)
    if not cpu and "LOCAL_RANK" not in os.environ and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def bound_memory() -> None:
    """Call this before the first convolution where pictures of many sizes come: what is kept for each is then little.

    oneDNN compiles kernels for every size and keeps the last 1024.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def release_memory() -> None:
    """Hand freed memory back to the system.

    glibc keeps it in pieces between what is still in use, in more and more of them when the sizes vary.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries do not keep it
            ctypes.CDLL(None).malloc_trim(0)


AnyModule = TypeVar("AnyModule", bound=nn.Module)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, device: torch.device) -> str:
    """fp32, bf16 or fp16: what `--precision` names, or for "auto" the fastest that does not cost quality.

    Half precision halves the time on processors that compute with it, and takes several times longer on others.
    Deep networks lose less than 0.01 dB by it, and so does SRCNN, which keeps to float32 where it matters.
    Raises UsageError for fp16 on a CPU, which has no use for it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: is for GPUs; bf16 is what some CPUs have")
    if wanted != "auto":
        return wanted
    if device.type not in ("cpu", "cuda"):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device):
    """A context in which convolutions compute with this precision; weights and what must be exact stay float32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")


def channels_last(module: AnyModule, device) -> AnyModule:
    """A network on its device, its weights in the order in which convolutions are fastest."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in PyTorch's stubs


# ---------------------------------------------------------------------------------------------
# Several processes, which torchrun starts
# ---------------------------------------------------------------------------------------------


# In an update all processes wait for each other; one that has not come by then is frozen, and the run ends.
TIMEOUT = timedelta(minutes=5)
# Until the first has measured, or another has read its pictures.
PATIENCE = timedelta(hours=12)
_patient: Any = None  # the group of all processes that waits so long


@contextmanager
def joined_processes(device: torch.device):
    """Join the processes that torchrun has started, if it has; of what they tell, only the first is heard."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    global _patient
    _patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    rank, size = rank_and_size()
    try:
        with open(os.devnull, "w") as nowhere, ExitStack() as stack:
            if rank:
                stack.enter_context(redirect_stderr(nowhere))
                stack.enter_context(redirect_stdout(nowhere))
            yield
    except UserError as error:
        if rank == 0:
            raise
        raise SystemExit(error.exit_code) from None  # the first tells it
    except RuntimeError as error:  # another process is gone, above all
        raise UserError(
            f"process {rank} of {size}: another one has ended, or has not answered for {TIMEOUT.total_seconds():.0f} "
            f"seconds; what was saved stays, and the same command goes on ({str(error).splitlines()[0]})"
        ) from error
    finally:
        distributed.destroy_process_group()


def run_on_first(make):
    """Call `make()` in the first process, and give what it gives to all of them; its UserError too."""
    rank, size = rank_and_size()
    if size == 1:
        return make()
    box = [None, None]
    if rank == 0:
        try:
            box[0] = make()
        except UserError as error:
            box[1] = error
    distributed.broadcast_object_list(box, group=_patient)
    if box[1]:
        raise box[1]
    return box[0]


def gathered(value) -> list:
    """What each process has in the place of `value`, in all of them."""
    size = rank_and_size()[1]
    if size == 1:
        return [value]
    values = [None] * size
    distributed.all_gather_object(values, value, group=_patient)
    return values


def wait_for_first() -> None:
    """Under torchrun, wait until all processes are here."""
    if rank_and_size()[1] > 1:
        distributed.barrier(group=_patient)


def local_rank_and_size() -> tuple[int, int]:
    """The number of this process on its machine, and how many are there."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def rank_and_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many torchrun has started."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def mean_over_processes(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each figure's mean over all processes of torchrun, which must have the same ones."""
    size = rank_and_size()[1]
    if size == 1:
        return figures
    values = torch.tensor(list(figures.values()), device=device)
    distributed.all_reduce(values)
    return dict(zip(figures, (values / size).tolist(), strict=True))


def data_parallel(module: nn.Module, device) -> nn.Module:
    """Under torchrun, the module with its gradients averaged over all processes; else itself."""
    if rank_and_size()[1] == 1:
        return module
    devices = [device] if torch.device(device).type == "cuda" else None
    # Every process keeps its own statistics of batch norm, as it sees only its share.
    return DistributedDataParallel(module, device_ids=devices, forward_sync_buffers=False)
