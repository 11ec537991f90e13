import numpy as np
import pytest

from bestfor.errors import InputError
from support import later
from support.backbones import RAGGED, adapter, only, packs_of, start_of

passes = later("bestfor.lm.passes", "torch")
torch = later("torch")


FAULTS = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4294967296 bytes."),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    lambda: MemoryError(),
]


@pytest.fixture
def shrunk(monkeypatch):
    """Makes a model refuse passes of more tokens, cache included, than its memory holds."""
    handles = []

    def shrink(backbone, most, fault):
        assert backbone.caches == backbone.packs
        sizes = []

        def check(module, args, kwargs):
            cache = kwargs.get("past_key_values")
            rows, width = kwargs["input_ids"].shape
            sizes.append(rows * (width + (0 if cache is None else cache.get_seq_length())))
            if sizes[-1] > most:
                raise fault

        handles.append(backbone.model.register_forward_pre_hook(check, with_kwargs=True))
        return sizes

    yield shrink
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("fault", FAULTS, ids=["cuda", "allocator", "processor", "cublas", "memory"])
def test_what_does_not_fit_in_memory_goes_in_halves(backbones, shrunk, fault):
    backbone = backbones("qwen2")
    packs = packs_of([(6, [5, 4, 6]), (6, [7, 7]), (6, [3]), (5, [2] * 8)])
    adapters = [adapter(backbone.model, "qwen2", seed) for seed in range(4)]
    expected = passes.states_of(backbone, packs, adapters, tokens=10_000)
    sizes, told = shrunk(backbone, 16, fault()), []
    found = passes.states_of(backbone, packs, adapters, tokens=10_000, note=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told[0] == "A batch of 14 texts (84 tokens) did not fit in memory and goes in halves."
    # what is as large as what did not fit is not tried again
    failed = [size for size in sizes if size > 16]
    assert failed == sorted(set(failed), reverse=True)
    assert len(told) == len(failed)


@pytest.mark.parametrize("name", ["mistral", "bert"])
def test_rows_that_do_not_fit_in_memory_go_in_halves(backbones, shrunk, name):
    backbone = backbones(name)
    packs = packs_of(RAGGED)
    expected = passes.states_of(backbone, packs, [{}] * 5, tokens=10_000)
    shrunk(backbone, 25, FAULTS[0]())
    told = []
    found = passes.states_of(backbone, packs, [{}] * 5, tokens=10_000, note=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told


@pytest.mark.parametrize("way", ["behind", "repeated"])
def test_passes_behind_a_cache_get_shorter(backbones, shrunk, monkeypatch, way):
    backbone = backbones("qwen2")
    packs = packs_of([(20, [4] * 20)])
    expected = passes.states_of(backbone, packs, [{}], tokens=10_000)
    start_of(monkeypatch, 100.0)
    only(monkeypatch, way)
    (batch,) = passes.plan(backbone, packs, 480)
    sizes, told = shrunk(backbone, 24, FAULTS[0]()), []
    assert batch.way == way
    found = passes.states_of(backbone, packs, [{}], tokens=480, note=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told
    assert max(size for size in sizes if size <= 24) == 24


def test_a_pair_that_memory_does_not_hold_is_one_line(backbones, shrunk):
    backbone = backbones("qwen2")
    shrunk(backbone, 10, FAULTS[0]())
    with pytest.raises(InputError, match="no memory for a text of 7 tokens behind a prompt of 6") as caught:
        passes.states_of(backbone, packs_of([(6, [2, 7])]), [{}], tokens=10_000)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory(backbones, shrunk):
    backbone = backbones("qwen2")
    shrunk(backbone, 10, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        passes.states_of(backbone, packs_of([(6, [2, 7])]), [{}], tokens=10_000)
