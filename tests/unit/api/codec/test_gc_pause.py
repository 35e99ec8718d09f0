"""The collector of cycles beside large requests."""

import gc

import pytest

from lambda_serving.api.codec import Collector

_LARGE, _SMALL = bytes(2**18), b"{}"


def test_the_collector_rests_until_the_last_large_text_is_read() -> None:
    collector = Collector()
    with collector.off_for(_SMALL):
        assert gc.isenabled()
    with collector.off_for(_LARGE):
        assert not gc.isenabled()
        with collector.off_for(_LARGE):
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_goes_on_after_a_text_that_is_wrong() -> None:
    collector = Collector()
    with pytest.raises(ValueError, match="wrong"), collector.off_for(_LARGE):
        int("wrong")
    assert gc.isenabled()
