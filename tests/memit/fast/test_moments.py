"""Sums of k k^T: triangles, commits, snapshots, and going on from a kept state."""

import pytest
import torch

from kbsync.memit.fast import moments as moments_module
from kbsync.memit.fast.moments import FLOAT64_DEVICES, LayerSum, MomentSums, pack_triangle, unpack_triangle


def keys(rows: int, m: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, m, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("m", [1, 2, 7, 300])
def test_a_triangle_packed_and_unpacked_is_the_matrix(m: int) -> None:
    K = keys(5, m).double()
    C = K.T @ K
    packed = pack_triangle(C)
    assert packed.shape == (m * (m + 1) // 2,)
    assert torch.equal(unpack_triangle(packed), C)


@pytest.mark.parametrize("m", [5, 256, 600])  # one block; just one; two whole and a short one
def test_a_layer_sum_is_the_product_of_all_keys(m: int) -> None:
    layer_sum = LayerSum(m, 1)
    layer_sum.see(keys(6, m).view(2, 3, m))
    layer_sum.see(keys(4, m, seed=1))
    layer_sum.commit()
    layer_sum.see(keys(4, m, seed=2))
    layer_sum.drop()
    K = torch.cat([keys(6, m), keys(4, m, seed=1)]).double()
    assert layer_sum.total is not None
    torch.testing.assert_close(unpack_triangle(pack_triangle(layer_sum.total)), K.T @ K)
    V = keys(m, 3, seed=3).double()
    torch.testing.assert_close(layer_sum.times(V), K.T @ K @ V)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_sums_are_folded_to_nearly_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accelerator's way, on the CPU."""
    K, plain, folded = keys(400, 300).to(dtype), LayerSum(300, 1), LayerSum(300, 1)
    plain.see(K)
    plain.commit()
    monkeypatch.setattr(moments_module, "FLOAT64_DEVICES", FLOAT64_DEVICES - {"cpu"})
    for part in K.split(50):
        folded.see(part)
        folded.commit()
        folded.see(part)
        folded.drop()
    assert plain.total is not None
    assert folded.total is not None
    error = pack_triangle(folded.total - plain.total).norm() / pack_triangle(plain.total).norm()
    assert float(error) < 1e-6


def filled(commits: int, m: int = 40, sums: MomentSums | None = None) -> MomentSums:
    sums = sums or MomentSums({3: m, 5: m})
    for _ in range(commits):
        for layer in (3, 5):
            sums.sums[layer].see(keys(20, m, seed=100 * layer + sums.commits))
        sums.commit(2, 20)
    return sums


@pytest.mark.parametrize("commits", [2, 8, 40])
def test_the_change_since_half_is_near_the_true_one(commits: int) -> None:
    whole, half = filled(commits, m=400), filled(commits // 2, m=400)
    for layer in (3, 5):
        C, before = (unpack_triangle(sums.covariance(layer)) for sums in (whole, half))
        true = float((C - before).norm() / C.norm())
        assert whole.change[layer] == pytest.approx(true, rel=0.15)


def test_there_is_no_change_to_tell_before_a_half() -> None:
    assert filled(1).change == {}
    assert filled(2).change.keys() == {3, 5}


def test_snapshots_stay_few() -> None:
    sums = filled(200)
    assert 8 <= len(sums.snapshots) <= 16
    assert min(abs(2 * tokens - sums.tokens) for tokens, _ in sums.snapshots) <= sums.tokens / 8


def test_going_on_from_a_kept_state_gives_the_same_to_the_last_bit() -> None:
    whole = filled(45)
    begun = filled(21)
    restored = MomentSums({3: 40, 5: 40})
    restored.restore({name: tensor.clone() for name, tensor in begun.tensors().items()})
    filled(24, sums=restored)
    assert (restored.rows, restored.tokens, restored.change) == (whole.rows, whole.tokens, whole.change)
    for layer in (3, 5):
        assert torch.equal(restored.covariance(layer), whole.covariance(layer))
