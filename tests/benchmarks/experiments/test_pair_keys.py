import shutil

from irvis.benchmarks.experiments.pair_keys import digest_pairs, key_of
from irvis.runtime.pairs import pairs_of


def test_a_pair_is_known_by_its_name_and_content_wherever_it_stands(samples, tmp_path):
    pairs = pairs_of(samples)
    shutil.copytree(samples, tmp_path / "moved")
    assert [*map(key_of, pairs_of(tmp_path / "moved"))] == [*map(key_of, pairs)]
    assert digest_pairs(pairs_of(tmp_path / "moved")) == digest_pairs(pairs)


def test_other_content_of_the_same_size_another_name_and_fewer_pairs_have_another_digest(samples, tmp_path):
    pairs = pairs_of(samples)
    shutil.copytree(samples, tmp_path / "changed")
    changed = pairs_of(tmp_path / "changed")
    for path in changed[0][1:]:
        before = digest_pairs(changed)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert digest_pairs(changed) != before
    renamed = [pairs[0]._replace(name="other"), *pairs[1:]]
    assert len({digest_pairs(some) for some in (pairs, changed, renamed, pairs[1:])}) == 4
