import os

from deblur_jax.cli.cache import prune


def test_what_was_not_read_for_longest_goes_first(tmp_path):
    for n in range(10):
        (tmp_path / str(n)).write_bytes(bytes(100))
        os.utime(tmp_path / str(n), (10 - n, 0))  # 9 was read longest ago
    prune(tmp_path, 1000)
    assert len(list(tmp_path.iterdir())) == 10
    prune(tmp_path, 999)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    prune(tmp_path / "nowhere", 1)
