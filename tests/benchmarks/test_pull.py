"""The benchmark of a pull: both ways are over the same pages, and all facts arrive."""

import pytest

from kbsync.benchmarks import pull
from kbsync.benchmarks.pull import bench_pull, pull_view
from kbsync.sources import paging
from kbsync.sync.home import Progress


def test_both_ways_take_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    bare = pull._bare

    def noting(url: str, queries: list[str], progress: Progress) -> float:
        sent.extend(queries)
        return bare(url, queries, progress)

    monkeypatch.setattr(pull, "_bare", noting)
    monkeypatch.setattr(paging, "PAGE", 20)
    done = bench_pull(200)
    assert done["facts"] == 200
    assert done["pages"] == len(set(sent)) == len(sent) / pull.ROUNDS
    assert sum("ORDER BY ?subject" in text for text in set(sent)) == 5 * 3  # 40 subjects: two pages, and the end
    assert done["ratio"] == pytest.approx(done["kbsync"] / done["bare"])
    assert len(list(pull_view(done))) == 2
