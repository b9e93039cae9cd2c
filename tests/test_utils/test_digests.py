"""Digests of sources."""

from mmrecast.utils.digests import digest_sources


def test_every_file_of_a_package_counts(tmp_path, monkeypatch):
    (tmp_path / 'bag' / 'inner').mkdir(parents=True)
    (tmp_path / 'bag' / '__init__.py').write_text('')
    (tmp_path / 'bag' / 'inner' / 'part.py').write_text('a = 1')
    (tmp_path / 'single_one.py').write_text('b = 1')
    monkeypatch.syspath_prepend(tmp_path)
    before = [digest_sources(name) for name in ('bag', 'single_one')]
    assert None not in before and [digest_sources(name) for name in ('bag', 'single_one')] == before
    (tmp_path / 'bag' / 'inner' / 'part.py').write_text('a = 2')
    assert digest_sources('bag') != before[0] and digest_sources('single_one') == before[1]
    (tmp_path / 'single_one.py').write_text('b = 2')
    assert digest_sources('single_one') != before[1]


def test_where_there_is_no_source():
    assert digest_sources('not_there_at_all') is None and digest_sources('not.there') is None
