"""The collector of cycles beside large requests."""

import gc

import pytest

from lambda_serving.api.codec import Collector


def test_the_collector_rests_until_the_last_large_text_is_read() -> None:
    collector = Collector()
    with collector.off():
        assert not gc.isenabled()
        with collector.off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_goes_on_after_a_text_that_is_wrong() -> None:
    collector = Collector()
    with pytest.raises(ValueError, match="wrong"), collector.off():
        int("wrong")
    assert gc.isenabled()
